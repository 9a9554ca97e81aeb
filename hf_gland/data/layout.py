"""What sources have in common that lie unpacked in a folder: finding the release in it, pairing its pictures and masks."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hf_gland.errors import DatasetError
from hf_gland.imaging.find import pictures_in
from hf_gland.imaging.label_maps import read_labels
from hf_gland.imaging.pictures import read_picture


def find_release(root: Path, is_release: Callable[[Path], bool], expected: str) -> Path:
    """The folder that looks like the release: `root` itself, or one at most two levels down, as archives unpack.

    Raises DatasetError, which says what was `expected`, where there is none, or more than one.
    """
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; give the one that the archive was unpacked to")
    found = [root] if is_release(root) else sorted(
        folder for pattern in ("*", "*/*") for folder in root.glob(pattern)
        if folder.is_dir() and "__MACOSX" not in folder.parts and is_release(folder))
    if not found:
        there = ", ".join(sorted(entry.name for entry in root.iterdir() if entry.name[0] != ".")[:6]) or "nothing"
        raise DatasetError(f"{root}: expected {expected}; it holds {there}. Unpack the release without changing its folders "
                           "and give the folder it unpacks to")
    if len(found) > 1:
        raise DatasetError(f"{root}: holds the release twice, {found[0]} and {found[1]}; give one of the two")
    return found[0]


def pair_by_name(images: Path, masks: Path) -> list[tuple[Path, Path | None]]:
    """Each picture of a folder, in natural order, with the mask of the same name, or None. Raises DatasetError."""
    for folder in (images, masks):
        if not folder.is_dir():
            raise DatasetError(f"{folder}: no such folder; unpack the release again, whole")
    by_stem = {mask.stem: mask for mask in pictures_in(masks).pictures}
    pictures = pictures_in(images).pictures
    if not pictures:
        raise DatasetError(f"{images}: holds no picture; unpack the release again, whole")
    if strays := sorted(by_stem.keys() - {picture.stem for picture in pictures}):
        warnings.warn(f"{by_stem[strays[0]]} (and {len(strays) - 1} more) belongs to no picture and is not used",
                      stacklevel=2)
    return [(picture, by_stem.get(picture.stem)) for picture in pictures]


def read_pair(image: Path, mask: Path) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [H, W, 3] RGB and the numbers [H, W] of its mask. Raises HfGlandError naming the file."""
    rgb, numbers = read_picture(image).rgb, read_labels(mask)
    if numbers.shape != rgb.shape[:2]:
        raise DatasetError(f"{mask}: is {numbers.shape[1]}×{numbers.shape[0]} px but {image.name} is {rgb.shape[1]}×"
                           f"{rgb.shape[0]} px; unpack the release again")
    return rgb, numbers
