"""Results as files: each of hf_gland's formats, with the names and bytes that predict.py gives, and all of them zipped."""

import json
import zipfile
from pathlib import Path
from typing import Any

from gland_space.analysis import Analysis, Choice, chosen_prediction
from hf_gland.export.formats import FORMATS, write_outputs
from hf_gland.options import ExportOptions

KINDS = (*FORMATS, "zip")
BUTTONS = {"zip": "All files (zip)", "mask": "Mask (PNG)", "confidence": "Confidence (PNG)",
           "geojson": "GeoJSON for QuPath", "csv": "Table (CSV)"}


def write_download(kind: str, analysis: Analysis, choice: Choice, model: str, folder: Path) -> Path:
    """Write one of KINDS into `folder`; returns its path. `model` names the model in the zip's settings.json."""
    stem = folder / analysis.picture.stem
    prediction, options = chosen_prediction(analysis, choice), export_options(analysis, choice)
    if kind != "zip":
        return write_outputs(stem, [kind], prediction, options)[0]
    path = stem.with_name(f"{stem.name}_glands.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for written in FORMATS.values():
            packed = zipfile.ZIP_STORED if written.ending.endswith(".png") else zipfile.ZIP_DEFLATED
            entry = zipfile.ZipInfo(stem.name + written.ending)
            entry.compress_type = packed
            with archive.open(entry, "w") as file:
                written.write(file, prediction, options)
        text = json.dumps(settings(analysis, choice, model), indent=2, ensure_ascii=False, allow_nan=False)
        archive.writestr("settings.json", text, zipfile.ZIP_DEFLATED)
    return path


def export_options(analysis: Analysis, choice: Choice) -> ExportOptions:
    """Coordinates in pixels of the file, whatever the size at which its picture, or which part of it, was segmented."""
    full_h, full_w = analysis.picture.full_hw
    height, width = analysis.picture.rgb.shape[:2]
    return ExportOptions(unsure_below=choice.uncertain_below, scale_xy=(full_w / width, full_h / height),
                         origin_xy=analysis.picture.origin_xy)


def settings(analysis: Analysis, choice: Choice, model: str) -> dict[str, Any]:
    """How the files were made, for the record."""
    picture = analysis.picture
    return {"picture": picture.name, "page": picture.page, "width_px": picture.full_hw[1],
            "height_px": picture.full_hw[0], "origin_xy_px": list(picture.origin_xy), "reduction": picture.reduction,
            "mpp": analysis.mpp, "model": model, "model_mpp": analysis.model_mpp,
            "classes": {str(i): n for i, n in analysis.prediction.id2label.items()},
            "unsure_below": choice.uncertain_below, "min_area": choice.min_area,
            "min_area_unit": "px" if analysis.mpp is None else "µm²", "notes": list(analysis.notes),
            **({"rejected_glands": len(choice.rejected)} if choice.rejected else {}),
            "purpose": "research use only, not for diagnosis"}
