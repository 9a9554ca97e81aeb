"""Where to cut an image so that every annotation lies whole in one tile, with tissue around it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

NEIGHBOURS = 256  # annotations that are tried when a tile is filled


@dataclass(frozen=True)
class Window:
    """A part of an image, in whole pixels of it."""

    left: int
    top: int
    width: int
    height: int

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def plan_windows(boxes: np.ndarray, image_hw: tuple[int, int], side_px: int, margin_px: int,
                 most_px: int) -> tuple[list[tuple[Window, list[int]]], list[int]]:
    """The tiles of an image, each with the annotations that are its own; and those that are larger than a tile can be.

    `boxes` float [n, 4]: left, top, right, bottom of each annotation, in pixels of the image of `image_hw`. Each lies whole
    in the tile that it is given to, with `margin_px` around it as far as the image goes. A tile is `side_px` wide and high,
    or larger where an annotation is, up to `most_px`; an image that is smaller than that is one tile. What is larger than
    `most_px` is covered by a grid of tiles, and belongs to the first of them.
    """
    height, width = image_hw
    if max(image_hw) <= side_px:
        return [(Window(0, 0, width, height), list(range(len(boxes))))] if len(boxes) else [], []
    limit = np.array([0, 0, width, height], float)
    with_margin = np.concatenate([np.maximum(boxes[:, :2] - margin_px, limit[:2]),
                                  np.minimum(boxes[:, 2:] + margin_px, limit[2:])], axis=1)
    sizes = (with_margin[:, 2:] - with_margin[:, :2]).max(axis=1, initial=0)
    tiles: list[tuple[Window, list[int]]] = []
    free = np.ones(len(boxes), bool)
    if not len(boxes):
        return [], []
    tree = KDTree((with_margin[:, :2] + with_margin[:, 2:]) / 2)

    def add(window: Window, own: Sequence[int]) -> None:
        left, top, right, bottom = window.box
        middle, reach = ((left + right) / 2, (top + bottom) / 2), max(window.width, window.height) / 2
        near = tree.query_ball_point(middle, reach, p=np.inf)
        whole = [i for i in near if free[i] and (with_margin[i, :2] >= (left, top)).all()
                 and (with_margin[i, 2:] <= (right, bottom)).all()]
        members = sorted({*own, *whole})
        free[members] = False
        tiles.append((window, members))

    too_large = np.flatnonzero(sizes > most_px).tolist()
    for index in too_large:
        free[index] = False
        for place, window in enumerate(_grid(with_margin[index], image_hw, most_px)):
            add(window, [index] if place == 0 else [])
    for index in np.lexsort((with_margin[:, 0], with_margin[:, 1])).tolist():
        if not free[index]:
            continue
        bounds, side = with_margin[index], max(side_px, float(sizes[index]))
        _, around = tree.query(tree.data[index], min(NEIGHBOURS, len(boxes)), distance_upper_bound=2 * side)
        for other in np.atleast_1d(around).tolist():
            if other < len(boxes) and free[other]:
                joined = np.concatenate([np.minimum(bounds[:2], with_margin[other, :2]),
                                         np.maximum(bounds[2:], with_margin[other, 2:])])
                if (joined[2:] - joined[:2]).max() <= side:
                    bounds = joined
        add(_around(bounds, image_hw, side_px), [index])
    return tiles, too_large


def _around(bounds: np.ndarray, image_hw: tuple[int, int], side_px: int) -> Window:
    """A window with `bounds` in its middle, `side_px` or as large as they are, moved into the image."""
    starts, lengths = [], []
    for low, high, image_side in zip(bounds[:2], bounds[2:], image_hw[::-1], strict=True):
        low, high = int(np.floor(low)), int(np.ceil(high))
        length = min(max(side_px, high - low), image_side)
        starts.append(min(max((low + high - length) // 2, 0), image_side - length))
        lengths.append(length)
    return Window(*starts, *lengths)


def _grid(bounds: np.ndarray, image_hw: tuple[int, int], side_px: int) -> list[Window]:
    """Windows of at most `side_px` that cover `bounds`, side by side."""
    spans = []
    for low, high, image_side in zip(bounds[:2], bounds[2:], image_hw[::-1], strict=True):
        edges = np.linspace(max(int(low), 0), min(int(np.ceil(high)), image_side),
                            int(np.ceil((high - low) / side_px)) + 1).round().astype(int)
        spans.append(list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)))
    return [Window(left, top, right - left, bottom - top) for top, bottom in spans[1] for left, right in spans[0]]
