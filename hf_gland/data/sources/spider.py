"""SPIDER-colorectal (histai): regions without gland masks, for adapting a model and for looking at what it finds.

    SPIDER-colorectal/images/<name>.png      224×224 px at 20×
    SPIDER-colorectal/metadata.json          [{"image_name": …, "class": …, "slide_id": …, "split": "train" or "test",
                                              "context_info": {"0_0": …, "0_1": …, … "4_4": …}}, …]

from `cat spider-colorectal.tar.* | tar -xf -`. A record is a patch with a class, which is kept as the grade, and the 24
patches around it, row_column in a grid of 5×5. The whole grid is one image here, unlabelled; what lies beyond the slide, and
so has no patch, is white. Slides stand for patients, whom the release does not tell apart.
"""

import argparse
import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_gland.data.layout import find_release
from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sparsify import SparseAnnotation, as_drawn
from hf_gland.errors import DatasetError
from hf_gland.imaging.pictures import read_picture
from hf_gland.imaging.pixel_size import check_mpp
from hf_gland.labels import IGNORE_INDEX

GRID, PATCH_PX = 5, 224
NOMINAL_MPP = 0.5  # the release states 20× and no pixel size
METADATA_FILE = "metadata.json"
BIBTEX = """\
@article{nechaev2025spider,
  title={SPIDER: A Comprehensive Multi-Organ Supervised Pathology Dataset and Baseline Models},
  author={Nechaev, Dmitry and Pchelnikov, Alexey and Ivanova, Ekaterina},
  journal={arXiv preprint arXiv:2503.02876}, year={2025}, url={https://arxiv.org/abs/2503.02876}
}"""


def read_records(file: Path) -> list[dict[str, Any]]:
    """The records of metadata.json. Raises DatasetError naming the first that is not as above."""
    try:
        records = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{file}: cannot be read as JSON ({error}); unpack the release again") from error
    if not isinstance(records, list) or not records:
        raise DatasetError(f"{file}: is not the list of records of a SPIDER release; unpack the release again")
    for number, record in enumerate(records):
        names = [record.get(key) for key in ("image_name", "class")] if isinstance(record, dict) else [None]
        context = record.get("context_info", {}) if isinstance(record, dict) else None
        if not all(isinstance(name, str) and name for name in names) or not isinstance(context, dict):
            raise DatasetError(f"{file}: record {number} lacks an image_name, a class or its context_info; unpack the "
                               "release again")
        for name in (names[0], *context.values()):
            if not isinstance(name, str) or Path(name).name != name:
                raise DatasetError(f"{file}: record {number} names {name!r}, which is no file of images/; use the release "
                                   "as published")
    return records


def plan_spider(root: Path, classes: Sequence[str] | None = None, per_class: int = 0) -> tuple[dict[str, list[Item]], Path]:
    """The regions of each split, at most `per_class` of each class (0: all), and the folder of the patches.

    Which ones of a class are taken depends on their names alone. Raises DatasetError.
    """
    release = find_release(root, lambda folder: (folder / METADATA_FILE).is_file() and (folder / "images").is_dir(),
                           f"{METADATA_FILE} beside images/, as `cat spider-colorectal.tar.* | tar -xf -` leaves them")
    records = read_records(release / METADATA_FILE)
    if unknown := sorted(set(classes or ()) - {record["class"] for record in records}):
        raise DatasetError(f"{release / METADATA_FILE}: has no class '{unknown[0]}'; it has "
                           f"{', '.join(sorted({record['class'] for record in records}))}")
    records.sort(key=lambda record: hashlib.sha256(record["image_name"].encode()).digest())
    plan: dict[str, list[Item]] = {}
    taken: Counter[tuple[str, str]] = Counter()
    for record in records:
        kind = split, grade = record.get("split", "train"), record["class"]
        if (classes and grade not in classes) or (per_class and taken[kind] >= per_class):
            continue
        taken[kind] += 1
        slide = record.get("slide_id")
        plan.setdefault(split, []).append(Item(Path(record["image_name"]).stem, "" if slide is None else f"spider-{slide}",
                                               grade, record))
    return {split: plan[split] for split in sorted(plan, reverse=True)}, release / "images"  # train before test


def stitch_region(record: Mapping[str, Any], images: Path, grid: int) -> np.ndarray:
    """uint8 [grid·224, grid·224, 3]: the patch of a record and those around it, `grid` (1, 3 or 5) of them a side.

    Raises DatasetError for a patch that is named and not there, or of another size.
    """
    region = np.full((grid * PATCH_PX, grid * PATCH_PX, 3), 255, np.uint8)
    first = (GRID - grid) // 2
    for row in range(grid):
        for column in range(grid):
            cell = f"{first + row}_{first + column}"
            name = record["image_name"] if cell == f"{GRID // 2}_{GRID // 2}" else record.get("context_info", {}).get(cell)
            if name is None:
                continue
            if not (images / name).is_file():
                raise DatasetError(f"{images / name}: is missing, which {record['image_name']} needs; unpack all parts of "
                                   "the release together (cat spider-colorectal.tar.* | tar -xf -)")
            patch = read_picture(images / name).rgb
            if patch.shape != (PATCH_PX, PATCH_PX, 3):
                raise DatasetError(f"{images / name}: is {patch.shape[1]}×{patch.shape[0]} px; SPIDER's patches are "
                                   f"{PATCH_PX}×{PATCH_PX} px")
            top, left = row * PATCH_PX, column * PATCH_PX
            region[top:top + PATCH_PX, left:left + PATCH_PX] = patch
    return region


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, type=Path, help="the folder that the release unpacks to")
    parser.add_argument("--classes", nargs="+", metavar="CLASS", help="only these [all]")
    parser.add_argument("--per-class", type=int, default=50, metavar="N",
                        help="regions of each class and split; 0: all, which takes some 150 GB [%(default)s]")
    parser.add_argument("--grid", type=int, choices=(1, 3, 5), default=GRID,
                        help="patches a side of a region: 5 is 1120×1120 px, 1 the patch that has the class [%(default)s]")
    parser.add_argument("--mpp", type=float, default=NOMINAL_MPP,
                        help="µm per pixel: the release states 20×, which is nominally [%(default)s]")


def _open(arguments: argparse.Namespace) -> Offer:
    mpp = check_mpp(arguments.mpp, "--mpp")
    if arguments.per_class < 0:
        raise DatasetError(f"--per-class {arguments.per_class}: must be 0 (all) or a number of regions")
    plan, images = plan_spider(arguments.root, arguments.classes, arguments.per_class)
    if mpp == NOMINAL_MPP:
        warnings.warn(f"SPIDER states its magnification (20×) alone, which is taken as {mpp:g} µm per pixel; --mpp says "
                      "otherwise", stacklevel=2)

    def read(items: Sequence[Item]) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
        for item in items:
            image = stitch_region(item.files, images, arguments.grid)
            nothing = as_drawn(np.full(image.shape[:2], IGNORE_INDEX, np.uint8), None, None)
            yield Sample(image, None, None, item.image_id, item.patient_id, "spider", item.grade, mpp), nothing

    return Offer(plan, read, SOURCE.title, "cc-by-nc-4.0", by_hand=True,
                 record={"grid": arguments.grid, "per_class": arguments.per_class, "mpp": mpp})


SOURCE = Source(
    name="spider", title="SPIDER-colorectal", summary="SPIDER-colorectal, classified regions without gland masks",
    description=__doc__, add_options=_add_options, open=_open, shareable=True, bibtex=BIBTEX, drawn=False)
