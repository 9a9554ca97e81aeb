"""A dataset published without its images, joined again with their official archive on the user's own machine.

Where a licence forbids passing images on, a repository holds the sparse masks, the splits and checksums. A sparse mask
that is the whole dense mask (style `full`) is left out too. `data_sha256` of the joined dataset is that of the original.
"""

import hashlib
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from hf_gland.data.build import About, build_dataset, write_about
from hf_gland.data.sample import Sample
from hf_gland.data.schema import FEATURES, check_images
from hf_gland.data.sources import source_of
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.data.stain import shift_stain
from hf_gland.errors import DatasetError

MASKS_ONLY = "masks-only"  # the value of "form" in such a dataset's provenance.json
_FROM_ARCHIVE = ("image", "mask", "instances")
MASK_FEATURES = datasets.Features({**{name: kind for name, kind in FEATURES.items() if name not in _FROM_ARCHIVE},
                                   "image_sha256": datasets.Value("string")})


def image_sha256(image: np.ndarray) -> str:
    """SHA-256 (hex) of an image's size and pixels, uint8 [H, W, 3]."""
    return hashlib.sha256(f"{image.shape}".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def join_archive(masks: Mapping[str, datasets.Dataset], provenance: Mapping[str, Any], archive: Path, out: Path, *,
                 verify: bool = True, progress: Callable[[str], None] = lambda image_id: None) -> None:
    """Write the dataset folder `out` from published masks (by split, in `MASK_FEATURES`) and their source's archive.

    `verify`: compare the archive with the official checksums; `progress` is called with the id of each image done.
    Raises DatasetError where the archive lacks an image or holds another one, or `out` exists.
    """
    if provenance.get("form") != MASKS_ONLY:
        raise DatasetError("the dataset holds its images already; there is nothing to join")
    source = source_of(provenance["source"])
    if source is None or source.read_again is None:
        raise DatasetError(f"{provenance['source']}: no official archive of these images is known, so they cannot be joined")
    if out.exists():
        raise DatasetError(f"{out}: exists already; give another --out")
    again, shift = source.read_again, provenance.get("sources", {}).get("stain_shift", 0.0)
    part = out.absolute().with_name(f".{out.name}-joining")
    shutil.rmtree(part, ignore_errors=True)
    try:
        made = build_dataset(
            {split: _join_split(rows, lambda ids: again(archive, ids, verify), archive, shift, progress)
             for split, rows in masks.items()}, part,
            About(*(provenance[key] for key in ("class_names", "source", "licence", "sparsify", "seed"))))
        if made["data_sha256"] != provenance["data_sha256"]:
            raise DatasetError(f"{archive}: joined with the published masks gives other data (SHA-256 "
                               f"{made['data_sha256']}) than were annotated ({provenance['data_sha256']}); use the official "
                               "archive, unchanged")
        whole = {key: value for key, value in provenance.items() if key not in ("form", "configuration")}
        write_about(part, whole)
        part.replace(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _join_split(rows: datasets.Dataset, read_again: Callable[[Collection[str]], Iterator[Sample]], archive: Path,
                stain_shift: float, progress: Callable[[str], None]) -> Iterator[tuple[Sample, SparseAnnotation]]:
    check_images(rows.data.table, f"{archive}, joined with the published masks", ("sparse_mask",))
    for index, official in enumerate(read_again(rows["image_id"][:])):
        sample = replace(official, image=shift_stain(official.image, stain_shift)) if stain_shift else official
        row = rows[index]
        assert sample.mask is not None
        if image_sha256(sample.image) != row["image_sha256"]:
            raise DatasetError(f"{archive}: {sample.image_id} is not the image that was annotated; use the official "
                               "archive, unchanged")
        sparse = sample.mask if row["sparse_mask"] is None else np.asarray(row["sparse_mask"])
        yield sample, SparseAnnotation(sparse, row["annotated_glands"], row["total_glands"], row["labelled_fraction"], 0)
        progress(sample.image_id)
