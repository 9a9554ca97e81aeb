"""What decides together what becomes of its pixels: regions of gland, and the holes between them that may be filled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from hf_gland.labels import BACKGROUND

# Beyond these a group is divided into blocks, so that no sheet of gland, real or not, fills the memory. 8 megapixels are
# 2 mm² at 0.5 µm per pixel.
MAX_GROUP_PX, MAX_GROUP_ROWS, BLOCK_PX = 2**23, 4096, 2048
MAX_HELD_PX = 2**25  # of all groups that are held together

Box = tuple[int, int, int, int]  # first row, first column, last row + 1, last column + 1, in the grid


class Piece(NamedTuple):
    """What a group has of one band: a box, its probabilities float32 [C, h, w], and bool [h, w] what is the group's."""

    box: Box
    probabilities: np.ndarray
    own: np.ndarray


@dataclass(eq=False)
class Group:
    """The pieces of a group; `cut_above`: it goes on above its first row, where it was divided."""

    pieces: list[Piece] = field(default_factory=list)
    cut_above: bool = False

    @property
    def box(self) -> Box:
        """What encloses all its pieces."""
        tops, lefts, bottoms, rights = zip(*(piece.box for piece in self.pieces), strict=True)
        return min(tops), min(lefts), max(bottoms), max(rights)

    @property
    def fits(self) -> bool:
        """Whether it is small enough to be found whole."""
        top, left, bottom, right = self.box
        return bottom - top <= MAX_GROUP_ROWS and (bottom - top) * (right - left) <= MAX_GROUP_PX

    def crop(self, box: Box) -> np.ndarray | None:
        """Its probabilities in `box`, where all else is background; None if it has no pixel there."""
        top, left, bottom, right = box
        parts = []
        for (y0, x0, y1, x1), probabilities, own in self.pieces:
            rows, columns = (max(top, y0), min(bottom, y1)), (max(left, x0), min(right, x1))
            if rows[0] < rows[1] and columns[0] < columns[1]:
                here = np.s_[rows[0] - y0:rows[1] - y0, columns[0] - x0:columns[1] - x0]
                there = np.s_[rows[0] - top:rows[1] - top, columns[0] - left:columns[1] - left]
                parts.append((there, probabilities[:, *here], own[here]))
        if not any(own.any() for _, _, own in parts):
            return None
        canvas = np.zeros((len(self.pieces[0].probabilities), bottom - top, right - left), np.float32)
        canvas[BACKGROUND] = 1
        for there, probabilities, own in parts:
            np.copyto(canvas[:, *there], probabilities, where=own)
        return canvas


def held(groups: Sequence[Group]) -> list[Group]:
    """The groups that fit, without the largest where they are too much together."""
    sizes = {group: sum(piece.own.size for piece in group.pieces) for group in groups if group.fits}
    while sum(sizes.values()) > MAX_HELD_PX:
        del sizes[max(sizes, key=lambda group: sizes[group])]
    return list(sizes)


def blocks(box: Box) -> Iterator[Box]:
    """Parts of `box` of at most BLOCK_PX a side, in raster order."""
    for top in range(box[0], box[2], BLOCK_PX):
        for left in range(box[1], box[3], BLOCK_PX):
            yield top, left, min(top + BLOCK_PX, box[2]), min(left + BLOCK_PX, box[3])
