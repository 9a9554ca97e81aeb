"""Everything a prediction can be written as: the one list for the command line, the web page and its zip.

A new format is a function here (or beside) that writes it into an open file, and its line in FORMATS.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from hf_gland.errors import HfGlandError
from hf_gland.export.geojson import GeojsonWriter, GzippedGeojsonWriter
from hf_gland.export.maps import write_confidence, write_instances, write_mask
from hf_gland.export.ome_tiff import ClassesWriter, ConfidenceWriter
from hf_gland.export.overlay import write_heatmap, write_overlay
from hf_gland.export.slide_overlay import OverlayWriter
from hf_gland.export.slide_writer import SlideInfo, SlideWriter
from hf_gland.export.table import TableWriter
from hf_gland.files import write_atomically
from hf_gland.glands import PredictedGlands
from hf_gland.options import ExportOptions


@dataclass(frozen=True)
class SlideFormat:
    """How the file of a slide is called and what writes it while the slide goes through the network."""

    ending: str
    about: str
    open: Callable[[BinaryIO, SlideInfo, ExportOptions], SlideWriter]


@dataclass(frozen=True)
class Format:
    """How a file's name ends, what it holds, and what writes it; `slide`: the same of slides, if there is such a thing."""

    ending: str
    about: str
    write: Callable[[BinaryIO, PredictedGlands, ExportOptions], object]
    slide: SlideFormat | None = None


def by_gland(ending: str, about: str, writer: Callable[[BinaryIO, SlideInfo, ExportOptions], SlideWriter],
             of_slides: Callable[[BinaryIO, SlideInfo, ExportOptions], SlideWriter] | None = None) -> Format:
    """A format that is written gland by gland: a picture's in one go, a slide's as they are found (by `of_slides`)."""
    def write(file: BinaryIO, prediction: PredictedGlands, options: ExportOptions) -> None:
        one = writer(file, SlideInfo.of(prediction), options)
        one.add_glands(prediction)
        one.finish()

    return Format(ending, about, write, SlideFormat(ending, about, of_slides or writer))


FORMATS = {
    "geojson": by_gland(".geojson", "outlines for QuPath", GeojsonWriter, partial(GeojsonWriter, of_slide=True)),
    "csv": by_gland("_glands.csv", "one row per gland", TableWriter),
    "overlay": Format("_overlay.png", "the image with the glands outlined", write_overlay,
                      SlideFormat("_overlay.png", "a thumbnail with the glands outlined", OverlayWriter)),
    "mask": Format("_mask.png", "class ids, 8 bit", write_mask,
                   SlideFormat("_mask.ome.tif", "class ids, 8 bit, a pyramid", ClassesWriter)),
    "instances": Format("_instances.png", "gland ids, 16 bit", write_instances),
    "confidence": Format("_confidence.png", "probability of the predicted class × 65535, 16 bit", write_confidence,
                         SlideFormat("_confidence.ome.tif", "probability of the predicted class in percent, a pyramid",
                                     ConfidenceWriter)),
    "heatmap": Format("_heatmap.png", "confidence as colours, with a colour bar", write_heatmap),
    "geojson.gz": by_gland(".geojson.gz", "the GeoJSON, compressed", GzippedGeojsonWriter,
                           partial(GzippedGeojsonWriter, of_slide=True)),
}
DEFAULT_FORMATS = ("geojson", "csv", "overlay", "mask", "confidence")


def output_paths(stem: str | Path, formats: Iterable[str]) -> list[Path]:
    """Where each of `formats` goes: `stem` (folder and name without suffix) with the format's ending."""
    stem, names = Path(stem), list(formats)
    if unknown := [name for name in names if name not in FORMATS]:
        raise HfGlandError(f"no format {unknown[0]!r}; there are {', '.join(FORMATS)}")
    return [stem.with_name(stem.name + FORMATS[name].ending) for name in names]


def slide_paths(stem: str | Path, formats: Iterable[str]) -> dict[str, Path]:
    """Where each of `formats` goes that there is of slides; the others are left out."""
    names = list(formats)
    output_paths(stem, names)  # refuses what is none
    slides = {name: FORMATS[name].slide for name in names}
    return {name: Path(stem).with_name(Path(stem).name + one.ending) for name, one in slides.items() if one is not None}


def write_outputs(stem: str | Path, formats: Iterable[str], prediction: PredictedGlands,
                  options: ExportOptions = ExportOptions()) -> list[Path]:
    """Write a prediction in each of `formats` (keys of FORMATS), each file atomically; returns their paths."""
    def write(name: str, path: Path) -> Path:
        return write_atomically(path, lambda file: FORMATS[name].write(file, prediction, options))

    names = list(formats)
    return [write(name, path) for name, path in zip(names, output_paths(stem, names), strict=True)]
