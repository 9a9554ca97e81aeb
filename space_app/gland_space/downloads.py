"""Results as files: class mask, confidence, GeoJSON for QuPath, table, and all of them as one zip."""

import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gland_space.analysis import Analysis, Choice, chosen_prediction, unsure_ids
from gland_space.colours import confidence_picture
from gland_space.temporary import new_folder
from hf_gland.export.geojson import glands_to_geojson, write_geojson
from hf_gland.export.maps import write_mask
from hf_gland.export.overlay import write_overlay
from hf_gland.export.table import COLUMNS, gland_rows
from hf_gland.inference import GlandPrediction

KINDS = ("mask", "confidence", "geojson", "csv", "zip")
_SUFFIX = {"mask": "_mask.png", "confidence": "_confidence.tif", "geojson": ".geojson", "csv": "_glands.csv",
           "zip": "_glands.zip", "contours": "_contours.png", "confidence_map": "_confidence.png"}


def write_download(kind: str, analysis: Analysis, choice: Choice, model: str, folder: Path) -> Path:
    """Write one of KINDS, `contours` or `confidence_map` into a new folder below `folder`; returns its path.

    `model` names the model in the zip's settings.json.
    """
    path = new_folder(folder) / f"{analysis.picture.stem}{_SUFFIX[kind]}"
    if kind == "zip":
        return _write_zip(path, analysis, choice, model)
    return _WRITERS[kind](path, analysis, choice, chosen_prediction(analysis, choice))


def _write_zip(path: Path, analysis: Analysis, choice: Choice, model: str) -> Path:
    prediction = chosen_prediction(analysis, choice)
    with tempfile.TemporaryDirectory(dir=path.parent) as work, zipfile.ZipFile(path, "w") as archive:
        for kind in ("mask", "confidence", "geojson", "csv", "contours", "confidence_map"):
            file = Path(work) / f"{analysis.picture.stem}{_SUFFIX[kind]}"
            _WRITERS[kind](file, analysis, choice, prediction)
            packed = zipfile.ZIP_STORED if file.suffix in (".png", ".tif") else zipfile.ZIP_DEFLATED
            archive.write(file, file.name, packed)
        archive.writestr("settings.json", json.dumps(settings(analysis, choice, model), indent=2, ensure_ascii=False))
    return path


def settings(analysis: Analysis, choice: Choice, model: str) -> dict[str, Any]:
    """How the files were made, for the record."""
    picture = analysis.picture
    return {"picture": picture.name, "page": picture.page, "width_px": picture.full_hw[1],
            "height_px": picture.full_hw[0], "reduction": picture.reduction, "mpp": analysis.mpp, "model": model,
            "model_mpp": analysis.model_mpp, "classes": {str(i): n for i, n in analysis.prediction.id2label.items()},
            "unsure_below": choice.unsure_below, "min_area": choice.min_area,
            "min_area_unit": "px" if analysis.mpp is None else "µm²", "notes": list(analysis.notes),
            "purpose": "research use only, not for diagnosis"}


def geojson(analysis: Analysis, choice: Choice, prediction: GlandPrediction) -> dict[str, Any]:
    """FeatureCollection in pixels of the file's picture; unsure glands say so in their name and a measurement."""
    collection = glands_to_geojson(prediction, analysis.picture.name)
    unsure = unsure_ids(analysis, choice)
    for gland, feature in zip(prediction.glands, collection["features"], strict=True):
        feature["properties"]["measurements"]["Unsure"] = int(gland.id in unsure)
        if gland.id in unsure:
            feature["properties"]["name"] += " (unsure)"
        if analysis.picture.reduction != 1:
            geometry = feature["geometry"]
            geometry["coordinates"] = _scaled(geometry["coordinates"], _file_scale(analysis))
    return collection


def _file_scale(analysis: Analysis) -> tuple[float, float]:
    """Pixels of the file per pixel of the segmented picture, along x and y."""
    full_h, full_w = analysis.picture.full_hw
    height, width = analysis.picture.rgb.shape[:2]
    return full_w / width, full_h / height


def _scaled(coordinates: list[Any], scale: tuple[float, float]) -> list[Any]:
    if coordinates and not isinstance(coordinates[0], list):
        return [round(value * factor, 2) for value, factor in zip(coordinates, scale, strict=True)]
    return [_scaled(part, scale) for part in coordinates]


def _write_geojson(path: Path, analysis: Analysis, choice: Choice, prediction: GlandPrediction) -> Path:
    return write_geojson(path, geojson(analysis, choice, prediction))


def _write_csv(path: Path, analysis: Analysis, choice: Choice, prediction: GlandPrediction) -> Path:
    unsure = unsure_ids(analysis, choice)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*COLUMNS, "unsure"], lineterminator="\n")
    writer.writeheader()
    for row in gland_rows(prediction, analysis.picture.name):
        cells = {key: _cell(value) for key, value in row.items()}
        writer.writerow(cells | {"unsure": int(row["id"] in unsure)})
    path.write_text(text.getvalue(), "utf-8")
    return path


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def _write_confidence(path: Path, analysis: Analysis, choice: Choice, prediction: GlandPrediction) -> Path:
    """16-bit TIFF: divided by 65535, the probability of the likeliest class."""
    levels = np.round(prediction.confidence.astype(np.float64) * 65535).astype(np.uint16)
    Image.fromarray(levels).save(path, "TIFF", compression="tiff_adobe_deflate")
    return path


def _write_contours(path: Path, analysis: Analysis, choice: Choice, prediction: GlandPrediction) -> Path:
    return write_overlay(path, analysis.picture.rgb, prediction)


def _write_confidence_map(path: Path, analysis: Analysis, choice: Choice, prediction: GlandPrediction) -> Path:
    Image.fromarray(confidence_picture(prediction.confidence, analysis.lowest_confidence)).save(path)
    return path


_WRITERS: dict[str, Callable[[Path, Analysis, Choice, GlandPrediction], Path]] = {
    "mask": lambda path, analysis, choice, prediction: write_mask(path, prediction),
    "confidence": _write_confidence, "geojson": _write_geojson, "csv": _write_csv, "contours": _write_contours,
    "confidence_map": _write_confidence_map,
}
