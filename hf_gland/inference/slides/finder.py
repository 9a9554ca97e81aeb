"""Glands of a slide, found while its bands pass by from top to bottom.

8-connected regions of gland, and every hole small enough to be filled with all that it touches, make up a group. Groups that
reach the last row seen are held; any other is complete, and its glands are found in a crop by the very rules that find them
in a picture. As the crop holds all that its glands depend on, they are those of the whole slide found at once.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import ndimage, sparse
from scipy.sparse.csgraph import connected_components

from hf_gland.glands import Place
from hf_gland.inference.glands import GlandPrediction, GlandRules
from hf_gland.inference.slides.groups import Group, Piece, blocks, held
from hf_gland.inference.slides.plan import SlideGrid, Stripe
from hf_gland.instances import EIGHT_NEIGHBOURS
from hf_gland.labels import BACKGROUND

Pairs = tuple[np.ndarray, np.ndarray]


class _Frontier(NamedTuple):
    """The last row seen: number of the held group that each pixel belongs to, int [W], from 1 (0: none), bool [W] where
    there is gland of a group that was divided here, and bool [W] what lies outside the area.
    """

    group: np.ndarray
    cut: np.ndarray
    outside: np.ndarray


class _Band(NamedTuple):
    """Regions of gland and background that may be holes to fill, int [h, W] numbered from 1 (0: none)."""

    regions: np.ndarray
    region_count: int
    holes: np.ndarray
    hole_count: int


class GlandFinder:
    """`add` the bands of one grid from top to bottom; each gives what it completes.

    `glands`: how many were found, and `left_out` as the network was hardly sure of them; `settled_px`: what lies above this
    row cannot change any more; `divided`: how often a group was too large to be found whole.
    """

    def __init__(self, rules: GlandRules, grid: SlideGrid, name: str = "slide"):
        self.rules, self.grid, self.name = rules, grid, name
        self.min_gland_px, self.max_hole_px, _ = rules.areas_px()
        self.glands = self.left_out = self.divided = self.settled_px = 0
        self._held: list[Group] = []
        self._frontier = _blank(np.ones(grid.width_px, bool))
        self._cut_yx = np.empty((0, 2), np.int64)  # pixels of gland beside one outside the area, of what is held

    def add(self, stripe: Stripe) -> Iterator[GlandPrediction]:
        """The glands of the groups that end in these rows of float32 probabilities. Take all before the next `add`."""
        bottom_px = stripe.top_px + stripe.probabilities.shape[1]
        window = self._window(stripe)
        classes = self.rules.label_pixels(stripe.probabilities[:, :, window])
        if not classes.any() and not self._held:
            self._frontier, self.settled_px = _blank(stripe.tissue[-1]), bottom_px
            return
        self._cut_yx = np.concatenate([yx[yx[:, 0] >= self.settled_px] for yx in (
            self._cut_yx, *self._cut(stripe, window, classes))])
        band = self._label(classes, window)
        above = _Frontier(*(row[window] for row in self._frontier))
        of_held, of_region, of_hole = self._join(above.group, band)
        member = np.append(np.int32(0), of_region)[band.regions]
        if band.hole_count:
            member += np.append(np.int32(0), of_hole)[band.holes]
        reaches = np.zeros(int(max(member.max(), of_held.max(initial=0))) + 1, bool)
        reaches[member[-1]] = bottom_px < self.grid.height_px
        reaches[0] = False
        groups = self._collect(stripe, window.start, member, of_held, reaches)
        for _, below in _across(above.cut.astype(np.int64), band.regions[0]):
            for number in np.unique(of_region[below - 1]):
                groups[number].cut_above = True
        reached = {number: groups[number] for number in np.flatnonzero(reaches)}
        self._held = held(list(reached.values()))
        place = {group: number for number, group in enumerate(self._held, 1)}
        gland, group = band.regions[-1] > 0, np.array([place.get(group, 0) for group in groups])[member[-1]]
        self._frontier = _blank(stripe.tissue[-1])
        self._frontier.group[window], self._frontier.cut[window] = np.where(gland, group, 0), gland & (group == 0)
        self.settled_px = min((group.box[0] for group in self._held), default=bottom_px)
        ended = [group for group, on in zip(groups, reaches, strict=True) if group.pieces and not on]
        for group in sorted(ended, key=lambda group: group.box):
            yield from self._find(group)
        for group in reached.values():
            if group not in place:
                yield from self._find(group, goes_on=True)

    def _window(self, stripe: Stripe) -> slice:
        """The columns with tissue, and one on either side, which has no gland."""
        left, right = stripe.columns()
        return slice(max(left - 1, 0), min(right + 1, self.grid.width_px))

    def _cut(self, stripe: Stripe, window: slice, classes: np.ndarray) -> Iterator[np.ndarray]:
        """Pixels of gland, int [N, 2], beside one outside the area, at corners too: in the last row seen, and in these."""
        above = self._frontier
        on_last_row = (above.group > 0) & _widened(~stripe.tissue[0])
        yield np.argwhere(on_last_row[None]) + np.array([stripe.top_px - 1, 0])
        outside = _widened(np.concatenate([above.outside[None, window], ~stripe.tissue[:, window]]))
        beside = outside[1:] | outside[:-1]
        beside[:-1] |= outside[2:]
        yield np.argwhere(beside & (classes != BACKGROUND)) + np.array([stripe.top_px, window.start])

    def _label(self, classes: np.ndarray, window: slice) -> _Band:
        """Of classes uint8 [h, w] in a window of columns."""
        regions, region_count = ndimage.label(classes != BACKGROUND, EIGHT_NEIGHBOURS)
        if self.max_hole_px == 0:
            return _Band(regions, region_count, np.zeros_like(regions), 0)
        found, count = ndimage.label(classes == BACKGROUND)
        areas = np.bincount(found.ravel(), minlength=count + 1)
        for column, beyond in ((0, window.start), (-1, self.grid.width_px - window.stop)):  # background goes on there
            areas[found[0, column]] += beyond * len(classes)
        small = areas <= self.max_hole_px
        small[0] = False
        return _Band(regions, region_count, np.where(small, np.cumsum(small), 0).astype(np.int32)[found], int(small.sum()))

    def _join(self, above: np.ndarray, band: _Band) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The number of the group, from 1, of each held group, each region and each hole of a band; `above` int [w]: which
        held groups lie along its top.

        Holes need not be followed from band to band: the gland around one crosses with it, and lies along it in both. A
        small region of background that proves no hole may join groups too: nothing comes of it but a larger crop.
        """
        known, region = len(self._held), band.region_count
        pairs = [(group - 1, known + below - 1) for group, below in _across(above, band.regions[0])]
        pairs += [(known + region + hole - 1, known + beside - 1) for hole, beside in _beside(band.holes, band.regions)]
        of = _components(known + region + band.hole_count, pairs)
        return of[:known] + 1, of[known:known + region] + 1, of[known + region:] + 1

    def _collect(self, stripe: Stripe, from_left: int, member: np.ndarray, of_held: np.ndarray,
                 reaches: np.ndarray) -> list[Group]:
        """All groups by their number, with what they have of this band; no pieces where it is too little for a gland."""
        groups = [Group() for _ in reaches]
        for number, group in zip(of_held, self._held, strict=True):
            groups[number].pieces += group.pieces
            groups[number].cut_above |= group.cut_above
        for number, box in enumerate(ndimage.find_objects(member), start=1):
            if box is None:
                continue
            (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
            if reaches[number] or groups[number].pieces or (bottom - top) * (right - left) >= self.min_gland_px:
                part = stripe.probabilities[:, top:bottom, from_left + left:from_left + right]
                groups[number].pieces.append(Piece(
                    (stripe.top_px + top, from_left + left, stripe.top_px + bottom, from_left + right),
                    part.copy() if reaches[number] else part, member[box] == number))
        return groups

    def _find(self, group: Group, goes_on: bool = False) -> Iterator[GlandPrediction]:
        """Its glands; in blocks where it does not fit, or `goes_on` below and is not held any longer."""
        box = group.box
        whole = group.fits and not goes_on
        self.divided += not whole
        for top, left, bottom, right in [box] if whole else blocks(box):
            crop = group.crop((top, left, bottom, right))
            if crop is None:
                continue
            bounds = (top if top > box[0] or group.cut_above else 0, left if left > box[1] else 0,
                      bottom if bottom < box[2] or goes_on else self.grid.height_px,
                      right if right < box[3] else self.grid.width_px)
            inside = (self._cut_yx >= (top, left)) & (self._cut_yx < (bottom, right))
            place = Place((top, left), bounds, self.glands, self._cut_yx[inside.all(1)])
            found = self.rules.find(crop, place, name=self.name)
            self.left_out += found.left_out
            if found.glands:
                self.glands += len(found.glands)
                yield found


def _blank(tissue: np.ndarray) -> _Frontier:
    """Without gland; `tissue` bool [W]: what is of the area."""
    return _Frontier(np.zeros(len(tissue), np.int64), np.zeros(len(tissue), bool), ~tissue)


def _widened(outside: np.ndarray) -> np.ndarray:
    """bool [..., W] and the pixels on either side."""
    wide = outside.copy()
    wide[..., 1:] |= outside[..., :-1]
    wide[..., :-1] |= outside[..., 1:]
    return wide


def _components(nodes: int, pairs: list[Pairs]) -> np.ndarray:
    """The component, from 0, of each node of the graph of these edges."""
    start, end = (np.concatenate(side) for side in zip(*pairs, strict=True))
    edges = sparse.coo_array((np.ones(len(start), np.int8), (start, end)), (nodes, nodes))
    return connected_components(edges, directed=False)[1]


def _meeting(above: np.ndarray, below: np.ndarray) -> Pairs:
    """The numbers, from 1, of what lies above one another in two rows int [W]."""
    meet = (above > 0) & (below > 0)
    return above[meet], below[meet]


def _across(above: np.ndarray, below: np.ndarray) -> list[Pairs]:
    """`_meeting`, and what meets at corners."""
    return [_meeting(above, below), _meeting(above[1:], below[:-1]), _meeting(above[:-1], below[1:])]


def _beside(holes: np.ndarray, regions: np.ndarray) -> Iterator[Pairs]:
    """The numbers of holes and of the regions along their edges, of two int [h, W]."""
    y, x = np.nonzero(holes)
    number = holes[y, x]
    for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        inside = (y + down >= 0) & (y + down < len(holes)) & (x + right >= 0) & (x + right < holes.shape[1])
        yield _meeting(number[inside], regions[y[inside] + down, x[inside] + right])
