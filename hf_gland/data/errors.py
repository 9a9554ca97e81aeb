"""The error a data source or builder raises when what it was given is at fault."""


class DatasetError(ValueError):
    """The data cannot be used as it is; the message names the file and the remedy."""
