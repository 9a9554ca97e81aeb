"""TCGA-COAD and TCGA-READ: tiles of whole slides from the Genomic Data Commons, as its client downloads them.

    SLIDES/<file id>/TCGA-AA-3488-01Z-00-DX1.<uuid>.svs      any depth; the patient is TCGA-AA-3488, 01 a tumour, 11 normal
    gdc_manifest.….txt                id  filename  md5  size  state                    what should be there, and how large
    gdc_sample_sheet.….tsv            File ID  File Name  …  Project ID  …              the same, with each slide's project

Tiles come without masks, to adapt a model to or to look at. Where you have masks, label maps of whole slides at any scale
(--masks; named as the slide or its barcode; 255 is unlabelled), tiles are cut where these are labelled. What you outlined in
QuPath is read by `build_dataset qupath`. Frozen sections (TS, MS, BS instead of DX) look different and are left out unless
asked for.
"""

import argparse
import csv
import hashlib
import itertools
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.errors import DatasetError, HfGlandError
from hf_gland.imaging.find import natural_key
from hf_gland.imaging.label_maps import map_mask, read_labels
from hf_gland.imaging.opening import SUFFIXES
from hf_gland.imaging.pixel_size import check_mpp
from hf_gland.imaging.slides import Box, open_slide, slide_mpp
from hf_gland.imaging.tissue import tissue_mask
from hf_gland.labels import BACKGROUND, BINARY_CLASSES, IGNORE_INDEX, MaskError, check_class_names, check_mask

PROJECTS = ("TCGA-COAD", "TCGA-READ")
LICENCE = ("TCGA (NCI Genomic Data Commons), open access: use under the NIH Genomic Data Sharing Policy, with no attempt to "
           "identify a patient; cite The Cancer Genome Atlas Network 2012")
BIBTEX = """\
@article{tcga2012colon,
  title={Comprehensive molecular characterization of human colon and rectal cancer},
  author={{The Cancer Genome Atlas Network}},
  journal={Nature}, volume={487}, pages={330--337}, year={2012}, doi={10.1038/nature11252}
}"""
SAMPLE_TYPES = {"01": "tumour", "02": "tumour", "06": "metastasis", "11": "normal"}
_NAME = re.compile(r"((TCGA-\w{2}-\w{4})-(\d{2})\w?-\d{2}-([A-Z]{2})\w*)(\.[\w-]+)?")
# Columns of a manifest and of a sample sheet, in lower case.
_COLUMNS = {"file id": "id", "file name": "filename", "project id": "project", "project_id": "project"}


@dataclass(frozen=True)
class Cutting:
    """Tiles of `tile_px` a side at `mpp` µm per pixel, of which tissue covers at least the share `min_tissue`; at most
    `per_slide` of each slide (0: all)."""

    tile_px: int = 1024
    mpp: float = 0.62
    min_tissue: float = 0.5
    per_slide: int = 10

    def __post_init__(self) -> None:
        check_mpp(self.mpp, "--tile-mpp")
        if not 64 <= self.tile_px <= 8192 or not 0 <= self.min_tissue <= 1 or self.per_slide < 0:
            raise DatasetError("--tile-px must lie between 64 and 8192, --min-tissue between 0 and 1, --per-slide must be 0 "
                               "(all) or a number of tiles")


@dataclass(frozen=True)
class TcgaSlide:
    """One slide's file; `barcode` without the uuid; `project` "" where no sample sheet says; `mask`: its label map."""

    path: Path
    barcode: str
    patient_id: str
    grade: str
    project: str = ""
    mask: Path | None = None


@dataclass(frozen=True)
class Tile:
    """A part of a slide, in pixels of its largest level."""

    slide: TcgaSlide
    box: Box


def read_manifest(path: Path) -> list[dict[str, str]]:
    """The lines of a GDC manifest or sample sheet, each with `id`, `filename` and, where it says so, `size` and `project`.

    Raises DatasetError naming the file.
    """
    try:
        table = list(csv.reader(path.read_text("utf-8-sig").splitlines(), delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table ({error})") from error
    names = [_COLUMNS.get(cell.strip().lower(), cell.strip().lower()) for cell in table[0]] if table else []
    if not {"id", "filename"} <= set(names):
        raise DatasetError(f"{path}: is neither a GDC manifest (id, filename, md5, size, state) nor a sample sheet (File "
                           "ID, File Name, …, Project ID), separated by tabs; download one with the files from the portal")
    lines = [dict(zip(names, (cell.strip() for cell in row), strict=False)) for row in table[1:] if row]
    if short := [number for number, line in enumerate(lines, 2) if not line["id"] or not line.get("filename")]:
        raise DatasetError(f"{path}: line {short[0]} has no id or file name")
    return lines


def find_slides(folder: Path, manifest: Path | None = None, masks: Path | None = None,
                frozen: bool = False) -> list[TcgaSlide]:
    """The slides of a folder, or those of them that a manifest lists, in the order of their barcodes.

    Warns of what is left out: frozen sections, other projects. Raises DatasetError for a listed file that is missing or of
    another size, a name without a barcode, or where no slide is left.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the one into which gdc-client downloaded")
    paths = [path for path in folder.rglob("*.svs") if not path.name.startswith(".")]
    projects: dict[Path, str] = {}
    if manifest is not None:
        paths, projects = _listed(paths, folder, manifest)
    by_name = _masks(masks)
    slides, left_out = [], Counter[str]()
    for path in sorted(paths, key=lambda path: natural_key(path.name)):
        name = _NAME.fullmatch(path.stem)
        if name is None:
            raise DatasetError(f"{path}: its name holds no TCGA barcode (such as TCGA-AA-3488-01Z-00-DX1), so its patient "
                               "cannot be told; give the file its original name, or remove it")
        barcode, patient, kind, section = name[1], name[2], name[3], name[4]
        project = projects.get(path, "")
        if project and project not in PROJECTS:
            left_out[f"slides of other projects, such as {project}"] += 1
        elif section != "DX" and not frozen:
            left_out["frozen sections (--frozen takes them)"] += 1
        else:
            mask = by_name.pop(path.stem, None) or by_name.pop(barcode, None)
            slides.append(TcgaSlide(path, barcode, patient, SAMPLE_TYPES.get(kind, ""), project, mask))
    for what, number in left_out.items():
        warnings.warn(f"left out: {number} {what}", stacklevel=2)
    if by_name:
        stray = next(iter(by_name.values()))
        raise DatasetError(f"{stray}: is no slide's mask, by its name; name it after the slide or its barcode "
                           f"({slides[0].barcode if slides else 'TCGA-AA-3488-01Z-00-DX1'}.png)")
    if not slides:
        raise DatasetError(f"{folder}: holds no slide (.svs) that is to be used; download TCGA-COAD or TCGA-READ slides "
                           "with gdc-client")
    if twice := [barcode for barcode, number in Counter(slide.barcode for slide in slides).items() if number > 1]:
        raise DatasetError(f"{folder}: holds {twice[0]} more than once; keep one of the files")
    return slides


def _listed(paths: Sequence[Path], folder: Path, manifest: Path) -> tuple[list[Path], dict[Path, str]]:
    """The files that a manifest lists, and the project of each."""
    there = {(path.parent.name, path.name): path for path in paths} | {("", path.name): path for path in paths}
    found: list[Path] = []
    projects: dict[Path, str] = {}
    missing: list[str] = []
    for line in read_manifest(manifest):
        if not line["filename"].lower().endswith(".svs"):
            continue
        path = there.get((line["id"], line["filename"])) or there.get(("", line["filename"]))
        if path is None:
            missing.append(f"{line['id']}/{line['filename']}")
            continue
        if line.get("size", "").isdigit() and path.stat().st_size != int(line["size"]):
            raise DatasetError(f"{path}: has {path.stat().st_size} bytes, but {manifest.name} says {line['size']}; download "
                               "it again (gdc-client download -m)")
        found.append(path)
        projects[path] = line.get("project", "").split(",")[0]
    if missing:
        raise DatasetError(f"{folder / missing[0]}: is missing, and {len(missing) - 1} more that {manifest.name} lists; run "
                           "gdc-client download -m again, or take their lines out")
    return found, projects


def _masks(folder: Path | None) -> dict[str, Path]:
    if folder is None:
        return {}
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder of masks")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES}


def plan_tiles(slide: TcgaSlide, mpp: float | None, cutting: Cutting, num_classes: int) -> tuple[list[Tile], str]:
    """The tiles of a slide, and where its pixel size comes from. Which ones are taken depends on barcode and place alone.

    Raises HfGlandError: the slide or its mask cannot be read, or its pixel size is unknown or implausible.
    """
    with open_slide(slide.path) as opened:
        (mpp_x, mpp_y), source, notes = slide_mpp(opened, mpp)
        for note in notes:
            warnings.warn(f"{slide.path}: {note}", stacklevel=2)
        height, width = opened.hw
        labels = None if slide.mask is None else read_slide_mask(slide.mask, opened.hw, num_classes)
        tissue = tissue_mask(opened, (mpp_x, mpp_y))
    wide, high = cutting.tile_px * cutting.mpp / mpp_x, cutting.tile_px * cutting.mpp / mpp_y
    tiles = []
    for row, column in itertools.product(range(int(height // high)), range(int(width // wide))):
        box = Box(column * wide, row * high, wide, high)
        labelled = labels is None or (_crop(labels, box, (height, width)) != IGNORE_INDEX).any()
        if labelled and _crop(tissue, box, (height, width)).mean() >= cutting.min_tissue:
            tiles.append(Tile(slide, box))
    tiles.sort(key=lambda tile: hashlib.sha256(f"{slide.barcode} {tile.box.left:.0f} {tile.box.top:.0f}".encode()).digest())
    chosen = tiles[:cutting.per_slide or None]
    return sorted(chosen, key=lambda tile: (tile.box.top, tile.box.left)), source


def read_slide_mask(path: Path, slide_hw: tuple[int, int], num_classes: int) -> np.ndarray:
    """The label map of a whole slide at its own scale, uint8 of classes and 255. Raises HfGlandError naming the file."""
    labels = map_mask(read_labels(path), str(path), None)
    (height, width), (full_height, full_width) = labels.shape, slide_hw
    if abs(height * full_width / (width * full_height) - 1) > 0.02:
        raise DatasetError(f"{path}: {width}×{height} px are not the shape of the slide, {full_width}×{full_height} px; a "
                           "mask covers the whole slide, at any scale")
    check_mask(labels, num_classes, str(path))
    if set(np.unique(labels)) <= {BACKGROUND, IGNORE_INDEX}:
        raise MaskError(f"{path}: holds no gland, only 0 or 255, which means unlabelled; write glands as 1, or remove it")
    return labels


def _crop(labels: np.ndarray, box: Box, slide_hw: tuple[int, int]) -> np.ndarray:
    """The pixels of a map of the whole slide that lie in a box of it; at least one."""
    down, across = labels.shape[0] / slide_hw[0], labels.shape[1] / slide_hw[1]
    top, left = int(box.top * down), int(box.left * across)
    bottom, right = int((box.top + box.height) * down), int((box.left + box.width) * across)
    return labels[top:max(bottom, top + 1), left:max(right, left + 1)]


def _resample(labels: np.ndarray, box: Box, slide_hw: tuple[int, int], side_px: int) -> np.ndarray:
    """What a map of the whole slide says in a box of it, uint8 [side_px, side_px], by the nearest pixel."""
    down, across = labels.shape[0] / slide_hw[0], labels.shape[1] / slide_hw[1]
    part = (box.left * across, box.top * down, min((box.left + box.width) * across, labels.shape[1]),
            min((box.top + box.height) * down, labels.shape[0]))
    return np.array(Image.fromarray(labels).resize((side_px, side_px), Image.Resampling.NEAREST, box=part))


def read_tiles(items: Sequence[Item], cutting: Cutting, num_classes: int) -> Iterator[Sample]:
    """Each tile at the wanted pixel size, with its part of the slide's mask; a slide is opened once for all its tiles.

    Raises DatasetError where a part of a slide cannot be decoded.
    """
    side = cutting.tile_px
    for slide, group in itertools.groupby(items, key=lambda item: item.files.slide):
        with open_slide(slide.path) as opened:
            labels = None if slide.mask is None else read_slide_mask(slide.mask, opened.hw, num_classes)
            for item in group:
                box = item.files.box
                region = opened.region(box, (side, side))
                if region.unreadable:
                    raise DatasetError(f"{slide.path}: is damaged at {box.left:.0f}, {box.top:.0f} px; download it again, "
                                       "or remove it")
                mask = None
                if labels is not None:
                    mask = _resample(labels, box, opened.hw, side)
                yield Sample(region.rgb, mask, None, item.image_id, item.patient_id, slide.project.lower() or "tcga",
                             item.grade, cutting.mpp)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--slides", required=True, type=Path, metavar="DIR", help="folder that gdc-client downloaded into")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="GDC manifest or sample sheet: these slides, no "
                        "others [every .svs of the folder]")
    parser.add_argument("--masks", type=Path, metavar="DIR",
                        help="label maps of whole slides, at any scale [none: unlabelled]")
    parser.add_argument("--class-names", nargs="+", default=list(BINARY_CLASSES), metavar="NAME",
                        help="of the masks' numbers, background first [%(default)s]")
    parser.add_argument("--frozen", action="store_true", help="take frozen sections too")
    parser.add_argument("--tile-px", type=int, default=Cutting.tile_px, help="side of a tile [%(default)s]")
    parser.add_argument("--tile-mpp", type=float, default=Cutting.mpp, help="µm per pixel of the tiles [%(default)s]")
    parser.add_argument("--min-tissue", type=float, default=Cutting.min_tissue, metavar="SHARE",
                        help="of a tile that tissue covers at least [%(default)s]")
    parser.add_argument("--per-slide", type=int, default=Cutting.per_slide, metavar="N",
                        help="tiles of each slide; 0: all [%(default)s]")
    parser.add_argument("--mpp", type=float, help="µm per pixel of the slides [as each file states]")


def _open(arguments: argparse.Namespace) -> Offer:
    names = check_class_names(arguments.class_names)
    cutting = Cutting(arguments.tile_px, arguments.tile_mpp, arguments.min_tissue, arguments.per_slide)
    items: list[Item] = []
    sources, problems, bare = Counter[str](), dict[Path, str](), list[Path]()
    for slide in find_slides(arguments.slides, arguments.manifest, arguments.masks, arguments.frozen):
        try:
            tiles, source = plan_tiles(slide, arguments.mpp, cutting, len(names))
        except HfGlandError as error:
            problems[slide.path] = str(error)
            continue
        sources[source] += 1
        if not tiles:
            bare.append(slide.path)
        items += [Item(f"{slide.barcode}_x{tile.box.left:.0f}_y{tile.box.top:.0f}", slide.patient_id, slide.grade, tile)
                  for tile in tiles]
    if not items:
        none = (f"{arguments.slides}: no slide holds a tile of {cutting.tile_px} px at {cutting.mpp:g} µm with "
                f"{100 * cutting.min_tissue:g} % of tissue; lower one of the three")
        raise DatasetError(next(iter(problems.values()), none))
    _say_left_out(problems, bare)

    def read(chosen: Sequence[Item]) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
        return ((sample, None) for sample in read_tiles(chosen, cutting, len(names)))

    record = {"slides": sum(sources.values()), "pixel_size_from": dict(sources), **asdict(cutting)}
    return Offer({"train": items}, read, SOURCE.title, LICENCE, names, record=record)


def _say_left_out(problems: Mapping[Path, str], bare: Sequence[Path]) -> None:
    if problems:
        warnings.warn(f"left out: {next(iter(problems.values()))}" + (
            f"; and {len(problems) - 1} more slides for such reasons" if len(problems) > 1 else ""), stacklevel=2)
    if bare:
        warnings.warn("left out, as no tile holds enough tissue (--min-tissue) or labels: "
                      f"{bare[0]} and {len(bare) - 1} more", stacklevel=2)


SOURCE = Source(
    name="tcga", title="TCGA-COAD/READ", summary="tiles of TCGA-COAD and TCGA-READ slides, with your masks or without",
    description=__doc__, add_options=_add_options, open=_open, shareable=False, bibtex=BIBTEX, held_out=0.175)
