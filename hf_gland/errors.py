"""The base class of every error whose message is for the user, and the one that data raises."""


class HfGlandError(ValueError):
    """Something cannot be done as asked; the message names what (a file, a setting) and the remedy."""


class DatasetError(HfGlandError):
    """The data cannot be used as it is; the message names the file and the remedy."""
