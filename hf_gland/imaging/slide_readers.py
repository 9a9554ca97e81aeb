"""The libraries that open slides, behind one protocol; and a picture in memory behind the same.

OpenSlide comes first. fastslide (0.8.1) reads two to three times as fast, but paints a tile that it cannot decode white
without an error, and was seen to hang on a damaged one: a hole in a result that nobody hears of. It opens what OpenSlide
cannot: iSyntax, CZI, VSI, QPTIFF, and TIFFs in strips.
"""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from hf_gland.errors import ImageError

MISSING = "reading slides needs OpenSlide; install it with: pip install 'hf_gland[slides]'"


class UnreadableError(Exception):
    """A part of a slide cannot be decoded; the rest may be."""


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


class OpenSlideLevels:
    """A slide through OpenSlide: one handle for each thread, as a handle that met a damaged tile refuses all others."""

    def __init__(self, path: Path, name: str):
        import openslide

        self._openslide, self._path, self._name = openslide, path, name
        self._local, self._handles, self._lock = threading.local(), list[Any](), threading.Lock()
        slide = self._handle()
        properties = slide.properties
        self.level_hw = tuple((height, width) for width, height in slide.level_dimensions)
        self.reader = f"OpenSlide {openslide.__library_version__}"
        self.mpp_source = f"the slide's header ({properties.get('openslide.vendor', 'unknown format')})"
        self.mpp_xy: tuple[float, float] | None = None
        with suppress(KeyError, ValueError):
            self.mpp_xy = float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"])
        self._background = Image.new("RGBA", (1, 1), f"#{properties.get('openslide.background-color', 'ffffff')}")
        self._downsamples = slide.level_downsamples

    def _handle(self) -> Any:
        if getattr(self._local, "slide", None) is None:
            try:
                self._local.slide = self._openslide.OpenSlide(self._path)
            except self._openslide.OpenSlideError as error:
                raise ImageError(f"{self._name}: cannot be opened ({error}); copy or export it again") from error
            with self._lock:
                self._handles.append(self._local.slide)
        return self._local.slide

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        slide, down = self._handle(), self._downsamples[level]
        try:  # the corner counts in pixels of level 0
            region = slide.read_region((round(x * down), round(y * down)), level, (width, height))
        except self._openslide.OpenSlideError as error:
            with self._lock:
                self._handles.remove(slide)
            slide.close()
            self._local.slide = None
            if not self._path.exists():
                raise ImageError(f"{self._name}: the file has gone while it was read") from error
            raise UnreadableError(str(error)) from error
        if region.getextrema()[3] != (255, 255):
            region = Image.alpha_composite(self._background.resize(region.size), region)
        return np.asarray(region.convert("RGB"))

    def close(self) -> None:
        with self._lock:
            for slide in self._handles:
                slide.close()
            self._handles.clear()


class FastSlideLevels:
    """A slide through fastslide, whose coordinates count in pixels of the level."""

    def __init__(self, path: Path, name: str):
        import importlib.metadata

        import fastslide

        try:
            self._slide = fastslide.FastSlide.from_file_path(str(path))
        except RuntimeError as error:
            raise ImageError(f"{name}: cannot be opened ({str(error).splitlines()[0]})") from error
        self._path, self._name = path, name
        self.level_hw = tuple((height, width) for width, height in self._slide.level_dimensions)
        if not self.level_hw:
            raise ImageError(f"{name}: holds no level")
        self.mpp_xy: tuple[float, float] | None = self._slide.mpp if min(self._slide.mpp) > 0 else None
        self.mpp_source = f"the slide's header ({self._slide.format})"
        self.reader = f"fastslide {importlib.metadata.version('fastslide')}"

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        try:
            pixels = self._slide.read_region((x, y), level, (width, height)).numpy()
        except RuntimeError as error:
            if not self._path.exists():
                raise ImageError(f"{self._name}: the file has gone while it was read") from error
            raise UnreadableError(str(error)) from error
        if pixels.dtype != np.uint8 or pixels.shape != (height, width, 3):
            raise ImageError(f"{self._name}: not a slide of 8-bit RGB, but {pixels.dtype} of {pixels.shape[-1]} channels; "
                             "export it as RGB first")
        return pixels

    def close(self) -> None:
        self._slide.close()


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


def open_levels(path: Path, name: str) -> Levels:
    """The first library that opens a slide's file; raises ImageError with what each of them said."""
    try:
        import openslide
    except ImportError as error:
        raise ImageError(f"{name}: {MISSING}") from error
    reasons = []
    try:
        if openslide.OpenSlide.detect_format(path) is not None:
            return OpenSlideLevels(path, name)
        reasons.append("OpenSlide does not know the format")
    except (ImageError, openslide.OpenSlideError) as error:
        reasons.append(str(error).removeprefix(f"{name}: "))
    try:
        return FastSlideLevels(path, name)
    except ImportError:
        reasons.append("fastslide is not installed")
    except ImageError as error:
        reasons.append(f"fastslide: {str(error).removeprefix(f'{name}: ')}")
    raise ImageError(f"{name}: no slide that can be read ({'; '.join(reasons)}). Copy it again, or convert it to a tiled "
                     "pyramidal TIFF")
