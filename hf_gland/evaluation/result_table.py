"""Markdown tables from result records alone: mean and spread over seeds, with their units."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from hf_gland.evaluation.records import ResultError, ResultRecord
from hf_gland.markdown import table
from hf_gland.metrics.keys import figure, heading

SETTINGS = ("variant", "recipe", "style", "background", "budget", "dataset", "train_split", "test_split",
            "backbone")


def markdown_table(records: Iterable[ResultRecord], columns: Sequence[str], group_by: Sequence[str],
                   over: str = "seed") -> str:
    """A Markdown table: one row per group, mean ± sample standard deviation over its seeds; `over` "fold": over folds.

    `columns`: keys of `metrics`; `group_by`: fields of the record (or keys of `extra`). Groups come in the order of their
    first record. One decimal (Brier: three); a single seed has no ±, a figure that no seed has is "–", one that only some
    have says how many; a row that lacks folds names those it has. Raises ResultError if a group mixes settings, numbers of
    training images (but over folds) or repeats a seed: such a mean would mislead; also for a column or field that no record
    has.
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
    rows = []
    for key, members in groups.items():
        check_row(key, members, over)
        rows.append([*("–" if part is None else part for part in key), _count(members, over),
                     *(mean_sd(column, [m.metrics.get(column) for m in members]) for column in columns)])
    head = [*(key.replace("_", " ") for key in group_by), f"{over}s", *map(heading, columns)]
    return table(head, rows, len(group_by))


def _count(members: Sequence[ResultRecord], over: str) -> str:
    """How many runs a row is the mean of; of folds, which patients are of them where they are not all."""
    if over == "fold":
        folds = sorted(m.fold for m in members if m.fold is not None)
        if len(folds) < folds[0][1]:
            return f"{len(folds)} of {folds[0][1]} ({', '.join(str(fold) for fold, _ in folds)})"
    return str(len(members))


def check_row(key: tuple[Any, ...], members: list[ResultRecord], over: str) -> None:
    """Raise ResultError if the records cannot be the runs of one row, `key`: see `markdown_table`."""
    fixed = [name for name in (*SETTINGS, "seed") if name != ("test_split" if over == "fold" else over)]
    mixed = [name for name in fixed if len({getattr(m, name) for m in members}) > 1]
    images = {m.extra["train_images"] for m in members if "train_images" in m.extra}
    if over != "fold" and len(images) > 1:
        mixed.append("train_images")
    if mixed:
        raise ResultError(f"row {key} mixes different {', '.join(mixed)}: group by them, or filter")
    runs = [getattr(m, over) for m in members]
    if len(set(runs)) < len(runs):
        raise ResultError(f"row {key} holds the same {over} more than once: {sorted(runs)}")


def class_table(records: Iterable[ResultRecord], class_names: Sequence[str]) -> str:
    """A Markdown table of the figures that records have by class, IoU and Dice, with what counts all gland classes as one
    below it; "" for two classes, of which other tables tell."""
    if len(class_names) == 2:
        return ""
    rows = [[record.test_split, name, *("–" if value is None else f"{value:.1f}" for value in values)] for record in records
            for name, *values in zip(class_names, record.metrics["class_iou"], record.metrics["class_dice"], strict=True)]
    return (table(["split", "class", "IoU (%)", "Dice (%)"], rows, 2) + "\nFigures called gland and those of objects count "
            "all gland classes as one; mIoU and mDice are means over the classes.\n")


def mean_sd(key: str, values: Sequence[float | None]) -> str:
    """`81.2 ± 0.4`: mean and sample standard deviation with the decimals of the metric `key`.

    One value has no ±, none at all are "–", and where only some are there it says how many.
    """
    there = [v for v in values if v is not None]
    if not there:
        return "–"
    text = with_spread(key, statistics.fmean(there), statistics.stdev(there) if len(there) > 1 else None)
    return text if len(there) == len(values) else f"{text} ({len(there)} of {len(values)})"


def with_spread(key: str, mean: float, sd: float | None) -> str:
    """`81.2 ± 0.4`, with the decimals of the metric `key`."""
    return figure(key, mean) + ("" if sd is None else f" ± {figure(key, sd)}")
