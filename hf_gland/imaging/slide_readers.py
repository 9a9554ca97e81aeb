"""The libraries that open slides, behind one protocol; and a picture in memory behind the same.

OpenSlide comes first. Of a TIFF whose smaller levels are sub-pages, as QuPath and Bio-Formats write OME-TIFF, it sees the
largest level alone, and TIFFs in strips, as ImageJ writes them, it does not open: tifffile reads both. fastslide (0.8.1)
comes last: it paints a tile that it cannot decode white without an error, and was seen to hang on a damaged one, a hole in a
result that nobody hears of. It opens iSyntax, CZI, VSI and QPTIFF.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from hf_gland.errors import ImageError
from hf_gland.imaging.opening import SUFFIXES, check_size, named_errors
from hf_gland.imaging.pixel_size import tiff_pixel_size
from hf_gland.imaging.tiff_pages import Level, inspect_tiff

DICOM_SUFFIX = ".dcm"
MOST_TILE_PX = 4096 * 4096
MOST_KEPT_BYTES = 2**27  # of decoded strips: a row of regions takes a part of each
_RGB, _YCBCR, _JPEG, _SEPARATE = 2, 6, 7, 2  # TIFF's PhotometricInterpretation, Compression, PlanarConfiguration
MISSING = "reading slides needs OpenSlide; install it with: pip install 'hf_gland[slides]'"


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


class TiffLevels:
    """A TIFF through tifffile: 8-bit RGB in tiles or strips; one that is not stored is white. `sub_pages`: whether it has
    levels that are sub-pages."""

    def __init__(self, path: Path, name: str, levels: Sequence[Level]):
        import imagecodecs  # noqa: F401  without it tifffile opens what it cannot decode
        import tifffile

        self._path, self._name, self._lock = path, name, threading.Lock()
        self._strips = OrderedDict[tuple[int, int], np.ndarray]()  # decoded of late
        with named_errors(name), ExitStack() as stack:
            self._file = stack.enter_context(tifffile.TiffFile(path))
            first: Any = self._file.pages[0]
            below: dict[int, Any] = {page.offset: page for page in first.pages or ()}
            pages = {page.offset: page for page in self._file.pages} | below
            self._pages = [pages[level.offset] for level in levels]
            self.sub_pages = any(level.offset in below for level in levels)
            for page in self._pages:
                self._check(page)
            stack.pop_all()
        self.level_hw = tuple((page.imagelength, page.imagewidth) for page in self._pages)
        mpp, self.mpp_source = tiff_pixel_size(first.description, first.get_resolution(), first.resolutionunit)
        self.mpp_xy: tuple[float, float] | None = None if mpp is None else (mpp, mpp)
        self.reader = f"tifffile {tifffile.__version__}"

    def _check(self, page: Any) -> None:
        colours = page.photometric == _RGB or (page.photometric, page.compression) == (_YCBCR, _JPEG)
        if not (colours and page.dtype == np.uint8 and page.samplesperpixel == 3 and page.imagedepth == 1):
            raise ImageError(f"{self._name}: its levels are not 8-bit RGB")
        if not _is_plain(page):
            check_size(f"{self._name}: a part of the file", *_part_hw(page), MOST_TILE_PX)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        page = self._pages[level]
        if _is_plain(page):
            bytes_per_row = 3 * page.imagewidth
            stored = self._stored(page.dataoffsets[0] + y * bytes_per_row, height * bytes_per_row)
            return np.frombuffer(stored, np.uint8).reshape(height, page.imagewidth, 3)[:, x:x + width]
        pixels = np.full((height, width, 3), 255, np.uint8)
        tall, wide = _part_hw(page)
        for row in range(y // tall, (y + height - 1) // tall + 1):
            for column in range(x // wide, (x + width - 1) // wide + 1):
                part = self._part(level, row * -(-page.imagewidth // wide) + column)
                top, left = max(row * tall, y), max(column * wide, x)
                inside = part[top - row * tall:y + height - row * tall, left - column * wide:x + width - column * wide]
                pixels[top - y:top - y + inside.shape[0], left - x:left - x + inside.shape[1]] = inside
        return pixels

    def _part(self, level: int, index: int) -> np.ndarray:
        """A tile or strip, uint8 [h, w, 3]; [0, 0, 3] where none is stored."""
        page = self._pages[level]
        with self._lock:
            if (kept := self._strips.get((level, index))) is not None:
                return kept
        count = len(page.dataoffsets)
        places = range(index, count, count // 3) if page.planarconfig == _SEPARATE else [index]
        if not all(page.databytecounts[place] for place in places):
            return np.empty((0, 0, 3), np.uint8)
        decoded = np.concatenate([self._decode(page, place) for place in places], axis=2)
        if not page.is_tiled:
            with self._lock:
                self._strips[level, index] = decoded
                while len(self._strips) * decoded.nbytes > MOST_KEPT_BYTES:
                    self._strips.popitem(last=False)
        return decoded

    def _decode(self, page: Any, index: int) -> np.ndarray:
        """uint8 [h, w, 3], or one colour of it, [h, w, 1]."""
        stored = self._stored(page.dataoffsets[index], page.databytecounts[index])
        try:
            decoded = page.decode(stored, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
            return decoded.reshape(*decoded.shape[-3:])
        except Exception as error:  # whatever a broken tile leads a decoder into
            raise self._problem(error) from error

    def _stored(self, offset: int, count: int) -> bytes:
        try:
            with self._lock:
                self._file.filehandle.seek(offset)
                stored = self._file.filehandle.read(count)
        except OSError as error:
            raise self._problem(error) from error
        if len(stored) < count:
            raise UnreadableError("the file is cut short")
        return stored

    def _problem(self, error: Exception) -> Exception:
        return (UnreadableError(str(error)) if self._path.exists() else
                ImageError(f"{self._name}: the file has gone while it was read"))

    def close(self) -> None:
        self._file.close()


def _is_plain(page: Any) -> bool:
    """Whether a page of a TIFF is stored as it is, one row after the other."""
    return page.is_memmappable and page.planarconfig != _SEPARATE


def _part_hw(page: Any) -> tuple[int, int]:
    """(height, width) of the tiles of a page of a TIFF, or of its strips."""
    return ((page.tilelength, page.tilewidth) if page.is_tiled else
            (min(page.rowsperstrip, page.imagelength), page.imagewidth))


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
