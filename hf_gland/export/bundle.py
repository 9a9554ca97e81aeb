"""Everything a prediction can be written as, side by side under one name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_gland.export.geojson import glands_to_geojson, write_geojson
from hf_gland.export.maps import write_confidence, write_instances, write_mask
from hf_gland.export.overlay import write_confidence_heatmap, write_overlay
from hf_gland.export.table import gland_rows, write_table
from hf_gland.inference.glands import GlandPrediction


@dataclass(frozen=True)
class Job:
    """One prediction to write: the image uint8 [H, W, 3] it belongs to, and how exports name and thin it."""

    rgb: np.ndarray
    prediction: GlandPrediction
    image_name: str
    simplify_px: float = 0.0


@dataclass(frozen=True)
class Format:
    """What a file holds, how its name ends, and how it is written."""

    ending: str
    about: str
    write: Callable[[Path, Job], Path]


FORMATS = {
    "geojson": Format(".geojson", "outlines for QuPath", lambda path, job: write_geojson(
        path, glands_to_geojson(job.prediction, job.image_name, job.simplify_px))),
    "csv": Format("_glands.csv", "one row per gland", lambda path, job: write_table(
        path, gland_rows(job.prediction, job.image_name))),
    "overlay": Format("_overlay.png", "the image with the glands outlined", lambda path, job: write_overlay(
        path, job.rgb, job.prediction)),
    "mask": Format("_mask.png", "class ids, 8 bit", lambda path, job: write_mask(path, job.prediction)),
    "instances": Format("_instances.png", "gland ids, 16 bit", lambda path, job: write_instances(
        path, job.prediction)),
    "confidence": Format("_confidence.png", "probability of the predicted class × 65535, 16 bit",
                         lambda path, job: write_confidence(path, job.prediction)),
    "heatmap": Format("_heatmap.png", "confidence as colours, with a colour bar",
                      lambda path, job: write_confidence_heatmap(path, job.prediction)),
}


def output_paths(stem: Path, formats: Iterable[str]) -> list[Path]:
    """Where each of `formats` goes: `stem` (folder and name without suffix) with the format's ending."""
    return [stem.with_name(stem.name + FORMATS[name].ending) for name in formats]


def write_outputs(stem: Path, formats: Iterable[str], job: Job) -> list[Path]:
    """Write `job` in each of `formats` (keys of FORMATS), each file atomically; returns their paths."""
    names = list(formats)
    return [FORMATS[name].write(path, job)
            for name, path in zip(names, output_paths(stem, names), strict=True)]
