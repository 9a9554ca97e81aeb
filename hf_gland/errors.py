"""The base class of every error whose message is for the user, and those that several parts raise."""


class HfGlandError(ValueError):
    """Something cannot be done as asked; the message names what (a file, a setting) and the remedy."""


class ModelError(HfGlandError):
    """A model cannot be loaded, or gives no probabilities; the message names the folder or repository and the remedy."""


class DatasetError(HfGlandError):
    """The data cannot be used as it is; the message names the file and the remedy."""


class ImageError(HfGlandError):
    """A picture cannot be used; the message names it and the remedy."""


class PixelSizeError(HfGlandError):
    """A pixel size is missing or implausible; the message says what to give instead."""
