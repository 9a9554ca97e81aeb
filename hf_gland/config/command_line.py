"""Settings on the command line: --threshold_start, --threshold-start or --method.threshold.start."""

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_gland.config.errors import ConfigError
from hf_gland.config.files import SAVED_CONFIG, read_config_file, recipe_about, recipe_names
from hf_gland.config.making import make_config
from hf_gland.config.settings import Setting, TrainConfig, all_settings
from hf_gland.config.variants import all_variants, trained_variant, variant_name


class Parser(argparse.ArgumentParser):
    """A parser whose options may be written with dashes or with underscores."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        words = [_with_dashes(word) for word in (sys.argv[1:] if args is None else args)]
        return super().parse_known_args(words, namespace)


def _with_dashes(word: str) -> str:
    option, equals, value = word.partition("=")
    return option.replace("_", "-") + equals + value if word.startswith("--") else word


def listed(heading: str, about: Mapping[str, str]) -> str:
    """A line for each name and what it is about, for the end of --help."""
    return f"{heading}:\n" + "".join(f"  {name:<24}{text}\n" for name, text in about.items()).replace("%", "%%")


def add_settings(parser: Parser) -> None:
    """Add --variant and an option per setting, by section; those not given stay absent from the parsed namespace. Recipes
    and variants are explained at the end of --help."""
    parser.add_argument("--variant", metavar="NAME", help="train as this variant of the method, on top of the recipe; they "
                        "are listed below [ours]")
    parser.epilog = "\n".join((listed("recipes", {name: recipe_about(name) for name in recipe_names()}), listed(
        "variants", {name: v.title for name, v in all_variants().items() if not v.weights_of})))
    parser.usage = "%(prog)s [options] [--SETTING VALUE ...]"
    groups: dict[tuple[str, ...], Any] = {}
    for s in all_settings().values():
        if s.path[:-1] not in groups:
            groups[s.path[:-1]] = parser.add_argument_group(f"settings [{'.'.join(s.path[:-1])}]")
        names = [f"--{s.short}", f"--{'.'.join(s.path)}"]
        groups[s.path[:-1]].add_argument(*(_with_dashes(name) for name in names), dest=s.short, default=argparse.SUPPRESS,
                                         help=_help(s), **_how_to_parse(s))


def _help(s: Setting) -> str:
    range_text = f"{s.range}; " if s.range else ""
    return f"{s.about['text']} [{range_text}{s.default}]".replace("%", "%%")


def _how_to_parse(s: Setting) -> dict[str, Any]:
    if s.kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if s.about["choices"]:
        return {"type": s.kind, "choices": s.about["choices"]}
    return {"type": s.kind, "metavar": {int: "N", float: "X", str: "TEXT"}[s.kind]}


def config_from_arguments(arguments: argparse.Namespace, config_file: str | None) -> TrainConfig:
    """Combine a config file or recipe (may be None), a variant and the settings parsed by `add_settings`; the later ones
    win. Raises ConfigError."""
    from_file = read_config_file(config_file) if config_file else {}
    variant = trained_variant(arguments.variant) if arguments.variant else None
    given = {name: value for name, value in vars(arguments).items() if name in all_settings()}
    saved = Path(config_file or "").name == SAVED_CONFIG  # holds every setting, those without effect too
    config = make_config({} if saved else from_file, variant.settings if variant else {}, given,
                         saved=from_file if saved else None)
    if variant and (lacking := [name for name in variant.needs if not config.by_short_name()[name]]):
        raise ConfigError(f"variant {variant.name} needs --{lacking[0]}")
    of_methods = {name for v in all_variants().values() for name in v.settings}
    is_recipe = config_file in recipe_names()  # its choices are ours; a file of the user's may make any method of it
    start = {name: s.default for name, s in all_settings().items()} | {
        name: value for name, value in from_file.items() if is_recipe or name not in of_methods}
    return dataclasses.replace(config, variant=variant_name(config.by_short_name(), start, variant.name if variant else ""))
