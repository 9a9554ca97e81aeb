"""Settings from files: TOML or JSON of the user's, recipes that ship, and what a run saved."""

import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from hf_gland.config.errors import ConfigError
from hf_gland.config.making import make_config
from hf_gland.config.settings import TrainConfig, by_short_name

SAVED_CONFIG = "training_config.json"  # in checkpoints and model folders; holds every setting


def recipe_names() -> list[str]:
    """Names of the recipes that ship with the package."""
    return sorted(p.name.removesuffix(".toml") for p in resources.files("hf_gland.recipes").iterdir()
                  if p.name.endswith(".toml"))


def recipe_about(name: str) -> str:
    """What a shipped recipe is for: the first sentence of its comment."""
    text = (resources.files("hf_gland.recipes") / f"{name}.toml").read_text("utf-8")
    comment = " ".join(line[1:].strip() for line in text.splitlines() if line.startswith("#"))
    return re.split(r"(?<=\.) (?=[A-Z])", comment)[0]


def recipe_name(source: str | None) -> str:
    """What records call the settings that a run started from: a shipped recipe, or a file of the user's."""
    if not source:
        return "none"
    path = Path(source)
    return path.name if path.suffix and path.stem in (*recipe_names(), "none") else path.stem


def read_config_file(source: str | Path) -> dict[str, Any]:
    """The settings in a .toml or .json file, or in a shipped recipe by name, by short name; raises ConfigError."""
    path = Path(source)
    if not path.suffix and str(source) in recipe_names():
        return by_short_name(tomllib.loads((resources.files("hf_gland.recipes") / f"{source}.toml").read_text("utf-8")))
    if path.suffix not in (".toml", ".json"):
        raise ConfigError(f"{source}: not a .toml or .json file, nor one of the recipes {', '.join(recipe_names())}")
    try:
        text = path.read_text("utf-8")
        values = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must hold one object of settings, such as {{\"steps\": 600}}")
    if path.name == SAVED_CONFIG:
        values.pop("variant", None)  # the name of that run, not a setting
    try:
        return by_short_name(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def read_saved_config(folder: Path) -> TrainConfig:
    """The settings that a run left in a checkpoint or a model folder, of this version or with all names short, as it was
    before there were sections. Raises ConfigError."""
    return make_config(saved=read_config_file(folder / SAVED_CONFIG))
