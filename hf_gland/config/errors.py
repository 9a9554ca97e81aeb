"""What is wrong with a setting."""

from hf_gland.errors import HfGlandError


class ConfigError(HfGlandError):
    """A setting is unknown or out of range; the message names it and the remedy."""
