"""TrainConfig: every setting of a training run, in frozen sections, saved beside each checkpoint.

A setting has its place (method.threshold.start) and a short name (threshold_start); files, the command line and
`make_config` take either, with dashes or underscores. Unknown ones are errors, never ignored, and so is one that can
have no effect beside the others.
"""

import dataclasses
import difflib
import functools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from hf_gland.config.errors import ConfigError
from hf_gland.config.sections import SET, Augment, Conditions, Data, Method, Model, Optim, Run


@dataclass(frozen=True)
class TrainConfig:
    """One training run. Lengths in px are measured at the training pixel size (`data.mpp`)."""

    data: Data = field(default_factory=Data)
    model: Model = field(default_factory=Model)
    method: Method = field(default_factory=Method)
    optim: Optim = field(default_factory=Optim)
    augment: Augment = field(default_factory=Augment)
    run: Run = field(default_factory=Run)
    variant: str = field(default="ours", compare=False)  # what the run is called in records, see variants.variant_name

    def __post_init__(self) -> None:
        values = self.by_short_name()
        for s in all_settings().values():
            s.check(values[s.short])
        for low, high in (("threshold_end", "threshold_start"), ("adaptive_share_start", "adaptive_share_end"),
                          ("scale_min", "scale_max")):
            if values[low] > values[high] and not any(all_settings()[name].why_idle(values) for name in (low, high)):
                raise ConfigError(f"{low} must not be above {high}; got {values[low]} and {values[high]}")
        if self.method.threshold.kind == "adaptive" and self.method.refresh.kind == "every_step":
            raise ConfigError("threshold adaptive takes its quantiles from the pseudo-mask bank, which refresh every_step "
                              "does without; choose threshold cosine or linear, or refresh bank")
        if self.data.adapt_dataset and self.method.mode != "refined":
            raise ConfigError("adapt_dataset brings images without labels, which only mode refined learns from")
        self.model_overrides()

    def model_overrides(self) -> dict[str, Any]:
        """`model.kwargs` as a dict; raises ConfigError when it is not a JSON object."""
        try:
            overrides = json.loads(self.model.kwargs or "{}")
        except json.JSONDecodeError as error:
            raise ConfigError(f"model_kwargs is not JSON: {error}") from error
        if not isinstance(overrides, dict):
            raise ConfigError("model_kwargs must be a JSON object, such as '{\"drop_path_rate\": 0.0}'")
        if of_data := sorted({"num_labels", "id2label", "label2id"} & overrides.keys()):
            raise ConfigError(f"model_kwargs cannot set {of_data[0]}: the classes are those of the dataset")
        return overrides

    def by_short_name(self) -> dict[str, Any]:
        """The value of every setting."""
        return {s.short: functools.reduce(getattr, s.path, self) for s in all_settings().values()}

    def changed(self, **values: Any) -> "TrainConfig":
        """A copy with other values, by short name, under the same variant. Raises ConfigError."""
        return build({**self.by_short_name(), **by_short_name(values)}, self.variant)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


@dataclass(frozen=True)
class Setting:
    """One setting: where it stands, its names, its type and default, and what is beside its field in `sections`."""

    path: tuple[str, ...]
    kind: type
    default: Any
    about: Mapping[str, Any]
    only: tuple[tuple[Conditions, ...], ...]  # all of these, of each one

    @property
    def short(self) -> str:
        return self.about["short"] or self.path[-1]

    @property
    def range(self) -> str:
        """In words: "0 to 1", "at least 1", "above 0", or nothing."""
        low, high, above = (self.about[key] for key in ("low", "high", "above"))
        if above is not None:
            return f"above {above}"
        if low is not None:
            return f"at least {low}" if high is None else f"{low} to {high}"
        return ""

    def check(self, value: Any) -> None:
        """Raise ConfigError where a value of the right type is not in the range."""
        low, high, above = (self.about[key] for key in ("low", "high", "above"))
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{self.short} must be a finite number; got {value}")
        if self.about["choices"] and value not in self.about["choices"]:
            raise ConfigError(f"{self.short} must be one of {', '.join(self.about['choices'])}; got {value!r}")
        if ((low is not None and value < low) or (high is not None and value > high)
                or (above is not None and value <= above)):
            raise ConfigError(f"{self.short} must be {self.range}; got {value}")

    def why_idle(self, values: Mapping[str, Any]) -> str:
        """Why it has no effect beside these values (by short name), "" where it has."""
        for alternatives in self.only:
            lacking = [[_in_words(name, allowed) for name, allowed in conditions.items()
                        if not (values[name] if allowed is SET else values[name] in allowed)]
                       for conditions in alternatives]
            if lacking and all(lacking):
                return f"it applies only with {', or '.join(' and '.join(words) for words in lacking)}"
        return ""


def _in_words(name: str, allowed: tuple) -> str:
    if allowed is SET:
        return f"{name} set"
    return f"{name} {' or '.join({True: 'on', False: 'off'}.get(value, value) for value in allowed)}"


@functools.cache
def all_settings() -> dict[str, Setting]:
    """Every setting by its short name, in the order of the sections."""
    return {s.short: s for s in _settings_of(TrainConfig, (), ())}


def _settings_of(kind: type, path: tuple[str, ...], only: tuple) -> Iterable[Setting]:
    types = get_type_hints(kind)
    for f in dataclasses.fields(kind):
        here = (*only, f.metadata["only"]) if "only" in f.metadata else only
        if dataclasses.is_dataclass(types[f.name]):
            yield from _settings_of(types[f.name], (*path, f.name), here)
        elif path:
            yield Setting((*path, f.name), types[f.name], f.default, f.metadata, here)


def by_short_name(values: Mapping[str, Any], section: tuple[str, ...] = ()) -> dict[str, Any]:
    """Settings as a user may write them (nested, dotted or short names, dashes or underscores), by short name.

    Raises ConfigError for an unknown setting, one that is given twice, and a value of the wrong type.
    """
    known = {name: s for s in all_settings().values() for name in (".".join(s.path), *(() if section else (s.short,)))}
    sections = {s.path[:depth] for s in all_settings().values() for depth in range(1, len(s.path))}
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = ".".join([*section, key.replace("-", "_")])
        if isinstance(value, Mapping) and tuple(name.split(".")) in sections:
            inner = by_short_name(value, tuple(name.split(".")))
        elif name in known:
            inner = {known[name].short: _typed(known[name], value)}
        else:
            own = all_settings().get(name.split(".")[-1])  # its place may be another
            near = [".".join(own.path)] if own else difflib.get_close_matches(name, known, n=1)
            raise ConfigError(f"unknown setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else
                              "; see --help for all settings"))
        if twice := found.keys() & inner.keys():
            raise ConfigError(f"{', '.join(sorted(twice))} is given twice, by its short name and in its section")
        found |= inner
    return found


def _typed(s: Setting, value: Any) -> Any:
    if s.kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError as error:
            raise ConfigError(f"{s.short} must be a finite number; got one of {len(str(value))} digits") from error
    if not isinstance(value, s.kind) or (isinstance(value, bool) and s.kind is not bool):
        raise ConfigError(f"{s.short} must be of type {s.kind.__name__}; got {value!r}")
    return value


def build(values: Mapping[str, Any], variant: str) -> TrainConfig:
    """The TrainConfig with these values, every setting by its short name. Raises ConfigError for one out of range."""
    def part(kind: type, path: tuple[str, ...]) -> Any:
        types, short = get_type_hints(kind), {s.path: s.short for s in all_settings().values()}
        return kind(**{f.name: part(types[f.name], (*path, f.name)) if dataclasses.is_dataclass(types[f.name])
                       else values[short[(*path, f.name)]] for f in dataclasses.fields(kind) if f.name != "variant"})

    return dataclasses.replace(part(TrainConfig, ()), variant=variant)
