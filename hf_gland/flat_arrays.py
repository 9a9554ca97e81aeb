"""Arrays of different sizes in one memory-mapped file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np


class FlatArrays:
    """N uint8 arrays [planes, H_i, W_i] one after the other in one file; `self[i]` is a memory-mapped view.

    Sent to another process, it is the file that is opened there, not the pixels that are sent.
    """

    def __init__(self, path: Path, planes: int, sizes: Sequence[tuple[int, int]],
                 mode: Literal["r", "r+"] = "r"):
        self.path, self.planes, self.sizes, self.mode = path, planes, sizes, mode
        self.offsets = np.concatenate([[0], np.cumsum([planes * h * w for h, w in sizes])]).astype(np.int64)
        self.flat = np.memmap(path, np.uint8, mode, shape=(int(self.offsets[-1]),))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.planes, self.sizes, self.mode)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> np.ndarray:
        h, w = self.sizes[index]
        return self.flat[self.offsets[index]:self.offsets[index + 1]].reshape(self.planes, h, w)
