"""CRAG (colorectal adenocarcinoma glands, released with MILD-Net), read from the unpacked release.

    CRAG/train/Images/train_1.png    CRAG/train/Annotation/train_1.png     173 images of about 1512×1516 px at 20×
    CRAG/valid/Images/test_1.png     CRAG/valid/Annotation/test_1.png      40 images, the paper's test set: split `test`

Annotations hold gland ids; the folders Overlay/ are not read. The release's own readme calls the folders `test` and
`Annotations`, which are read too. It does not say which images share a patient.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hf_gland.data.layout import find_release, pair_by_name, read_pair
from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.errors import DatasetError

MPP = 0.55  # 20×, of slides scanned at 0.275 µm per pixel (Omnyx VL120), as the paper states
FOLDERS = {"train": ("train",), "test": ("valid", "test")}
LICENCE = ("CRAG (University of Warwick, TIA): the release states no licence; for research, citing Graham et al. 2019. Ask "
           "its authors before any other use")
BIBTEX = """\
@article{graham2019mild,
  title={MILD-Net: Minimal information loss dilated network for gland instance segmentation in colon histology images},
  author={Graham, Simon and Chen, Hao and Gamper, Jevgenij and Dou, Qi and Heng, Pheng-Ann and Snead, David and
          Tsang, Yee Wah and Rajpoot, Nasir},
  journal={Medical Image Analysis}, volume={52}, pages={199--211}, year={2019}
}"""


def _inner(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def plan_crag(root: Path, splits: Sequence[str] | None = None) -> dict[str, list[Item]]:
    """The images of each of the `splits` (None: those that are there), in natural order. Raises DatasetError."""
    release = find_release(root, lambda folder: any(_inner(folder / name, ["Images"]) for names in FOLDERS.values()
                                                    for name in names),
                           "CRAG's folders train/Images, train/Annotation, valid/Images, valid/Annotation")
    there = {split: part for split, names in FOLDERS.items() if (part := _inner(release, names)) is not None}
    if missing := sorted(set(splits or there) - set(there)):
        raise DatasetError(f"{release}: has no folder {FOLDERS[missing[0]][0]}/, which is the split '{missing[0]}'; unpack "
                           "the release again, whole")
    plan = {}
    for split in splits or there:
        pairs = pair_by_name(there[split] / "Images",
                             _inner(there[split], ("Annotation", "Annotations")) or there[split] / "Annotation")
        if bare := [image for image, mask in pairs if mask is None]:
            raise DatasetError(f"{bare[0]}: has no annotation of that name; unpack the release again, whole")
        plan[split] = [Item(image.stem, files=(image, mask)) for image, mask in pairs]
    return plan


def read_crag(items: Sequence[Item]) -> Iterator[Sample]:
    """mask = 1 where the annotation is above 0, instances = its ids (uint16), 0.55 µm per pixel, no patient."""
    for item in items:
        image, ids = read_pair(*item.files)
        if set(np.unique(ids)) == {0, 255}:
            raise DatasetError(f"{item.files[1]}: holds 0 and 255 alone, so it is a binary copy and not CRAG's map of gland "
                               "ids; use the original release, or `build_dataset folder` for masks")
        yield Sample(image, (ids > 0).astype(np.uint8), ids.astype(np.uint16), item.image_id, "", "crag", mpp=MPP)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, type=Path, help="the folder that the release unpacks to")
    parser.add_argument("--splits", nargs="+", choices=list(FOLDERS), help="[those that are there]")


def _open(arguments: argparse.Namespace) -> Offer:
    def read(items: Sequence[Item]) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
        return ((sample, None) for sample in read_crag(items))

    return Offer(plan_crag(arguments.root, arguments.splits), read, SOURCE.title, LICENCE)


SOURCE = Source(
    name="crag", title="CRAG", summary="CRAG, glands of colorectal adenocarcinoma (MILD-Net's release)", description=__doc__,
    add_options=_add_options, open=_open, shareable=False, bibtex=BIBTEX,
    limits="CRAG does not say which images share a patient: none could be held out by patient.")
