"""EBHI-Seg (enteroscope biopsies of the bowel, six stages), read from the unpacked release of figshare 21540159.

    EBHI-SEG/Adenocarcinoma/image/GT2012149-2-400-001.png      224×224 px at 400×, RGB
    EBHI-SEG/Adenocarcinoma/label/GT2012149-2-400-001.png      grey, gland above 127 (edges are smoothed)
    …/High-grade IN/  Low-grade IN/  Normal/  Polyp/  Serrated adenoma/

The name tells the case (GT, letters, seven digits), its slide, the magnification and a number. The folder, a stage, is kept
as the grade. Cases lie in several folders, and so do names, so an image id begins with its stage. Splits are by case, where
the letters do not count: the release spells them in several ways. The pixel size is not stated: images were made smaller.
"""

import argparse
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hf_gland.data.layout import find_release, pair_by_name, read_pair
from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.errors import DatasetError

STAGES = ("Adenocarcinoma", "High-grade IN", "Low-grade IN", "Normal", "Polyp", "Serrated adenoma")
GLAND_ABOVE = 127
BIBTEX = """\
@article{shi2023ebhi,
  title={EBHI-Seg: A novel enteroscope biopsy histopathological hematoxylin and eosin image dataset for image segmentation
         tasks},
  author={Shi, Liyu and Li, Xiaoyan and Hu, Weiming and Chen, Haoyuan and Chen, Jing and Fan, Zizhen and Gao, Minghe and
          Jing, Yujie and Lu, Guotao and Ma, Deguo and others},
  journal={Frontiers in Medicine}, volume={10}, pages={1114673}, year={2023}, doi={10.3389/fmed.2023.1114673}
}"""
_NAME = re.compile(r"GT[A-Za-z]*(\d+)-\d+-\d+-\d+")


def plan_ebhi(root: Path, stages: Sequence[str] | None = None) -> list[Item]:
    """The labelled images of these `stages` (None: those that are there), in natural order within each.

    Images without a label (the release has two) are left out with a warning. Raises DatasetError.
    """
    release = find_release(root, lambda folder: any((folder / stage / "image").is_dir() for stage in STAGES),
                           f"EBHI-Seg's folders <stage>/image and <stage>/label, the stages being {', '.join(STAGES)}")
    there = [stage for stage in STAGES if (release / stage).is_dir()]
    if missing := sorted(set(stages or there) - set(there)):
        raise DatasetError(f"{release}: has no folder '{missing[0]}'; it has {', '.join(there)}")
    items, bare = [], []
    for stage in stages or there:
        for image, label in pair_by_name(release / stage / "image", release / stage / "label"):
            name = _NAME.fullmatch(image.stem)
            if name is None:
                raise DatasetError(f"{image}: is not named as EBHI-Seg's images are (GT2012149-2-400-001.png), so its "
                                   "patient cannot be told; remove it, or use `build_dataset folder`")
            if label is None:
                bare.append(image)
            else:
                items.append(Item(f"{stage.replace(' ', '-')}_{image.stem}", f"ebhi-{name[1]}", stage, (image, label)))
    if bare:
        warnings.warn(f"left out, as they have no label: {bare[0]} and {len(bare) - 1} more", stacklevel=2)
    return items


def read_ebhi(items: Sequence[Item]) -> Iterator[Sample]:
    """mask = 1 where the label is above 127, no gland ids, no pixel size; grade: the stage."""
    for item in items:
        image, grey = read_pair(*item.files)
        yield Sample(image, (grey > GLAND_ABOVE).astype(np.uint8), None, item.image_id, item.patient_id, "ebhi", item.grade)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", required=True, type=Path, help="the folder that the release unpacks to")
    parser.add_argument("--stages", nargs="+", choices=STAGES, metavar="STAGE",
                        help=f"only these: {', '.join(STAGES)} [all]")


def _open(arguments: argparse.Namespace) -> Offer:
    def read(items: Sequence[Item]) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
        return ((sample, None) for sample in read_ebhi(items))

    return Offer({"train": plan_ebhi(arguments.root, arguments.stages)}, read, SOURCE.title, "cc-by-4.0")


SOURCE = Source(
    name="ebhi", title="EBHI-Seg", summary="EBHI-Seg, biopsies of the bowel in six stages", description=__doc__,
    add_options=_add_options, open=_open, shareable=True, bibtex=BIBTEX, held_out=0.175)
