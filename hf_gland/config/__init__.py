"""Every setting of a training run, the recipes and method variants that ship, and how all of them are read."""

from hf_gland.config.settings import (
    ConfigError,
    TrainConfig,
    add_settings,
    config_from_arguments,
    make_config,
    read_config_file,
    recipe_name,
    recipe_names,
)
from hf_gland.config.variants import Variant, all_variants

__all__ = ["ConfigError", "TrainConfig", "Variant", "add_settings", "all_variants", "config_from_arguments", "make_config",
           "read_config_file", "recipe_name", "recipe_names"]
