"""Glands as rows of a table, one per gland, units in the column names."""

import csv
import dataclasses
import io
from collections.abc import Iterable
from pathlib import Path

from hf_gland.files import write_atomically
from hf_gland.inference.glands import Gland, GlandPrediction

COLUMNS = ("image", *(field.name for field in dataclasses.fields(Gland)), "mpp")


def gland_rows(prediction: GlandPrediction, image_name: str) -> list[dict[str, object]]:
    """One dict per gland with the keys of COLUMNS; what needs an unknown pixel size is None."""
    return [{"image": image_name, **dataclasses.asdict(gland), "mpp": prediction.mpp} for gland in prediction.glands]


def write_table(path: str | Path, rows: Iterable[dict[str, object]]) -> Path:
    """Write rows of `gland_rows`, of one image or many, as CSV (UTF-8, header, None as an empty cell)."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return write_atomically(path, lambda file: file.write(text.getvalue().encode("utf-8")))


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6g}" if isinstance(value, float) else value
