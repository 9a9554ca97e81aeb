"""Pictures or slides and what was outlined on them in QuPath: one GeoJSON file per image, plain or gzipped.

    images/a.svs    a.geojson beside it, or in the folder of --annotations (a.svs.geojson and .geojson.gz count too)

Images that fit a tile are one row each. Of larger ones tiles are cut around the annotations, so that each lies whole in
one of them with tissue around it. What is not outlined is unlabelled, which is not background: outline or stroke some stroma
(class Stroma), give --rim-px, or outline regions in which every gland is drawn (--roi). What is left out is said.
"""

import argparse
import itertools
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from hf_gland.data.metadata import check_patient_pattern, known_of, read_metadata
from hf_gland.data.outlines import SKIPPED, USUAL_CLASSES, Outlines, Reading, label_window, read_outlines
from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.data.split import with_usual_names
from hf_gland.data.windows import Window, plan_windows
from hf_gland.errors import DatasetError
from hf_gland.imaging.find import natural_key, other_levels
from hf_gland.imaging.opening import SUFFIXES, displayable
from hf_gland.imaging.slide_readers import DICOM_SUFFIX
from hf_gland.imaging.slides import MOST_PICTURE_PX, SLIDE_SUFFIXES, Box, open_slide, slide_mpp
from hf_gland.labels import IGNORE_INDEX, check_class_names

MOST_TILE_PX = 4096
ENDINGS = (".geojson", ".geojson.gz")


@dataclass(frozen=True)
class Cutting:
    """How large a tile is, in its own pixels of `mpp` µm (None: those of the image), and the least tissue around what is
    outlined."""

    tile_px: int = 1024
    mpp: float | None = None
    context_px: int = 64

    def scale(self, image_mpp: float | None, name: str) -> float:
        """Pixels of the image per pixel of a tile. Raises DatasetError."""
        if self.mpp is None:
            return 1.0
        if image_mpp is None:
            raise DatasetError(f"{name}: states no pixel size, so it cannot be brought to {self.mpp:g} µm per pixel; give "
                               "--mpp, or leave --tile-mpp out")
        return self.mpp / image_mpp


@dataclass(frozen=True, eq=False)
class Tile:
    """One row to be: a part of an image, the outlines on that image, and which of them are this tile's own."""

    image: Path
    outlines: Outlines
    window: Window
    out_hw: tuple[int, int]
    own: list[int]
    mpp: float | None


def images_in(paths: Sequence[Path], annotations: Path | None = None) -> list[Path]:
    """The pictures and slides among the files named, and directly in the folders. Raises DatasetError.

    A DICOM slide, whose levels are files of one folder, is one image: the file that annotations (see `annotation_file`) are
    named after, or the first.
    """
    found: list[Path] = []
    for path in paths:
        files = [file for file in path.iterdir() if file.suffix.lower() in (*SUFFIXES, *SLIDE_SUFFIXES)
                 and not file.name.startswith(".")] if path.is_dir() else [path]
        found += sorted(files, key=lambda file: natural_key(file.name))
    if not found:
        raise DatasetError(f"{paths[0]}: holds no picture and no slide")
    levels = [file for file in found if file.suffix.lower() == DICOM_SUFFIX]
    drawn_first = sorted(levels, key=lambda file: annotation_file(file, annotations) is None)
    others = {file for files in other_levels(drawn_first).left_out.values() for file in files}
    return [file for file in found if file not in others]


def annotation_file(image: Path, annotations: Path | None, images: int = 1) -> Path | None:
    """The GeoJSON file of an image: `annotations` itself, if it is a file and the `images` are just one, or that named
    after the image in that folder (None: beside the image). Raises DatasetError where there are two."""
    if annotations is not None and annotations.is_file():
        if images > 1:
            raise DatasetError(f"{annotations}: is one file, but there are {images} images; name a folder that holds one "
                               "file per image")
        return annotations
    if annotations is not None and not annotations.is_dir():
        raise DatasetError(f"{annotations}: no such file or folder")
    folder = annotations or image.parent
    names = [stem + ending for stem in dict.fromkeys((image.name, image.stem)) for ending in ENDINGS]
    found = [folder / name for name in names if (folder / name).is_file()]
    if len(found) > 1:
        raise DatasetError(f"{image}: has two files of annotations, {found[0].name} and {found[1].name}; one must go")
    return found[0] if found else None


def pair_files(paths: Sequence[Path], annotations: Path | None) -> tuple[dict[Path, Path], list[str]]:
    """The GeoJSON file of each image, and sentences on those that are left out. Raises DatasetError."""
    images = images_in(paths, annotations)
    of = {image: annotation_file(image, annotations, len(images)) for image in images}
    pairs = {image: drawn for image, drawn in of.items() if drawn is not None}
    first: dict[Path, Path] = {}
    for image, drawn in pairs.items():
        if (other := first.setdefault(drawn, image)) != image:
            raise DatasetError(f"{drawn}: belongs to {other.name} and to {image.name} by its name; call it "
                               f"{other.name}.geojson or {image.name}.geojson, or take one of the images away")
    without = [image for image, drawn in of.items() if drawn is None]
    if not pairs:
        raise DatasetError(f"{without[0]}: has no annotations ({without[0].stem}.geojson was looked for in "
                           f"{annotations or without[0].parent})")
    strays = [path for folder in {path.parent for path in pairs.values()} for path in sorted(folder.iterdir())
              if annotations != path and path.name.endswith(ENDINGS) and path not in pairs.values()]
    return pairs, [f"left out, as {why}: {displayable(paths[0])}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
                   for why, paths in (("no annotations were found for it", without), ("it belongs to none of the images",
                                      strays if annotations not in pairs.values() else [])) if paths]


def plan_tiles(image: Path, drawn: Path, mpp: float | None, cutting: Cutting, reading: Reading) -> list[Tile]:
    """The tiles of one image. Warns of what is left out or cut."""
    name = displayable(image)
    with open_slide(image, name, MOST_PICTURE_PX) as slide:
        hw, image_mpp = slide.hw, None
        if mpp is not None or slide.mpp_xy is not None:
            mpp_xy, _, notes = slide_mpp(slide, mpp)
            image_mpp = sum(mpp_xy) / 2
            for note in notes:
                warnings.warn(f"{name}: {note}", stacklevel=2)
    scale = cutting.scale(image_mpp, name)
    outlines = read_outlines(drawn, hw, reading)
    side, margin, most = (round(px * scale) for px in (cutting.tile_px, cutting.context_px, MOST_TILE_PX))
    planned, too_large = plan_windows(outlines.boxes, hw, side, margin, max(most, side))
    left_out = dict(outlines.left_out)
    if too_large:
        left_out["objects larger than a tile can be, cut at its edges (a coarser --tile-mpp holds them)"] = len(too_large)
    if left_out:
        warnings.warn(f"{outlines.name}: left out: " + ", ".join(f"{n} × {what}" for what, n in sorted(left_out.items())),
                      stacklevel=2)
    tiles = []
    for window, own in planned:
        out_hw = max(round(window.height / scale), 1), max(round(window.width / scale), 1)
        tiles.append(Tile(image, outlines, window, out_hw, own, cutting.mpp or image_mpp))
    return tiles


def read_tiles(items: Sequence[Item], reading: Reading, source: str) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
    """Each tile as a sample with what was drawn on it; an image is opened once for tiles that follow each other.

    Raises DatasetError where a part of a slide cannot be decoded.
    """
    for image, group in itertools.groupby(items, key=lambda item: item.files.image):
        with open_slide(image, most_picture_px=MOST_PICTURE_PX) as slide:
            for item in group:
                tile: Tile = item.files
                left, top, width, height = astuple(tile.window)
                region = slide.region(Box(left, top, width, height), tile.out_hw)
                if region.unreadable:
                    raise DatasetError(f"{slide.name}: the file is damaged at {left}, {top} px, where tissue is outlined; "
                                       "copy it again, or leave it out")
                drawn, ids, truth = label_window(tile.outlines, tile.own, tile.window, tile.out_hw, reading)
                yield Sample(region.rgb, truth, ids, item.image_id, item.patient_id, source, item.grade, tile.mpp), drawn


def _class_pair(text: str) -> tuple[str, int]:
    """`gland=1`, `necrosis=255` (unlabelled) or `other=skip` as a name and a class id."""
    name, _, value = text.rpartition("=")
    class_id = SKIPPED if value.strip().casefold() == "skip" else int(value)
    if not name or not (class_id == SKIPPED or 0 <= class_id <= IGNORE_INDEX):
        raise ValueError(text)
    return name.strip(), class_id


def class_names(pairs: Sequence[tuple[str, int]]) -> list[str]:
    """The dataset's classes: of several names with one id, the first. Raises DatasetError where an id is missing."""
    first: dict[int, str] = {}
    for name, class_id in pairs:
        first.setdefault(class_id, name)
    glands = sorted(class_id for class_id in first if 0 < class_id < IGNORE_INDEX)
    if glands != list(range(1, len(glands) + 1)) or not glands:
        raise DatasetError(f"--class gives the gland classes the numbers {glands}; they must be 1, 2, … without gaps")
    return ["background", *(first[class_id] for class_id in glands)]


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--images", required=True, nargs="+", type=Path, metavar="PATH",
                        help="pictures or slides, or folders of them")
    parser.add_argument("--annotations", type=Path, metavar="PATH",
                        help="folder of GeoJSON files named after the images, or the one file of one image [beside them]")
    parser.add_argument("--class", dest="classes", type=_class_pair, nargs="+", default=[("gland", 1)], metavar="NAME=ID",
                        help="classes by their names in QuPath, in any case: 0 background, 1, 2, … glands, 255 unlabelled, "
                        "skip: left out. Background, stroma and Ignore* are known [gland=1]")
    parser.add_argument("--roi", nargs="+", default=[], metavar="NAME",
                        help="class or object names of regions in which every gland is outlined: the rest of them is "
                        "background, and they are the truth for evaluation [none]")
    parser.add_argument("--stroke-px", type=float, default=0.0, metavar="PX",
                        help="lines and points are strokes this wide, in pixels of the image [left out, and counted]")
    parser.add_argument("--rim-px", type=float, default=0.0, metavar="PX",
                        help="what lies this close around an outlined gland, in pixels of the tile, and is not drawn is "
                        "background [0]")
    parser.add_argument("--tile-px", type=int, default=Cutting.tile_px,
                        help="side of a tile; smaller images are one tile, and tiles grow where an outline needs it "
                        "[%(default)s]")
    parser.add_argument("--tile-mpp", type=float, metavar="MPP", help="µm per pixel of the tiles [that of each image]")
    parser.add_argument("--context-px", type=int, default=Cutting.context_px,
                        help="tissue around every outline, in pixels of the tile [%(default)s]")
    parser.add_argument("--mpp", type=float, help="µm per pixel of the images [metadata, else what each file states]")
    parser.add_argument("--metadata", type=Path, metavar="CSV", help="image_id with patient_id, grade, mpp, split")
    parser.add_argument("--patient-pattern", default="", metavar="REGEX",
                        help="finds the patient in an image's name, e.g. '^(P[0-9]+)_' [the metadata's patient_id]")
    parser.add_argument("--source-name", default="QuPath annotations", metavar="NAME", help="of the data; patients "
                        "are known by it and their id: keep it for the same, change it for others [%(default)s]")
    parser.add_argument("--licence", default="unknown", help="of the images, e.g. cc-by-4.0 [%(default)s]")


def _open(arguments: argparse.Namespace) -> Offer:
    pairs = [(name, class_id) for name, class_id in arguments.classes]
    ids: dict[str, int] = {}
    for name, class_id in pairs:
        if ids.setdefault(name.casefold(), class_id) != class_id:
            raise DatasetError(f"--class {name}={class_id}: is {ids[name.casefold()]} already; names count in any case")
    names = check_class_names(class_names(pairs))
    reading = Reading({**USUAL_CLASSES, **ids}, arguments.roi, arguments.stroke_px, arguments.rim_px)
    cutting = Cutting(arguments.tile_px, arguments.tile_mpp, arguments.context_px)
    if cutting.tile_px < 32 or cutting.context_px < 0 or min(arguments.stroke_px, arguments.rim_px) < 0:
        raise DatasetError("--tile-px must be at least 32, and --context-px, --stroke-px and --rim-px 0 or more")
    check_patient_pattern(arguments.patient_pattern)
    files, notes = pair_files(arguments.images, arguments.annotations)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    table = read_metadata(arguments.metadata) if arguments.metadata else None
    splits: dict[str, list[Item]] = {}
    for image, drawn in files.items():
        known = known_of(image, image.stem, table, arguments.patient_pattern)
        tiles = plan_tiles(image, drawn, arguments.mpp if known.mpp is None else known.mpp, cutting, reading)
        if not tiles:
            warnings.warn(f"{displayable(image)}: left out, as nothing usable is drawn on it", stacklevel=2)
        corners = Counter((tile.window.left, tile.window.top) for tile in tiles)
        for tile in tiles:
            left, top, width, height = astuple(tile.window)
            size = f"_{width}x{height}" if corners[left, top] > 1 else ""  # a large annotation's tile and a usual one
            image_id = image.stem if len(tiles) == 1 and left == top == 0 else f"{image.stem}_x{left}_y{top}{size}"
            splits.setdefault(known.split or "train", []).append(Item(image_id, known.patient_id, known.grade, tile))
    if not splits:
        raise DatasetError(f"{arguments.images[0]}: nothing that can be learned from is drawn on any of the images")

    def read(items: Sequence[Item]) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
        return read_tiles(items, reading, arguments.source_name)

    return Offer(with_usual_names(splits), read, arguments.source_name, arguments.licence, names, by_hand=True)


SOURCE = Source(
    name="qupath", title="", summary="pictures or slides with outlines from QuPath (GeoJSON)", description=__doc__,
    add_options=_add_options, open=_open, held_out=0.175, drawn=False)
