"""Glands as rows of a table, one per gland, units in the column names."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from hf_gland.export.slide_writer import SlideInfo, SlideWriter
from hf_gland.glands import Gland, PredictedGlands
from hf_gland.options import ExportOptions

COLUMNS = ("image", *(field.name for field in dataclasses.fields(Gland)), "mpp", "unsure")


def gland_rows(prediction: PredictedGlands, options: ExportOptions = ExportOptions()) -> list[dict[str, Any]]:
    """One dict per gland with the keys of COLUMNS; what needs an unknown pixel size is None. Centroids are in pixels of
    the image's file, as in the GeoJSON, all else in pixels of `mpp`.
    """
    (scale_x, scale_y), (left, top) = options.scale_xy, options.origin_xy
    return [{"image": prediction.name, **vars(gland),
             "centroid_x_px": gland.centroid_x_px * scale_x + left, "centroid_y_px": gland.centroid_y_px * scale_y + top,
             "mpp": prediction.mpp, "unsure": gland.mean_confidence < options.unsure_below} for gland in prediction.glands]


def csv_text(rows: Iterable[Mapping[str, object]], *, header: bool = True) -> bytes:
    """Rows of `gland_rows`, of one image or many, as CSV (UTF-8, None as an empty cell)."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8")


class TableWriter(SlideWriter):
    """The table of one image, written as its glands come."""

    def __init__(self, file: BinaryIO, slide: SlideInfo, options: ExportOptions):
        self._file, self._options = file, options
        file.write(csv_text([]))

    def add_glands(self, part: PredictedGlands) -> None:
        self._file.write(csv_text(gland_rows(part, self._options), header=False))


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6g}" if isinstance(value, float) else value
