"""Every setting of a training run, the recipes and method variants that ship, and how all of them are read."""

from hf_gland.config.command_line import Parser, add_settings, config_from_arguments, listed
from hf_gland.config.errors import ConfigError
from hf_gland.config.files import read_config_file, read_saved_config, recipe_name, recipe_names
from hf_gland.config.making import make_config
from hf_gland.config.sections import Augment, Data, Method, Model, Optim, Run
from hf_gland.config.settings import TrainConfig, all_settings
from hf_gland.config.variants import Variant, all_variants

__all__ = ["Augment", "ConfigError", "Data", "Method", "Model", "Optim", "Parser", "Run", "TrainConfig", "Variant",
           "add_settings", "all_settings", "all_variants", "config_from_arguments", "listed", "make_config",
           "read_config_file", "read_saved_config", "recipe_name", "recipe_names"]
