"""The record that every reported run leaves behind, a JSON file that says how it was made."""

import json
import math
import os
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hf_gland.errors import HfGlandError
from hf_gland.files import safe_name, write_text_atomically
from hf_gland.metrics.keys import MEASURED, METRICS

# How a measurement may differ from the usual one (the teacher, one view, foreign stains matched, touching glands told apart,
# unsure ones left out, gland ids in the truth), in words for tables.
UNUSUAL = {"student": "student", "flips": "mirrored views averaged", "views": "several views averaged",
           "stain": "foreign stains left as they are", "joined": "touching glands left joined",
           "confidence": "another least confidence of glands",
           "regions": "true glands are connected regions of the masks"}
# What a record shares with all others of the same trained model.
TRAINING_KEYS = ("seed", "data_sha256", "commit", "command", "train_seconds")
HELD_OUT = "-held-out"  # in the names of variants trained without some patients, to watch these


class ResultError(HfGlandError):
    """A result record is incomplete or contradicts itself; the message names the record and the fields."""


@dataclass(frozen=True)
class ResultRecord:
    """One trained model measured on one split.

    `budget`: the fraction (0..1] or count (>= 1) of annotated glands (style `images`: of images), None for a style that
    has no such number. `metrics`: what `SplitEvaluator.compute` returns; shares 0-100, distances in pixels of the
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
        number = f"{self.budget}-{'images' if self.style == 'images' else 'per-image'}"
        budget = "any" if self.budget is None else number if counted else f"{self.budget:g}"
        parts = (self.dataset, self.train_split, self.test_split, self.variant, self.recipe,
                 *([f"{self.mpp:g}um"] if self.mpp else []), self.backbone, self.style, self.background, budget,
                 f"seed{self.seed}")
        return "_".join(map(safe_name, parts)) + ".json"

    @property
    def asked_for(self) -> str:
        """The budget in words: "1 per image" (glands), "20 %", "10 % of the images", "20 % of the area"; "" for a style that
        has none."""
        if self.budget is None:
            return ""
        share = {"images": " of the images", "roi": " of the area"}.get(self.style, "")
        number = "images" if self.style == "images" else "per image"
        return f"{self.budget} {number}" if isinstance(self.budget, int) else f"{100 * self.budget:g} %{share}"

    @property
    def stroma(self) -> str:
        """How stroma was labelled, in words: `background`, but for a style that has no such choice."""
        return "wholly" if self.style == "roi" else self.background

    @property
    def on_usual_budget(self) -> bool:
        """Whether a fifth of the glands of each image was outlined, whatever was labelled of the stroma."""
        return (self.style, self.budget) == ("glands", 0.2)

    @property
    def mpp(self) -> float | None:
        """µm per pixel that it was trained at, None: the images' own pixels, or not noted."""
        return self.extra.get("mpp") or None

    @property
    def fold(self) -> tuple[int, int] | None:
        """(fold, of how many) where it was measured on patients held out by `build_dataset --fold`."""
        found = re.fullmatch(r"test_fold(\d+)of(\d+)", self.test_split)
        return None if found is None else (int(found[1]), int(found[2]))

    @property
    def elsewhere(self) -> bool:
        """Whether it was measured on another dataset than it was trained on, which `test_split` names behind an @."""
        return self.extra.get("test_dataset", self.dataset).lower() != self.dataset

    @property
    def on_usual_images(self) -> bool:
        """Whether it was measured on a split of the training's dataset itself, neither restained nor a fold."""
        return "@" not in self.test_split and self.fold is None

    @property
    def unusual(self) -> tuple[str, ...]:
        """The keys of UNUSUAL that apply to this measurement."""
        tiling, post = self.extra.get("tiling", self.extra), self.extra.get("post_processing", self.extra)
        applies = {"student": self.is_of_student, "flips": tiling.get("flips", False),
                   "views": tiling.get("views", 1) > 1,
                   "stain": not tiling.get("match_stain", True),
                   "joined": not post.get("split_touching", True),
                   "confidence": post.get("min_gland_confidence") is not None,
                   "regions": bool(self.metrics.get("images_without_gland_ids"))}
        return tuple(mark for mark, does in applies.items() if does)

    @property
    def is_of_student(self) -> bool:
        """Whether the student was measured, and not the repository's own model, the teacher."""
        return self.extra.get("weights") == "student"

    @property
    def machine(self) -> str:
        """What it was trained on: processor and, where that was noted, precision."""
        return ", ".join(filter(None, (self.hardware, self.extra.get("precision"))))

    def differences(self, other: "ResultRecord") -> list[str]:
        """In what two measurements of one name differ: the trained model, or how it was measured."""
        def about(record: ResultRecord) -> dict[str, Any]:
            values = record.as_dict()
            return {key: values[key] for key in TRAINING_KEYS} | {
                "measured": ", ".join(record.unusual) or "as usual", "temperature": values.get("temperature", 1.0)}

        there = about(other)
        return [f"{key} {there[key]} there, {value} here" for key, value in about(self).items() if there[key] != value]

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
        try:
            json.dumps(self.as_dict(), allow_nan=False)
        except (ValueError, TypeError) as error:
            faults.append(f"it is not plain JSON: {error}")
        if faults:
            raise ResultError(f"{self.name}: " + "; ".join(faults))
        return self

    def check_place(self, folder: str | os.PathLike[str]) -> Path:
        """Where `write` would put it. Raises ResultError if the record of another model or measurement lies there."""
        path = Path(folder) / self.name
        if path.exists() and (differing := self.differences(read_result(path))):
            raise ResultError(f"{path}: is the record of another run ({'; '.join(differing)}). Give this one a name of its "
                              "own with --variant, keep it in another folder, or pass --overwrite to replace that one")
        return path

    def write(self, folder: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Validate and write the record as `folder/<name>`, whole or not at all; returns the path.

        Unless `overwrite`, it takes the place of a record of the same model, measured the same way, only (ResultError).
        """
        self.validate()
        path = Path(folder) / self.name if overwrite else self.check_place(folder)
        text = json.dumps(self.as_dict(), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        return write_text_atomically(path, text)


def read_json(path: str | os.PathLike[str]) -> Any:
    """A JSON file in the strict sense, without NaN and Infinity, which no other reader takes; raises ValueError, OSError."""
    def refused(word: str) -> None:
        raise ValueError(f"{path}: holds {word}, which is no JSON; the figures are broken, make the file again")

    return json.loads(Path(path).read_text("utf-8"), parse_constant=refused)


def read_result(path: str | os.PathLike[str]) -> ResultRecord:
    """Read and validate one record; raises ResultError naming the file."""
    try:
        values = read_json(path)
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
    return faults
