"""The record that every reported run leaves behind, a JSON file that says how it was made."""

import json
import math
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_gland.errors import HfGlandError
from hf_gland.metrics.keys import MEASURED, METRICS

# how a measurement may depart from the usual one, and how that is told
UNUSUAL = {"student": "student", "flips": "mirrored views averaged", "joined": "touching glands left joined"}
HELD_OUT = "-held-out"  # in the names of variants trained without some patients, to watch these


class ResultError(HfGlandError):
    """A result record is incomplete or contradicts itself; the message names the record and the fields."""


@dataclass(frozen=True)
class ResultRecord:
    """One trained model measured on one split.

    `budget`: the fraction (0..1] or count (>= 1) of annotated glands, None for a style that has no such
    number. `metrics`: what `SplitEvaluator.compute` returns; shares 0-100, distances in pixels of the
    original image, a missing figure None with `<key>_missing` saying why. `train_seconds`: wall-clock.
    `extra`: further keys of the JSON, kept as they are.
    """

    variant: str
    recipe: str
    style: str
    background: str
    budget: float | None
    seed: int
    dataset: str
    train_split: str
    test_split: str
    backbone: str
    command: str
    commit: str
    data_sha256: str
    hardware: str
    train_seconds: float
    metrics: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A file name made of all that tells one run from another: settings, seed and test split."""
        counted = isinstance(self.budget, int)
        budget = "any" if self.budget is None else f"{self.budget}-per-image" if counted else f"{self.budget:g}"
        parts = (self.dataset, self.train_split, self.test_split, self.variant, self.recipe, self.backbone,
                 self.style, self.background, budget, f"seed{self.seed}")
        return "_".join(re.sub(r"[^\w.+-]+", "-", part) for part in parts) + ".json"

    @property
    def unusual(self) -> tuple[str, ...]:
        """How it was measured where not as usual: keys of UNUSUAL."""
        tiling, post = self.extra.get("tiling", self.extra), self.extra.get("post_processing", self.extra)  # older: flat
        departs = {"student": self.extra.get("weights") == "student", "flips": tiling.get("flips", False),
                   "joined": not post.get("split_touching", True)}
        return tuple(mark for mark, is_so in departs.items() if is_so)

    def as_dict(self) -> dict[str, Any]:
        """The record as it stands in the JSON file, `extra` beside the other keys."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"} | self.extra

    def validate(self) -> "ResultRecord":
        """Return self, or raise ResultError with every fault found."""
        faults = [f"{f.name} is empty" for f in fields(self)
                  if f.type is str and not (isinstance(getattr(self, f.name), str) and getattr(self, f.name))]
        if not isinstance(self.seed, int) or self.seed < 0:
            faults.append(f"seed {self.seed!r} is not an integer >= 0")
        if self.budget is not None and not (_is_number(self.budget) and
                                            (0 < self.budget <= 1 or self.budget == int(self.budget) > 0)):
            faults.append(f"budget {self.budget!r} is neither a fraction in 0..1 nor a whole number")
        if not _is_number(self.train_seconds) or self.train_seconds < 0:
            faults.append(f"train_seconds {self.train_seconds!r} is not a duration")
        if not re.fullmatch(r"[0-9a-f]{64}", str(self.data_sha256)):
            faults.append(f"data_sha256 {self.data_sha256!r} is not a SHA-256")
        faults += [f"extra key {key} is a field of the record" for key in self.extra.keys() & {
            f.name for f in fields(self)}]
        faults += _metric_faults(self.metrics)
        if faults:
            raise ResultError(f"{self.name}: " + "; ".join(faults))
        return self

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Validate and write the record as `folder/<name>`, whole or not at all; returns the path."""
        self.validate()
        path = Path(folder) / self.name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        text = json.dumps(self.as_dict(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
        part.write_text(text + "\n", encoding="utf-8")
        os.replace(part, path)
        return path


def read_result(path: str | os.PathLike[str]) -> ResultRecord:
    """Read and validate one record; raises ResultError naming the file."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
        known = {f.name for f in fields(ResultRecord)} - {"extra"}
        lacking = sorted(known - set(values))
        if lacking:
            raise ResultError(f"missing {', '.join(lacking)}")
        extra = {key: value for key, value in values.items() if key not in known}
        return ResultRecord(**{key: values[key] for key in known}, extra=extra).validate()
    except (ValueError, TypeError, AttributeError) as error:
        raise ResultError(f"{path}: not a result record: {error}") from error


def read_results(folder: str | os.PathLike[str]) -> list[ResultRecord]:
    """All records of a folder (`*.json`), in the order of their file names."""
    return [read_result(path) for path in sorted(Path(folder).glob("*.json"))]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _metric_faults(metrics: dict[str, Any]) -> list[str]:
    faults = [f"metric {key} is missing" for key in MEASURED if key not in metrics]
    for key, value in metrics.items():
        if value is None and not metrics.get(f"{key}_missing"):
            faults.append(f"metric {key} is null without a {key}_missing reason")
        if key.endswith("_missing") and _is_number(metrics.get(key.removesuffix("_missing"))):
            faults.append(f"{key} is given for a metric that is there")
        if key in METRICS and value is not None and not (_is_number(value) and value >= 0
                                                         and (METRICS[key].unit != "%" or value <= 100)):
            faults.append(f"metric {key} = {value!r} is not in its range")
    try:
        json.dumps(metrics, allow_nan=False)
    except (ValueError, TypeError) as error:
        faults.append(f"metrics are not plain JSON: {error}")
    return faults
