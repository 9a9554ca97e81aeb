"""Everything a prediction can be written as: the one list for the command line, the web page and its zip.

A new format is a function here (or beside) that writes it into an open file, and its line in FORMATS.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hf_gland.errors import HfGlandError
from hf_gland.export.geojson import write_geojson
from hf_gland.export.maps import write_confidence, write_instances, write_mask
from hf_gland.export.overlay import write_heatmap, write_overlay
from hf_gland.export.table import write_glands
from hf_gland.files import write_atomically
from hf_gland.glands import PredictedGlands
from hf_gland.options import ExportOptions


@dataclass(frozen=True)
class Format:
    """How a file's name ends, what it holds, and what writes it."""

    ending: str
    about: str
    write: Callable[[BinaryIO, PredictedGlands, ExportOptions], object]


FORMATS = {
    "geojson": Format(".geojson", "outlines for QuPath", write_geojson),
    "csv": Format("_glands.csv", "one row per gland", write_glands),
    "overlay": Format("_overlay.png", "the image with the glands outlined", write_overlay),
    "mask": Format("_mask.png", "class ids, 8 bit", write_mask),
    "instances": Format("_instances.png", "gland ids, 16 bit", write_instances),
    "confidence": Format("_confidence.png", "probability of the predicted class × 65535, 16 bit", write_confidence),
    "heatmap": Format("_heatmap.png", "confidence as colours, with a colour bar", write_heatmap),
}
DEFAULT_FORMATS = ("geojson", "csv", "overlay", "mask", "confidence")


def output_paths(stem: str | Path, formats: Iterable[str]) -> list[Path]:
    """Where each of `formats` goes: `stem` (folder and name without suffix) with the format's ending."""
    stem, names = Path(stem), list(formats)
    if unknown := [name for name in names if name not in FORMATS]:
        raise HfGlandError(f"no format {unknown[0]!r}; there are {', '.join(FORMATS)}")
    return [stem.with_name(stem.name + FORMATS[name].ending) for name in names]


def write_outputs(stem: str | Path, formats: Iterable[str], prediction: PredictedGlands,
                  options: ExportOptions = ExportOptions()) -> list[Path]:
    """Write a prediction in each of `formats` (keys of FORMATS), each file atomically; returns their paths."""
    def write(name: str, path: Path) -> Path:
        return write_atomically(path, lambda file: FORMATS[name].write(file, prediction, options))

    names = list(formats)
    return [write(name, path) for name, path in zip(names, output_paths(stem, names), strict=True)]
