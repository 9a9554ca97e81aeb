"""What is inside a TIFF: one picture, the levels of a pyramid, or a stack of pages; and one of them as a Pillow image."""

import io
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from PIL import Image, TiffImagePlugin

from hf_gland.errors import ImageError
from hf_gland.imaging.opening import check_size, named_errors
from hf_gland.imaging.tiff_storage import is_plain, plain_copy

MAX_PAGES = 1000
_SAME_SHAPE = 0.02  # aspect ratios of a pyramid's levels differ by rounding, not by more than this
_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _SUB_PAGES = 256, 257, 322, 323, 330
_READ_TAGS = (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT, _SUB_PAGES)
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


@dataclass(frozen=True)
class Level:
    """One picture of a file: its size (height, width), that of its tiles, and where in the file its directory lies."""

    hw: tuple[int, int]
    tile_hw: tuple[int, int]
    offset: int


@dataclass(frozen=True)
class Pages:
    """`pyramids[p]`: the levels of page p, the largest first. A stack has several pages, a pyramid one."""

    pyramids: tuple[tuple[Level, ...], ...]
    name: str

    @property
    def count(self) -> int:
        return len(self.pyramids)

    def levels_of(self, page: int) -> tuple[Level, ...]:
        """The levels of a page, from 1; raises ImageError where there is no such page."""
        if not 1 <= page <= self.count:
            raise ImageError(f"{self.name}: has no page {page}; it holds {self.count}")
        return self.pyramids[page - 1]

    def level_for(self, page: int, side_px: int | None, max_px: int) -> Level:
        """The smallest level of a page (from 1) with a longer side of `side_px` or more, or the largest there is (None).

        With a `side_px`, levels of more than `max_px` pixels are passed over while there are others.
        """
        levels = self.levels_of(page)
        if side_px is None:
            return levels[0]
        feasible = [level for level in levels if level.hw[0] * level.hw[1] <= max_px] or [levels[-1]]
        enough = [level for level in feasible if max(level.hw) >= side_px]
        return enough[-1] if enough else feasible[0]


def inspect_tiff(path: Path, name: str) -> Pages:
    """The pages and levels of a TIFF, from its directories alone; raises ImageError."""
    with named_errors(name), path.open("rb") as file:
        tops, subs = _all_pages(file, name)
    if not tops or any(0 in level.hw for level in tops):
        raise ImageError(f"{name}: the file is damaged or cut short: it holds no picture; copy or export it again")
    return Pages(_group(tops, subs), name)


@contextmanager
def open_level(path: Path, name: str, level: Level, max_pixels: int) -> Iterator[Image.Image]:
    """One level as a Pillow image to be decoded inside the `with`, whatever page or sub-page it is; raises ImageError."""
    for hw in (level.hw, level.tile_hw):
        check_size(name, *hw, max_pixels)
    with named_errors(name), _StartingAt(path, level.offset) as file:
        try:
            image = TiffImagePlugin.TiffImageFile(file)
            plain = is_plain(image)
        except SyntaxError:  # a compression or a kind of pixel that Pillow does not know
            plain = False
        with image if plain else TiffImagePlugin.TiffImageFile(plain_copy(file, name, level.hw)) as opened:
            yield opened


class _StartingAt(io.BufferedReader):
    """A TIFF file whose header names another directory as the first: Pillow reads that one."""

    def __init__(self, path: Path, offset: int):
        super().__init__(io.FileIO(path))
        start = super().read(8)
        order, big = _layout(start)
        self._header = start + struct.pack(f"{order}Q", offset) if big else start[:4] + struct.pack(f"{order}I", offset)
        self.seek(0)

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        data = super().read(size)
        changed = self._header[at:at + len(data)]
        return changed + data[len(changed):]


def _layout(start: bytes) -> tuple[str, bool]:
    """Byte order for `struct`, and whether offsets have 64 bits."""
    order = "<" if start[:2] == b"II" else ">"
    return order, start[2:4] in (b"+\0", b"\0+")


def _all_pages(file: BinaryIO, name: str) -> tuple[list[Level], list[list[Level]]]:
    """Each page in the chain, and its sub-pages."""
    start = file.read(16)
    order, big = _layout(start)
    size = file.seek(0, io.SEEK_END)
    (offset,) = struct.unpack_from(f"{order}Q" if big else f"{order}I", start, 8 if big else 4)
    tops: list[Level] = []
    subs: list[list[Level]] = []
    known: set[int] = set()
    room = size

    def read(offset: int) -> tuple[Level, Sequence[int], int]:
        nonlocal room
        known.add(offset)
        tags, following, claimed = _directory(file, offset, order, big)
        # Pillow keeps the bytes of every tag: tags that overlap make much memory of a small file.
        room -= claimed
        if len(known) > MAX_PAGES or room < 0:
            raise ImageError(f"{name}: holds more than {MAX_PAGES} pages, or its directory is damaged; save the one to "
                             "segment as a file of its own")
        height, width = tags.get(_HEIGHT, [0])[0], tags.get(_WIDTH, [0])[0]
        tile_hw = (tags.get(_TILE_HEIGHT, [1])[0], tags.get(_TILE_WIDTH, [1])[0])
        return Level((height, width), tile_hw, offset), tags.get(_SUB_PAGES, ()), following

    while offset and offset not in known:
        level, below, offset = read(offset)
        tops.append(level)
        subs.append([read(sub)[0] for sub in below if sub not in known])
    return tops, subs


def _directory(file: BinaryIO, offset: int, order: str, big: bool) -> tuple[dict[int, tuple[int, ...]], int, int]:
    """The tags of _READ_TAGS in the directory at `offset`, the offset of the next one, and how many bytes it claims."""
    entry, word, inline = (f"{order}HHQ8s", f"{order}Q", 8) if big else (f"{order}HHI4s", f"{order}I", 4)
    file.seek(offset)
    count_format = f"{order}Q" if big else f"{order}H"
    (count,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
    if count > 4096:
        raise ValueError("a directory of more than 4096 tags")
    table = file.read(count * struct.calcsize(entry))
    (following,) = struct.unpack(word, file.read(inline))
    tags, claimed = {}, len(table)
    for tag, kind, number, value in struct.iter_unpack(entry, table):
        length = number * _TYPE_BYTES.get(kind, 1)
        claimed += length if length > inline else 0
        if tag in _READ_TAGS and kind in _INTEGERS and 0 < number <= MAX_PAGES:
            if length > inline:
                file.seek(struct.unpack(word, value)[0])
                value = file.read(length)
            tags[tag] = struct.unpack(f"{order}{number}{_INTEGERS[kind]}", value[:length])
    return tags, following, claimed


def _group(tops: Sequence[Level], subs: Sequence[Sequence[Level]]) -> tuple[tuple[Level, ...], ...]:
    first = tops[0]
    smaller = [level for level in tops[1:] if max(level.hw) < max(first.hw)]
    if len(tops) > 1 and len(smaller) == len(tops) - 1:
        # A whole first page and only smaller ones after it: a pyramid; label and overview pictures have another shape.
        return (_by_size([first, *(level for level in (*smaller, *subs[0]) if _alike(level.hw, first.hw))]),)
    return tuple(_by_size([top, *(level for level in below if _alike(level.hw, top.hw))])
                 for top, below in zip(tops, subs, strict=True))


def _by_size(levels: Sequence[Level]) -> tuple[Level, ...]:
    return tuple(sorted(levels, key=lambda level: -level.hw[0] * level.hw[1]))


def _alike(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return 0 not in a and abs(a[1] * b[0] - b[1] * a[0]) <= max(_SAME_SHAPE * a[1] * b[0], max(b) * 1.5)
