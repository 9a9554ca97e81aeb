"""Markdown tables from result records alone: mean and spread over seeds, with their units."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from hf_gland.evaluation.records import UNITS, ResultError, ResultRecord

HEADINGS = {"gland_iou": "gland IoU", "gland_dice": "gland Dice", "image_dice": "per-image Dice",
            "object_f1": "object F1", "object_dice": "object Dice", "object_hausdorff": "object Hausdorff",
            "ece": "ECE", "brier": "Brier"}
DECIMALS = {"brier": 3}  # 1 for all others
SETTINGS = ("variant", "recipe", "style", "background", "budget", "dataset", "train_split", "test_split",
            "backbone")


def markdown_table(records: Iterable[ResultRecord], columns: Sequence[str], group_by: Sequence[str]) -> str:
    """A Markdown table: one row per group, mean ± sample standard deviation over its seeds.

    `columns`: keys of `metrics`; `group_by`: fields of the record (or keys of `extra`). Groups come in the
    order of their first record. One decimal (Brier: three); a single seed has no ±, a figure that no seed
    has is "–", one that only some have says how many. Raises ResultError if a group mixes settings or
    repeats a seed: such a mean would mislead; also for a column or field that no record has.
    """
    groups: dict[tuple[Any, ...], list[ResultRecord]] = {}
    known: set[str] = set()
    for record in records:
        values = record.as_dict()
        known |= values.keys() | record.metrics.keys()
        groups.setdefault(tuple(values.get(key) for key in group_by), []).append(record)
    unknown = [key for key in (*group_by, *columns) if key not in known]
    if groups and unknown:
        raise ResultError(f"no record has {', '.join(unknown)}")
    head = [key.replace("_", " ") for key in group_by] + ["seeds"] + [_heading(key) for key in columns]
    lines = [head, ["---"] * len(group_by) + ["---:"] * (1 + len(columns))]
    for key, members in groups.items():
        _check_group(key, members)
        lines.append([_cell(part) for part in key] + [str(len(members))]
                     + [_mean_sd(column, [m.metrics.get(column) for m in members]) for column in columns])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _check_group(key: tuple[Any, ...], members: list[ResultRecord]) -> None:
    mixed = [name for name in SETTINGS if len({getattr(m, name) for m in members}) > 1]
    if mixed:
        raise ResultError(f"row {key} mixes different {', '.join(mixed)}: group by them, or filter")
    seeds = [m.seed for m in members]
    if len(set(seeds)) < len(seeds):
        raise ResultError(f"row {key} holds the same seed more than once: {sorted(seeds)}")


def _heading(key: str) -> str:
    name = HEADINGS.get(key, key.replace("_", " "))
    return f"{name} ({UNITS[key]})" if key in UNITS else name


def _cell(value: Any) -> str:
    return "–" if value is None else str(value).replace("|", "\\|")


def _mean_sd(key: str, values: list[float | None]) -> str:
    there = [v for v in values if v is not None]
    if not there:
        return "–"
    decimals = DECIMALS.get(key, 1)
    text = f"{statistics.fmean(there):.{decimals}f}"
    if len(there) > 1:
        text += f" ± {statistics.stdev(there):.{decimals}f}"
    return text if len(there) == len(values) else f"{text} ({len(there)} of {len(values)})"
