"""Image files read by a helper thread before they are needed, and put together where they are alike."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

from hf_gland.errors import HfGlandError
from hf_gland.imaging.appearance import USUAL_LOOK, Look
from hf_gland.imaging.opening import displayable
from hf_gland.imaging.pictures import Picture, read_picture


@dataclass(frozen=True, eq=False)
class ReadFile:
    """A file's picture, its pixels as stored, or why there is none. `small`: it fits one tile; `look`: to the model."""

    path: Path
    seconds: float
    picture: Picture | None = None
    small: bool = False
    look: Look = USUAL_LOOK
    error: str | None = None

    def alike(self, other: "ReadFile") -> bool:
        """Whether both can go through a network together."""
        return (self.picture is not None and other.picture is not None and self.small and other.small
                and self.picture.rgb.shape == other.picture.rgb.shape and self.picture.mpp == other.picture.mpp)


def read_ahead(helper: Executor, paths: Iterable[str | Path], count: int,
               seen: Callable[[Picture], tuple[bool, Look]]) -> Iterator[ReadFile]:
    """The files in their order, read by the helper before they are asked for; `seen` says whether a picture fits one tile,
    and how it looks to the model.

    Up to `count` of them wait in memory while the files are small (see ReadFile), and one after a file that is not, and
    before the first, whose size is not known yet.
    """
    def read(path: Path) -> ReadFile:
        started = time.perf_counter()
        try:
            picture = read_picture(path, upright=False)
            small, look = seen(picture)
            return ReadFile(path, time.perf_counter() - started, picture, small, look)
        except (HfGlandError, MemoryError) as error:
            problem = (str(error) if isinstance(error, HfGlandError) else
                       f"{displayable(path)}: too large for the memory of this machine; crop it")
            return ReadFile(path, time.perf_counter() - started, error=problem)

    waiting: deque[Future[ReadFile]] = deque()
    small = False
    for path in map(Path, paths):
        waiting.append(helper.submit(read, path))
        while len(waiting) > (count if small else min(count, 1)):
            file = waiting.popleft().result()
            small = file.small or file.picture is None
            yield file
    while waiting:
        yield waiting.popleft().result()


def batches(files: Iterable[ReadFile], batch_size: int) -> Iterator[list[ReadFile]]:
    """Lists of up to `batch_size` files that follow one another and are alike (of one size, no larger than a tile).

    A file that is not like its neighbours is a list of its own. A list is handed on as soon as it is full or its file is
    large, without waiting for the file after it.
    """
    batch: list[ReadFile] = []
    for file in files:
        if batch and not batch[0].alike(file):
            yield batch
            batch = []
        batch.append(file)
        if len(batch) == batch_size or not file.small:
            yield batch
            batch = []
    if batch:
        yield batch
