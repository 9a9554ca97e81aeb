"""The variants of the method that are compared: one file each in hf_gland/recipes/variants.

    title = "the student labels for itself"    what tells it from "ours"
    place = 70                                 rows of tables come in this order
    groups = ["ablations"]                     tables and figures that show it
    paper = "…"                                name of the published figure beside it (hub_cards/references.json)
    needs = ["adapt_dataset"]                  settings without which it is not this variant
    trained_on = "cam"                         scripts/ablate.py makes this dataset for it first
    weights_of = "ours"                        another measurement of that variant's model, not a training
    [settings]                                 what it changes in a recipe
"""

import functools
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from hf_gland.config.errors import ConfigError
from hf_gland.config.settings import all_settings, by_short_name

OURS = "ours"
# What is not part of a method: data and network have their own place in a record's name, and `run` says how it is done.
NOT_OF_THE_METHOD = {"dataset", "dataset_config", "dataset_revision", "train_split", "validation_split", "adapt_split",
                     "missing_mpp", "backbone", "seed", "mixed_precision",
                     *(name for name, s in all_settings().items() if s.path[0] == "run")}
# The tables and figures that a variant can be part of (see evaluation/report.py and figures.py).
GROUPS = {"main", "ablations", "annotation", "schedules", "stain", "self_training", "risk_coverage"}
LONGEST_NAME = 80  # characters; record files are named after it


@dataclass(frozen=True)
class Variant:
    """One way of training (or of measuring), as its file says; see the top of this module."""

    name: str
    title: str
    place: int
    groups: tuple[str, ...]
    paper: str = ""
    needs: tuple[str, ...] = ()
    trained_on: str = ""
    weights_of: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


@functools.cache
def all_variants() -> dict[str, Variant]:
    """The variants that ship with the package by name, in the order of their place."""
    found = []
    for path in resources.files("hf_gland.recipes").joinpath("variants").iterdir():
        if path.name.endswith(".toml"):
            found.append(_read(path.name, path.read_text("utf-8")))
    return {v.name: v for v in sorted(found, key=lambda v: v.place)}


def _read(file_name: str, text: str) -> Variant:
    try:
        about = tomllib.loads(text)
        about |= {key: tuple(about[key]) for key in ("groups", "needs") if key in about}
        about["settings"] = by_short_name(about.get("settings", {}))
        variant = Variant(name=file_name.removesuffix(".toml"), **about)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"recipes/variants/{file_name}: {error}") from error
    if unknown := set(variant.groups) - GROUPS:
        raise ConfigError(f"recipes/variants/{file_name}: no table is called {', '.join(sorted(unknown))}; groups are "
                          f"{', '.join(sorted(GROUPS))}")
    return variant


def trained_variant(name: str) -> Variant:
    """The variant `name`, which must be one that is trained; raises ConfigError."""
    trained = {n: v for n, v in all_variants().items() if not v.weights_of}
    if name not in trained:
        raise ConfigError(f"unknown variant {name!r}; there are {', '.join(trained)}")
    return trained[name]


def variant_name(final: Mapping[str, Any], start: Mapping[str, Any], chosen: str = "") -> str:
    """What a run is called in records and tables.

    `final`: all its settings; `start`: those of its recipe, without any variant; `chosen`: the variant it was started as
    ("": none). A run that is a variant has its name. One that departs from it says how, such as ours+cutmix=0.2 or
    ours+no-veto, so that its record never takes the place of another method's.
    """
    def departures(variant: Variant) -> dict[str, Any]:
        before = {**start, **variant.settings}
        return {key: value for key, value in final.items()
                if key not in NOT_OF_THE_METHOD and value != before[key] and key not in variant.needs}

    for variant in sorted(all_variants().values(), key=lambda v: v.name != OURS):
        if (not variant.weights_of and not variant.trained_on and chosen in ("", variant.name) and not departures(variant)
                and all(final[key] for key in variant.needs)):
            return variant.name
    base = trained_variant(chosen or OURS)
    changes = departures(base)
    words = [(key if value else f"no-{key}") if isinstance(value, bool) else f"{key}={value}"
             for key, value in changes.items()]
    name = "+".join([base.name, *words])
    if len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(json.dumps(changes, sort_keys=True).encode()).hexdigest()
    return f"{base.name}+{len(words)}-changes-{digest[:8]}"
