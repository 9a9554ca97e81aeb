"""The levels of a TIFF through tifffile: those that OpenSlide does not see, and strips."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from hf_gland.errors import ImageError
from hf_gland.imaging.opening import check_size, named_errors
from hf_gland.imaging.pixel_size import tiff_pixel_size
from hf_gland.imaging.slide_levels import MOST_TILE_PX, UnreadableError
from hf_gland.imaging.tiff_pages import Level

MOST_KEPT_BYTES = 2**27  # of decoded strips: a row of regions takes a part of each
_RGB, _YCBCR, _JPEG, _SEPARATE = 2, 6, 7, 2  # TIFF's PhotometricInterpretation, Compression, PlanarConfiguration


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
