"""A slide through a network in one pass: reading, network and what follows them overlap; memory is bounded by a stripe."""

import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from hf_gland.errors import ImageError
from hf_gland.imaging.appearance import USUAL_LOOK, Look
from hf_gland.imaging.slides import Box, Slide
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.inference.slides.plan import SlideGrid, Stripe
from hf_gland.inference.slides.tiles import Run, TilePlan, read_runs
from hf_gland.labels import BACKGROUND
from hf_gland.model.tiled import Forward, blending_weights
from hf_gland.model.whole_picture import check_numbers

MOST_READERS = 8
STRIPES_WAITING = 2
MOST_UNREADABLE = 0.1  # of the area


@dataclass
class Progress:
    """What a prediction has done so far. Seconds: waiting for files (`reading_s`), in the network with its input and output
    (`network_s`), adding up tiles (`blending_s`), in what follows, beside them (`following_s`, and `following_cpu_s` of the
    processor), and waiting for that at the end or because it is slower (`held_up_s`); `cpu_s`: of all processors, for all of
    it. Pixels of the grid: of the area, and those of them that could not be read."""

    tiles: int = 0
    reading_s: float = 0.0
    network_s: float = 0.0
    blending_s: float = 0.0
    following_s: float = 0.0
    following_cpu_s: float = 0.0
    held_up_s: float = 0.0
    cpu_s: float = 0.0
    area_px: int = 0
    unreadable_px: int = 0
    unreadable: list[Box] = field(default_factory=list)


@torch.no_grad()
def predict_slide(segmenter: GlandSegmenter, slide: Slide, plan: TilePlan, follow: Callable[[Stripe], object],
                  shown: Callable[[Progress], object] = lambda progress: None, look: Look = USUAL_LOOK) -> Progress:
    """Put the wanted tiles of a slide through the network; `follow` gets its stripes from top to bottom, in a thread of its
    own, and `shown` what is done so far, now and then. `look`: to the model, which sees it with the stain of its training.

    Parts of the file that cannot be decoded count as no tissue and are told of in the result. Raises ImageError where they
    are more than MOST_UNREADABLE of the area or the file is gone, ModelError where the network gives no numbers, and
    whatever `follow` does.
    """
    progress, blend, started_cpu = Progress(), _Blend(plan), time.process_time()
    forward = segmenter.network(plan.tiling)
    readers = min(MOST_READERS, max(os.cpu_count() or 1, 2))
    helpers, follower = ThreadPoolExecutor(readers), ThreadPoolExecutor(1)
    waiting: deque[Future[None]] = deque()

    def finish(top_px: int, rows: Tensor | int) -> None:
        started, started_cpu = time.perf_counter(), time.thread_time()
        follow(_stripe(segmenter, plan, top_px, rows, progress))
        progress.following_s += time.perf_counter() - started
        progress.following_cpu_s += time.thread_time() - started_cpu

    def hand_on(row: int) -> None:
        started = time.perf_counter()
        waiting.append(follower.submit(finish, plan.top_px[row], blend.take(row)))
        progress.blending_s += time.perf_counter() - started
        while len(waiting) > STRIPES_WAITING:
            waiting.popleft().result()
        progress.held_up_s += time.perf_counter() - started

    try:
        row, tiles = 0, _Tiles(forward, segmenter.device, plan, blend, progress)
        for run, reading in read_runs(helpers, slide, plan, 2 * readers):
            started = time.perf_counter()
            region = reading.result()
            progress.reading_s += time.perf_counter() - started
            progress.unreadable += region.unreadable
            while row < run.row:
                tiles.flush()
                hand_on(row)
                row += 1
            tiles.add(run, look.matched(region.rgb))
            shown(progress)
        tiles.flush()
        for last in range(row, len(plan.top_px)):
            hand_on(last)
        started = time.perf_counter()
        for future in waiting:
            future.result()
        progress.held_up_s += time.perf_counter() - started
    finally:
        helpers.shutdown(cancel_futures=True)
        follower.shutdown(cancel_futures=True)
    progress.cpu_s = time.process_time() - started_cpu
    if progress.unreadable_px > MOST_UNREADABLE * progress.area_px:
        share = progress.unreadable_px / progress.area_px
        raise ImageError(f"{slide.name}: {share:.0%} of the area cannot be decoded; copy or export the slide again")
    shown(progress)
    return progress


class _Tiles:
    """Tiles on their way through the network, a batch at a time."""

    def __init__(self, forward: Forward, device: torch.device, plan: TilePlan, blend: "_Blend", progress: Progress):
        self._forward, self._device, self._plan, self._blend, self._progress = forward, device, plan, blend, progress
        self._waiting: list[tuple[int, int, Tensor]] = []

    def add(self, run: Run, rgb: np.ndarray) -> None:
        pixels = torch.from_numpy(np.require(rgb, requirements="W")).permute(2, 0, 1)
        for column in range(run.first, run.last + 1):
            x = self._plan.left_px[column] - self._plan.left_px[run.first]
            self._waiting.append((run.row, column, pixels[:, :, x:x + self._plan.tile_hw[1]]))
            if len(self._waiting) == self._plan.tiling.batch_size:
                self.flush()

    def flush(self) -> None:
        if not self._waiting:
            return
        started = time.perf_counter()
        outputs = self._forward(torch.stack([tile for _, _, tile in self._waiting]).to(self._device)).float().cpu()
        check_numbers(outputs)
        between = time.perf_counter()
        for (row, column, _), output in zip(self._waiting, outputs, strict=True):
            self._blend.add(row, column, output)
        self._progress.tiles += len(self._waiting)
        self._progress.network_s += between - started
        self._progress.blending_s += time.perf_counter() - between
        self._waiting.clear()


class _Blend:
    """Weighted tiles added up over the rows that a row of tiles covers; see model.tiled for the weights."""

    def __init__(self, plan: TilePlan):
        self._plan = plan
        grid, tiling = plan.grid, plan.tiling
        self._down, self._along = (blending_weights(side, tiling.tile_px, tiling.stride_px).float()
                                   for side in (grid.height_px, grid.width_px))
        self._sum = torch.empty(0)

    def add(self, row: int, column: int, output: Tensor) -> None:
        """One tile, float32 [C, h, w]."""
        if not self._sum.numel():
            self._sum = torch.zeros(len(output), self._plan.tile_hw[0], self._plan.grid.width_px)
        x = self._plan.left_px[column]
        self._sum[:, :, x:x + self._plan.tile_hw[1]].addcmul_(output, torch.outer(self._down[row], self._along[column]))

    def take(self, row: int) -> Tensor | int:
        """The pixel rows that are finished with this row of tiles, float32 [C, h, W], or how many they are where none of
        their tiles is wanted."""
        height = self._plan.rows_done(row) - self._plan.top_px[row]
        if not self._plan.wanted[row].any():  # then nothing under it is of the area either
            self._sum.zero_()
            return height
        rows = self._sum[:, :height].clone()
        kept = self._sum[:, height:].clone()
        self._sum[:, :kept.shape[1]] = kept
        self._sum[:, kept.shape[1]:] = 0
        return rows


def _stripe(segmenter: GlandSegmenter, plan: TilePlan, top_px: int, rows: Tensor | int, progress: Progress) -> Stripe:
    """Calibrated probabilities, background outside the area, and which pixels are of it."""
    height = rows if isinstance(rows, int) else rows.shape[1]
    tissue = plan.area.rows(top_px, top_px + height)
    if isinstance(rows, int):
        background = np.zeros((segmenter.channels, 1, 1), np.float32)
        background[BACKGROUND] = 1
        return Stripe(top_px, np.broadcast_to(background, (segmenter.channels, height, plan.grid.width_px)), tissue)
    area_px = int(tissue.sum())
    tissue = _without(tissue, top_px, progress.unreadable, plan.grid)
    progress.area_px += area_px
    progress.unreadable_px += area_px - int(tissue.sum())
    probabilities = segmenter.calibrated(rows).clamp_(0, 1).numpy()
    if not tissue.all():
        outside = ~tissue
        np.copyto(probabilities, 0, where=outside)
        np.copyto(probabilities[BACKGROUND], 1, where=outside)
    return Stripe(top_px, probabilities, tissue)


def _without(tissue: np.ndarray, top_px: int, boxes: list[Box], grid: SlideGrid) -> np.ndarray:
    """`tissue` bool [h, W] without the boxes of level 0."""
    if boxes:
        tissue = tissue.copy()
        for box in list(boxes):
            start, size = np.array(box[:2]), np.array(box[2:])
            left, top = np.floor((start - grid.origin_xy) / grid.scale_xy).astype(int).clip(0)
            right, bottom = np.ceil((start + size - grid.origin_xy) / grid.scale_xy).astype(int).clip(0)
            tissue[max(top - top_px, 0):max(bottom - top_px, 0), left:right] = False
    return tissue
