"""Maps of a slide as pyramidal OME-TIFF files, for QuPath and Bio-Formats; memory is bounded by a row of tiles.

Compressed tiles of all levels go to an unnamed file on the same disk as they are ready, since a TIFF holds one level after
the other; the end copies them into place.
"""

import tempfile
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hf_gland.export.slide_writer import SlideInfo, SlideWriter
from hf_gland.options import ExportOptions

TILE_PX = 512
_EMPTY = zlib.compress(bytes(TILE_PX * TILE_PX), 1)  # most tiles of most slides
_NAMESPACE = uuid.UUID("1c3a59a6-30a2-5a0c-8d52-6f4c8f1d2e77")


class _Level:
    """One level: rows gather until they make a row of tiles, which is compressed, and halved for the level below."""

    def __init__(self, hw: tuple[int, int], spool: BinaryIO, halve: Callable[[np.ndarray], np.ndarray]):
        self.hw, self._spool, self._halve = hw, spool, halve
        self.below = None if max(hw) <= TILE_PX else _Level(((hw[0] + 1) // 2, (hw[1] + 1) // 2), spool, halve)
        columns = -(-hw[1] // TILE_PX)
        self._rows = np.zeros((TILE_PX, columns * TILE_PX), np.uint8)
        self._filled = self._done = 0
        self._places: list[tuple[int, int]] = []  # offset in the spool and length of each tile

    def add(self, rows: np.ndarray) -> None:
        while len(rows):
            end = min(TILE_PX, self.hw[0] - self._done)
            taken = rows[:end - self._filled]
            self._rows[self._filled:self._filled + len(taken), :self.hw[1]] = taken
            self._filled += len(taken)
            rows = rows[len(taken):]
            if self._filled == end:
                self._rows[end:] = 0
                for left in range(0, self._rows.shape[1], TILE_PX):
                    tile = zlib.compress(self._rows[:, left:left + TILE_PX].tobytes(), 1) if (
                        self._rows[:, left:left + TILE_PX].any()) else _EMPTY
                    self._places.append((self._spool.tell(), len(tile)))
                    self._spool.write(tile)
                if self.below is not None:
                    self.below.add(self._halve(self._rows[:end, :self.hw[1]]))
                self._done, self._filled = self._done + end, 0

    def tiles(self) -> Iterator[bytes]:
        """Compressed tiles in raster order."""
        for offset, length in self._places:
            self._spool.seek(offset)
            yield self._spool.read(length)


class PyramidWriter(SlideWriter):
    """An 8-bit map, row after row, as the pyramid of an OME-TIFF with deflate in tiles of 512 px; each level halves the one
    above by `halve`, which maps uint8 [h, w] to [⌈h / 2⌉, ⌈w / 2⌉], down to one tile.
    """

    def __init__(self, file: BinaryIO, slide: SlideInfo, about: str, halve: Callable[[np.ndarray], np.ndarray]):
        self._file, self._slide, self._about = file, slide, about
        self._spool = tempfile.TemporaryFile(dir=Path(file.name).parent)  # noqa: SIM115 - closed by finish, or with its writer
        self._base = _Level((slide.hw[0], slide.hw[1]), self._spool, halve)

    def add_rows(self, rows: np.ndarray) -> None:
        """The next rows, uint8 [h, W]."""
        self._base.add(rows)

    def finish(self) -> None:
        import tifffile  # only here: pictures need none

        levels = [self._base]
        while levels[-1].below is not None:
            levels.append(levels[-1].below)
        mpp = self._slide.mpp
        name = f"{self._slide.name}: {self._about}"
        # An id of its own making, so that the same map gives the same bytes.
        metadata: dict[str, Any] = {"axes": "YX", "Name": name, "UUID": str(uuid.uuid5(_NAMESPACE, name))}
        if mpp is not None:
            metadata |= {"PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
        with tifffile.TiffWriter(self._file, bigtiff=True, ome=True) as writer:
            for number, level in enumerate(levels):
                size: dict[str, Any] = {}
                if mpp is not None:
                    size = {"resolution": (1e4 / mpp / 2**number,) * 2, "resolutionunit": "CENTIMETER"}
                writer.write(level.tiles(), shape=level.hw, dtype=np.uint8, tile=(TILE_PX, TILE_PX),
                             compression="zlib", photometric="minisblack", subfiletype=int(number > 0),
                             metadata=None if number else metadata, subifds=0 if number else len(levels) - 1, **size)
        self._spool.close()


class ClassesWriter(PyramidWriter):
    """Class ids; lower levels keep the upper left of every four pixels, so that no id arises that is not there."""

    def __init__(self, file: BinaryIO, slide: SlideInfo, options: ExportOptions):
        super().__init__(file, slide, "class ids", lambda rows: rows[::2, ::2])

    def add_classes(self, rows: np.ndarray) -> None:
        self.add_rows(rows)


class ConfidenceWriter(PyramidWriter):
    """Confidence in percent; lower levels are means."""

    def __init__(self, file: BinaryIO, slide: SlideInfo, options: ExportOptions):
        super().__init__(file, slide, "confidence in percent", _mean_of_four)

    def add_confidence(self, rows: np.ndarray) -> None:
        self.add_rows(rows)


def _mean_of_four(rows: np.ndarray) -> np.ndarray:
    padded = np.pad(rows, [(0, side % 2) for side in rows.shape], "edge").astype(np.uint16)
    return ((padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2] + 2) // 4).astype(np.uint8)
