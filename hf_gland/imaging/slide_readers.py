"""The libraries that open slides, behind one protocol, and which of them opens a file.

OpenSlide comes first. Of a TIFF whose smaller levels are sub-pages, as QuPath and Bio-Formats write OME-TIFF, it sees the
largest level alone, and TIFFs in strips, as ImageJ writes them, it does not open: tifffile reads both. fastslide (0.8.1)
comes last: it paints a tile that it cannot decode white without an error, and was seen to hang on a damaged one, a hole in a
result that nobody hears of. It opens iSyntax, CZI, VSI and QPTIFF.
"""

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hf_gland.errors import ImageError
from hf_gland.imaging.opening import SUFFIXES
from hf_gland.imaging.slide_levels import MOST_TILE_PX, Levels, TileSizeError, UnreadableError
from hf_gland.imaging.tiff_levels import TiffLevels
from hf_gland.imaging.tiff_pages import inspect_tiff

DICOM_SUFFIX = ".dcm"
MISSING = "reading slides needs OpenSlide; install it with: pip install 'hf_gland[slides]'"


class OpenSlideLevels:
    """A slide through OpenSlide: one handle for each thread, as a handle that met a damaged tile refuses all others.

    Where the header says which part of the glass was scanned (MRXS, SCN), that is the slide: QuPath too crops to it and
    counts pixels from its corner.
    """

    def __init__(self, path: Path, name: str):
        import openslide

        self._openslide, self._path, self._name = openslide, path, name
        self._local, self._handles, self._lock = threading.local(), list[Any](), threading.Lock()
        slide = self._handle()
        properties = slide.properties
        (glass_width, glass_height), (left, top, width, height) = slide.dimensions, _scanned(slide)
        self._corner_xy = left, top
        self.level_hw = tuple((max(round(h * height / glass_height), 1), max(round(w * width / glass_width), 1))
                              for w, h in slide.level_dimensions)
        self.reader = f"OpenSlide {openslide.__library_version__}"
        self.mpp_source = f"the slide's header ({properties.get('openslide.vendor', 'unknown format')})"
        self.mpp_xy: tuple[float, float] | None = None
        with suppress(KeyError, ValueError):
            self.mpp_xy = float(properties["openslide.mpp-x"]), float(properties["openslide.mpp-y"])
        self._background = Image.new("RGBA", (1, 1), f"#{properties.get('openslide.background-color', 'ffffff')}")
        self._downsamples = slide.level_downsamples
        self._check_tiles(slide)

    def _check_tiles(self, slide: Any) -> None:
        """A tile is decoded whole, however little of it is read. Some formats' headers do not say how large theirs are; a
        level of NDPI may be one JPEG, which is decoded row by row."""
        if slide.properties.get("openslide.vendor") == "hamamatsu":
            return
        for level in range(len(slide.level_dimensions)):
            width, height = (int(slide.properties.get(f"openslide.level[{level}].tile-{side}", 0))
                             for side in ("width", "height"))
            if width * height > MOST_TILE_PX:
                self.close()
                raise TileSizeError(f"{self._name}: its tiles of {width}×{height} px are too large to be read region by "
                                    "region; convert it to a pyramidal TIFF with tiles of 256 px")

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
        slide, down, (left, top) = self._handle(), self._downsamples[level], self._corner_xy
        try:  # the corner counts in pixels of level 0
            region = slide.read_region((left + round(x * down), top + round(y * down)), level, (width, height))
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


def _scanned(slide: Any) -> tuple[int, int, int, int]:
    """Left, top, width and height of what was scanned, in pixels of level 0; all of it where the header says nothing, or
    nonsense. Bounds are rounded outwards, and may so end beyond level 0."""
    width, height = slide.dimensions
    with suppress(KeyError, ValueError):
        x, y, wide, tall = (int(slide.properties[f"openslide.bounds-{side}"]) for side in ("x", "y", "width", "height"))
        if 0 <= x < width and 0 <= y < height and wide > 0 and tall > 0:
            return x, y, min(wide, width - x), min(tall, height - y)
    return 0, 0, width, height


def dicom_series(path: Path) -> str | None:
    """Which slide a DICOM file is a level of: all levels, each a file, have one SeriesInstanceUID and lie in one folder, and
    OpenSlide opens the slide by any of them. None where it cannot be opened."""
    with suppress(Exception):  # told when it is read
        import openslide

        with openslide.OpenSlide(path) as slide:
            return slide.properties.get("dicom.SeriesInstanceUID")
    return None


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


def open_levels(path: Path, name: str) -> Levels:
    """The first library that opens a slide's file; raises ImageError with what each of them said."""
    try:
        import openslide
    except ImportError as error:
        raise ImageError(f"{name}: {MISSING}") from error
    reasons = []
    tiff: TiffLevels | None = None
    if path.suffix.lower() in SUFFIXES:
        try:
            tiff = TiffLevels(path, name, inspect_tiff(path, name).levels_of(1))
            if tiff.sub_pages:
                return tiff
        except ImportError:
            reasons.append("tifffile and imagecodecs are not installed")
        except ImageError as error:
            reasons.append(f"tifffile: {str(error).removeprefix(f'{name}: ')}")
    try:
        if openslide.OpenSlide.detect_format(path) is not None:
            opened = OpenSlideLevels(path, name)
            if tiff is not None:
                tiff.close()
            return opened
        reasons.append("OpenSlide does not know the format")
    except TileSizeError:
        if tiff is None:
            raise
    except (ImageError, openslide.OpenSlideError) as error:
        reasons.append(str(error).removeprefix(f"{name}: "))
    if tiff is not None:
        return tiff
    try:
        return FastSlideLevels(path, name)
    except ImportError:
        reasons.append("fastslide is not installed")
    except ImageError as error:
        reasons.append(f"fastslide: {str(error).removeprefix(f'{name}: ')}")
    raise ImageError(f"{name}: no slide that can be read ({'; '.join(reasons)}). Copy it again, or convert it to a tiled "
                     "pyramidal TIFF")
