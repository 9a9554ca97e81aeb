"""The levels of a slide, whatever library reads them; and a picture in memory as such."""

from typing import Protocol

import numpy as np

from hf_gland.errors import ImageError

MOST_TILE_PX = 4096 * 4096  # of a tile, which is decoded whole


class UnreadableError(Exception):
    """A part of a slide cannot be decoded; the rest may be."""


class TileSizeError(ImageError):
    """A slide's tiles are too large to be decoded, whatever the library."""


class Levels(Protocol):
    """The levels of one slide. `level_hw`: (height, width) of each, the largest first; `mpp_xy`: µm per pixel of the
    largest as the library gives it, or None; `reader`: the library and its version. May be read by several threads."""

    level_hw: tuple[tuple[int, int], ...]
    mpp_xy: tuple[float, float] | None
    mpp_source: str
    reader: str

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        """uint8 [height, width, 3] at (x, y) in pixels of `level`, wholly inside it; raises UnreadableError, and ImageError
        where the file itself is gone."""
        ...

    def close(self) -> None: ...


class PictureLevels:
    """A picture in memory, as a slide of one level."""

    def __init__(self, rgb: np.ndarray, mpp: float | None, mpp_source: str):
        self._rgb = rgb
        self.level_hw: tuple[tuple[int, int], ...] = ((rgb.shape[0], rgb.shape[1]),)
        self.mpp_xy: tuple[float, float] | None = None if mpp is None else (mpp, mpp)
        self.mpp_source = mpp_source
        self.reader = "Pillow"

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        return self._rgb[y:y + height, x:x + width]

    def close(self) -> None:
        pass
