"""What a gland model knows of itself, in its config.json: its classes, pixel sizes, and its confidence's temperature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig

from hf_gland.errors import HfGlandError, ModelError, PixelSizeError
from hf_gland.imaging.pixel_size import check_mpp

MPP_KEY = "mpp"  # µm per pixel it was trained at, null where that is unknown; a model from elsewhere lacks the key
# True: after the logits of the classes comes that of a gland's border, see model.border; it is no class.
BORDER_KEY = "gland_border"
APPEARANCE_KEY = "training_appearance"  # what its training images look like, see imaging.appearance
MISSING_MPP_KEY = "missing_mpp"  # µm per pixel that training assumed of images that state none
# Not plain "temperature": transformers takes that for text generation and drops it from a config.
TEMPERATURE_KEY = "confidence_temperature"
PLAUSIBLE_TEMPERATURE = (0.01, 100.0)


class ClassNamesError(HfGlandError):
    """A model and a dataset disagree about their classes; the message names both lists."""


@dataclass(frozen=True)
class ModelFacts:
    """`class_names`: background first. `mpp`: µm per pixel at which it sees pictures; `missing_mpp`: what training assumed
    of images that state none; None where unknown."""

    class_names: tuple[str, ...]
    mpp: float | None
    missing_mpp: float | None
    temperature: float


def model_facts(config: PretrainedConfig, where: str) -> ModelFacts:
    """The facts in a model's config. ModelError for one that is not of glands, or with a fact that cannot be."""
    names = class_names_of(config)
    if "background" in (name.lower() for name in names[1:]):
        raise ModelError(f"{where}: has the classes {_listed(names)}; background must be class 0, or glands and stroma "
                         "would be taken for each other. Correct id2label in its config.json, or train it on masks where "
                         "background is 0")
    ours = hasattr(config, MPP_KEY)
    if len(names) < 2 or not (ours or (names[0].lower() == "background" and any("gland" in n.lower() for n in names))):
        raise ModelError(f"{where}: not a model of glands: its classes are {_listed(names)}, and its config.json has no "
                         f'"{MPP_KEY}". If its class 0 is background and all others are kinds of glands, set "{MPP_KEY}" '
                         "there to the µm per pixel of its training images, or to null")
    temperature = _number(config, TEMPERATURE_KEY, where)
    if temperature is not None and not PLAUSIBLE_TEMPERATURE[0] <= temperature <= PLAUSIBLE_TEMPERATURE[1]:
        raise ModelError(f"{where}: {TEMPERATURE_KEY} in config.json is {temperature:g}, and no calibration gives that")
    return ModelFacts(tuple(names), _pixel_size(config, MPP_KEY, where), _pixel_size(config, MISSING_MPP_KEY, where),
                      temperature or 1.0)


def class_names_of(config: PretrainedConfig) -> list[str]:
    """The classes of a network, by their number."""
    names = [name for _, name in sorted((int(i), str(name)) for i, name in (config.id2label or {}).items())]
    return names[:-1] if has_border(config) else names


def has_border(config: PretrainedConfig | None) -> bool:
    """Whether a network's last output is the border of glands."""
    return getattr(config, BORDER_KEY, False) is True


def check_class_names(model: Sequence[str], dataset: Sequence[str], where: str) -> None:
    """Raise ClassNamesError unless a model and a dataset have the same classes in the same order. `where` names both."""
    if list(model) != list(dataset):
        raise ClassNamesError(f"{where}: the model's classes are {', '.join(model)}, the dataset's {', '.join(dataset)}: "
                              "the numbers in masks would mean different things. Build the dataset again with the model's "
                              "classes in their order (--class-names, or --class NAME=1 NAME=2 …), or rename the classes "
                              "where only the names differ (id2label in the model's config.json)")


def _pixel_size(config: PretrainedConfig, key: str, where: str) -> float | None:
    value = _number(config, key, where)
    try:
        return None if value is None else check_mpp(value, f"{where}, {key} in config.json")
    except PixelSizeError as error:
        raise ModelError(str(error)) from error


def _number(config: Any, key: str, where: str) -> float | None:
    value = getattr(config, key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
        raise ModelError(f"{where}: {key} in config.json must be a positive number or null, got {value!r}")
    return float(value)


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" … ({len(names)} in all)" if len(names) > most else "")
