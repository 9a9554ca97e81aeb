"""Image files read by a helper thread before they are needed, and put together where they are alike."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_gland.errors import ImageError, PixelSizeError
from hf_gland.imaging.pictures import read_rgb


@dataclass(frozen=True, eq=False)
class ReadFile:
    """A file's pixels, uint8 [H, W, 3], or why there are none. `small`: it fits one tile."""

    path: Path
    seconds: float
    rgb: np.ndarray | None = None
    small: bool = False
    error: str | None = None

    def alike(self, other: "ReadFile") -> bool:
        """Whether both can go through a network together."""
        return (self.rgb is not None and other.rgb is not None and self.small and other.small
                and self.rgb.shape == other.rgb.shape)


def read_ahead(helper: Executor, paths: Iterable[str | Path], count: int,
               fits_a_tile: Callable[[Path, np.ndarray], bool]) -> Iterator[ReadFile]:
    """The files in their order, read by the helper before they are asked for: up to `count`, but one after a large file
    and at first, as nothing is known of the sizes then."""
    def read(path: Path) -> ReadFile:
        started = time.perf_counter()
        try:
            rgb = read_rgb(path)
            return ReadFile(path, time.perf_counter() - started, rgb, fits_a_tile(path, rgb))
        except (ImageError, PixelSizeError) as error:
            return ReadFile(path, time.perf_counter() - started, error=str(error))

    waiting: deque[Future[ReadFile]] = deque()
    small = False
    for path in map(Path, paths):
        waiting.append(helper.submit(read, path))
        while len(waiting) > (count if small else min(count, 1)):
            file = waiting.popleft().result()
            small = file.small or file.rgb is None
            yield file
    while waiting:
        yield waiting.popleft().result()


def batches(files: Iterable[ReadFile], batch_size: int) -> Iterator[list[ReadFile]]:
    """Neighbours that are alike, at most `batch_size` of them; every other file by itself."""
    batch: list[ReadFile] = []
    for file in files:
        if batch and not batch[0].alike(file):
            yield batch
            batch = []
        batch.append(file)
        if len(batch) == batch_size or not file.small:  # nothing to wait for
            yield batch
            batch = []
    if batch:
        yield batch
