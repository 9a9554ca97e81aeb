"""Which tiles of a slide go through the network, and how they are read: neighbours in a row of tiles together."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass

import numpy as np

from hf_gland.imaging.slides import Box, Region, Slide
from hf_gland.inference.slides.area import Area
from hf_gland.inference.slides.plan import SlideGrid
from hf_gland.model.tiled import tile_starts
from hf_gland.options import Tiling

RUN_TILES = 6  # read at once: one read per tile decodes what they share, and the slide's own tiles around them, again


@dataclass(frozen=True, eq=False)
class TilePlan:
    """`top_px`, `left_px`: where the rows and columns of tiles begin; `tile_hw`: their size; `wanted` bool [rows, columns]:
    the tiles with any pixel of `area`. Every pixel of the area is so in all tiles over it, and their weights sum to 1."""

    grid: SlideGrid
    area: Area
    tiling: Tiling
    top_px: tuple[int, ...]
    left_px: tuple[int, ...]
    tile_hw: tuple[int, int]
    wanted: np.ndarray

    @property
    def tiles(self) -> int:
        return int(self.wanted.sum())

    def rows_done(self, row: int) -> int:
        """How many pixel rows no tile of a later row reaches once row `row` of tiles is through."""
        return self.top_px[row + 1] if row + 1 < len(self.top_px) else self.grid.height_px


@dataclass(frozen=True, eq=False)
class Run:
    """Tiles side by side: the row, the first and the last column."""

    row: int
    first: int
    last: int


def plan_tiles(grid: SlideGrid, area: Area, tiling: Tiling) -> TilePlan:
    """The tiles of a grid as `tiled_probabilities` lays them, and which of them hold a part of the area."""
    top_px, left_px = (tuple(tile_starts(side, tiling.tile_px, tiling.stride_px))
                       for side in (grid.height_px, grid.width_px))
    height, width = min(tiling.tile_px, grid.height_px), min(tiling.tile_px, grid.width_px)
    wanted = np.zeros((len(top_px), len(left_px)), bool)
    for row, top in enumerate(top_px):
        before = np.append(0, np.cumsum(area.columns(top, top + height)))
        wanted[row] = before[np.array(left_px) + width] > before[list(left_px)]
    return TilePlan(grid, area, tiling, top_px, left_px, (height, width), wanted)


def runs(plan: TilePlan) -> Iterator[Run]:
    """The wanted tiles from left to right, row by row."""
    for row, wanted in enumerate(plan.wanted):
        columns = np.flatnonzero(wanted)
        for group in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1) if len(columns) else ():
            for start in range(0, len(group), RUN_TILES):
                part = group[start:start + RUN_TILES]
                yield Run(row, int(part[0]), int(part[-1]))


def read_run(slide: Slide, plan: TilePlan, run: Run) -> Region:
    """The pixels of a run of tiles in one piece, and where the file could not be decoded (in pixels of level 0)."""
    (left, right), height = (plan.left_px[run.first], plan.left_px[run.last] + plan.tile_hw[1]), plan.tile_hw[0]
    corners = plan.grid.to_level0(np.array([(left, plan.top_px[run.row]), (right, plan.top_px[run.row] + height)]))
    (x, y), (width, tall) = corners[0], corners[1] - corners[0]
    return slide.region(Box(float(x), float(y), float(width), float(tall)), (height, right - left))


def sample_tiles(slide: Slide, plan: TilePlan, most: int) -> Iterator[np.ndarray]:
    """Up to `most` of the wanted tiles, uint8 [h, w, 3], evenly spread over them from top to bottom."""
    wanted = np.argwhere(plan.wanted)
    for row, column in wanted[np.unique(np.linspace(0, len(wanted) - 1, most).round().astype(int))].tolist():
        yield read_run(slide, plan, Run(row, column, column)).rgb


def read_runs(helpers: Executor, slide: Slide, plan: TilePlan, ahead: int) -> Iterator[tuple[Run, Future[Region]]]:
    """Every run in its order, being read by the helpers up to `ahead` of them before they are asked for."""
    waiting: deque[tuple[Run, Future[Region]]] = deque()
    for run in runs(plan):
        waiting.append((run, helpers.submit(read_run, slide, plan, run)))
        if len(waiting) > ahead:
            yield waiting.popleft()
    yield from waiting
