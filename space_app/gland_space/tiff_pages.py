"""What is inside a TIFF: one picture, the levels of a pyramid, or a stack of pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image, TiffImagePlugin

from hf_gland.imaging.pictures import ImageError

MAX_PAGES = 1000
_SAME_SHAPE = 0.02  # aspect ratios of a pyramid's levels differ by rounding, not by more than this


@dataclass(frozen=True)
class Level:
    """One picture of a file: its size (height, width), its top-level page, and its place among the sub-pages."""

    hw: tuple[int, int]
    page: int
    sub_page: int | None = None


@dataclass(frozen=True)
class Pages:
    """`pyramids[p]`: the levels of page p, the largest first. A stack has several pages, a pyramid one."""

    pyramids: tuple[tuple[Level, ...], ...]
    name: str

    @property
    def count(self) -> int:
        return len(self.pyramids)

    @property
    def levels(self) -> int:
        return len(self.pyramids[0])

    def full_hw(self, page: int) -> tuple[int, int]:
        return self._levels_of(page)[0].hw

    def level_for(self, page: int, side_px: int, max_px: int) -> Level:
        """The smallest level of a page (from 1) with a longer side of `side_px` or more, or the largest there is.

        Levels of more than `max_px` pixels are passed over while there are others.
        """
        levels = self._levels_of(page)
        feasible = [level for level in levels if level.hw[0] * level.hw[1] <= max_px] or [levels[-1]]
        enough = [level for level in feasible if max(level.hw) >= side_px]
        return enough[-1] if enough else feasible[0]

    def _levels_of(self, page: int) -> tuple[Level, ...]:
        if not 1 <= page <= self.count:
            raise ImageError(f"{self.name}: has no page {page}; it holds {self.count}")
        return self.pyramids[page - 1]


def inspect_tiff(path: Path, name: str) -> Pages:
    """The pages and levels of a TIFF, from its headers alone; raises ImageError."""
    try:
        with tifffile.TiffFile(path) as tiff:
            if len(tiff.pages) > MAX_PAGES:
                raise ImageError(f"{name}: holds more than {MAX_PAGES} pages; save the one to segment as a file of its "
                                 "own")
            tops = [_page_hw(page) for page in tiff.pages]
            subs = [[_page_hw(sub) for sub in page.pages or ()] for page in tiff.pages
                    if isinstance(page, tifffile.TiffPage)]
    except ImageError:
        raise
    except Exception as error:  # tifffile raises whatever a broken file leads it into
        raise ImageError(f"{name}: the file is damaged or cut short ({error}); copy or export it again") from error
    if not tops or any(0 in hw for hw in tops):
        raise ImageError(f"{name}: the file is damaged or cut short: it holds no picture; copy or export it again")
    return Pages(_group(tops, [*subs, *([] for _ in tops[len(subs):])]), name)


def _page_hw(page: tifffile.TiffPage | tifffile.TiffFrame) -> tuple[int, int]:
    whole = page.aspage()
    return int(whole.imagelength), int(whole.imagewidth)


def _group(tops: Sequence[tuple[int, int]], subs: Sequence[Sequence[tuple[int, int]]]) -> tuple[tuple[Level, ...], ...]:
    first = tops[0]
    smaller = [index for index, hw in enumerate(tops[1:], start=1) if max(hw) < max(first)]
    if len(tops) > 1 and len(smaller) == len(tops) - 1:
        # A whole first page and only smaller ones after it: a pyramid; label and overview pictures have another shape.
        levels = [Level(first, 0), *(Level(tops[index], index) for index in smaller if _alike(tops[index], first))]
        return (_by_size([*levels, *_sub_levels(0, first, subs[0])]),)
    return tuple(_by_size([Level(hw, index), *_sub_levels(index, hw, sub)])
                 for index, (hw, sub) in enumerate(zip(tops, subs, strict=True)))


def _sub_levels(page: int, hw: tuple[int, int], subs: Sequence[tuple[int, int]]) -> list[Level]:
    return [Level(sub, page, index) for index, sub in enumerate(subs) if _alike(sub, hw) and 0 not in sub]


def _by_size(levels: Sequence[Level]) -> tuple[Level, ...]:
    return tuple(sorted(levels, key=lambda level: -level.hw[0] * level.hw[1]))


def _alike(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return abs(a[1] * b[0] - b[1] * a[0]) <= max(_SAME_SHAPE * a[1] * b[0], max(b) * 1.5)


def read_level(path: Path, name: str, level: Level) -> Image.Image | np.ndarray:
    """The pixels of one level, decoded; raises ImageError.

    Pillow brings every usual codec, tifffile reads sub-pages and 16-bit colour: whichever can do it does.
    """
    problem: Exception | None = None
    if level.sub_page is None:
        try:
            with TiffImagePlugin.TiffImageFile(path) as image:
                image.seek(level.page)
                return image.copy()
        except (OSError, SyntaxError, ValueError, EOFError, MemoryError) as error:
            problem = error
    try:
        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages[level.page].aspage()
            if level.sub_page is not None:
                assert page.pages is not None  # it was listed
                page = page.pages[level.sub_page].aspage()
            return _interleaved(page.asarray())
    except Exception as error:  # tifffile again
        raise ImageError(f"{name}: the file is damaged, cut short, or compressed in a way that cannot be read "
                         f"({problem or error}); export it again as RGB with LZW, deflate or JPEG compression") from error


def _interleaved(pixels: np.ndarray) -> np.ndarray:
    """[3, H, W] planes as [H, W, 3]."""
    planes = pixels.ndim == 3 and pixels.shape[0] in (3, 4) and pixels.shape[2] not in (3, 4)
    return np.moveaxis(pixels, 0, -1) if planes else pixels
