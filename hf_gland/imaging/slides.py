"""Any picture or slide, region by region, at whatever pixel size is wanted."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hf_gland.errors import ImageError, PixelSizeError
from hf_gland.imaging.opening import MAX_PIXELS, SUFFIXES, TIFF_STARTS, displayable, first_bytes, open_image
from hf_gland.imaging.pictures import read_picture
from hf_gland.imaging.pixel_size import PLAUSIBLE_MPP, stated_pixel_size
from hf_gland.imaging.slide_levels import Levels, PictureLevels, UnreadableError
from hf_gland.imaging.slide_readers import DICOM_SUFFIX, open_levels
from hf_gland.imaging.tiff_pages import inspect_tiff

SLIDE_SUFFIXES = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".svslide", ".bif", DICOM_SUFFIX, ".qptiff", ".isyntax",
                  ".i2syntax", ".czi", ".vsi")
MOST_SOURCE_PX = 4096 * 4096  # decoded at a time
MOST_PICTURE_PX = 2**29  # of a PNG, JPEG, BMP or WebP that is gone through as a slide: decoded whole, it takes 1.6 GB
SMALLEST_READ_PX = 64  # a part that cannot be decoded is narrowed down to this
_LANCZOS_REACH = 3  # output pixels on either side that a resampled one depends on
_LEVEL_TOLERANCE = 1.01  # sizes of levels are rounded


Part = tuple[int, int, int, int]  # left, top, width, height in pixels of a level


class Box(NamedTuple):
    """A rectangle in pixels of the largest level."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class Region:
    """rgb uint8 [h, w, 3]; `unreadable`: where the file could not be decoded and white stands instead."""

    rgb: np.ndarray
    unreadable: tuple[Box, ...] = ()


class Slide:
    """One picture or slide. `hw`: (height, width) of the largest level; `level_hw`: of each; `mpp_xy`: µm per pixel along x
    and y as the file states it, or None, and `mpp_source`, where it does so; `reader`: the library that reads it."""

    def __init__(self, levels: Levels, name: str, mpp_xy: tuple[float, float] | None, mpp_source: str):
        self._levels = levels
        self.name = name
        self.hw, self.level_hw, self.reader = levels.level_hw[0], levels.level_hw, levels.reader
        self.mpp_xy, self.mpp_source = mpp_xy, mpp_source

    def region(self, box: Box, hw: tuple[int, int]) -> Region:
        """What lies in `box`, inside the slide, resampled to `hw`: from the level next larger than that, by the same filter
        and at the same phase as the whole slide would be, so that regions side by side fit. Raises ImageError."""
        level = self._level_for(min(box.width / hw[1], box.height / hw[0]))
        down_y, down_x = (full / own for full, own in zip(self.hw, self.level_hw[level], strict=True))
        source = Box(box.left / down_x, box.top / down_y, box.width / down_x, box.height / down_y)
        if source.width * source.height > MOST_SOURCE_PX and max(hw) > 1:
            return self._in_halves(box, hw)
        left, right = _with_margin(source.left, source.width, hw[1], self.level_hw[level][1])
        top, bottom = _with_margin(source.top, source.height, hw[0], self.level_hw[level][0])
        pixels, holes = self._read(level, left, top, right - left, bottom - top)
        edges = (source.left - left, source.top - top, min(source.left + source.width - left, right - left),
                 min(source.top + source.height - top, bottom - top))
        unreadable = tuple(Box(x * down_x, y * down_y, w * down_x, h * down_y) for x, y, w, h in holes)
        if edges == (0, 0, hw[1], hw[0]) and pixels.shape[:2] == hw:
            return Region(pixels, unreadable)
        resized = Image.fromarray(pixels).resize(hw[::-1], Image.Resampling.LANCZOS, box=edges, reducing_gap=3.0)
        return Region(np.asarray(resized), unreadable)

    def whole(self, longest_px: int) -> Region:
        """The whole slide at no more than `longest_px` a side."""
        scale = max(max(self.hw) / longest_px, 1.0)
        return self.region(Box(0, 0, self.hw[1], self.hw[0]), (max(round(self.hw[0] / scale), 1),
                                                               max(round(self.hw[1] / scale), 1)))

    def close(self) -> None:
        self._levels.close()

    def _level_for(self, scale: float) -> int:
        """The smallest level with at least one pixel for each that is wanted; `scale`: pixels of level 0 per wanted one."""
        enough = [i for i, hw in enumerate(self.level_hw) if self.hw[1] / hw[1] <= scale * _LEVEL_TOLERANCE]
        return min(enough or [0], key=lambda i: self.level_hw[i])

    def _in_halves(self, box: Box, hw: tuple[int, int]) -> Region:
        wide = hw[1] >= hw[0]
        first = (hw[0], hw[1] // 2) if wide else (hw[0] // 2, hw[1])
        second = (hw[0], hw[1] - first[1]) if wide else (hw[0] - first[0], hw[1])
        width, height = box.width * first[1] / hw[1], box.height * first[0] / hw[0]
        one = self.region(Box(box.left, box.top, width, height), first)
        other = self.region(Box(box.left + width, box.top, box.width - width, height) if wide else
                            Box(box.left, box.top + height, width, box.height - height), second)
        return Region(np.concatenate([one.rgb, other.rgb], int(wide)), one.unreadable + other.unreadable)

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, list[Part]]:
        """Pixels of a level, and the parts of it that cannot be decoded, which are white."""
        try:
            return self._levels.read(level, x, y, width, height), []
        except UnreadableError:
            if max(width, height) <= SMALLEST_READ_PX:
                return np.full((height, width, 3), 255, np.uint8), [(x, y, width, height)]
        if width >= height:
            half = width // 2
            parts = [self._read(level, x, y, half, height), self._read(level, x + half, y, width - half, height)]
        else:
            half = height // 2
            parts = [self._read(level, x, y, width, half), self._read(level, x, y + half, width, height - half)]
        return np.concatenate([pixels for pixels, _ in parts], int(width >= height)), parts[0][1] + parts[1][1]


def is_slide(path: Path, name: str | None = None) -> bool:
    """Whether a file is to be read region by region: a scanner's format, a pyramid, or a TIFF above the limit of pictures.

    `name` is what errors call it. Raises ImageError for a file that is not there or damaged.
    """
    name = name or displayable(path)
    if path.suffix.lower() in SLIDE_SUFFIXES:
        return True
    if not first_bytes(path, name).startswith(TIFF_STARTS):
        return False
    pages = inspect_tiff(path, name)
    (height, width), levels = pages.pyramids[0][0].hw, pages.pyramids[0]
    return pages.count == 1 and (len(levels) > 1 or height * width > MAX_PIXELS)


def is_large_picture(path: Path) -> bool:
    """Whether a picture is above the limit of those that are predicted at once. Raises ImageError."""
    with open_image(path, displayable(path), max_pixels=None) as image:
        return image.height * image.width > MAX_PIXELS


@contextmanager
def open_slide(path: Path, name: str | None = None, most_picture_px: int = MAX_PIXELS) -> Iterator[Slide]:
    """A slide, or a picture of up to `most_picture_px` as a slide of one level (its pixels as the file stores them); raises
    ImageError."""
    label = name or displayable(path)
    first_bytes(path, label)
    levels: Levels
    if is_slide(path, label):
        levels = open_levels(path, label)
        mpp_xy, source = levels.mpp_xy, levels.mpp_source
        if (mpp_xy is None or not _plausible(*mpp_xy)) and path.suffix.lower() in SUFFIXES:
            with suppress(ImageError), open_image(path, label, max_pixels=None) as image:
                mpp, where = stated_pixel_size(image)  # OpenSlide reads no OME metadata, and printing resolutions
                if mpp is not None:
                    mpp_xy, source = (mpp, mpp), where
    else:
        picture = read_picture(path, name=label, upright=False, max_pixels=most_picture_px)
        levels = PictureLevels(picture.rgb, picture.mpp, picture.mpp_source)
        mpp_xy, source = levels.mpp_xy, levels.mpp_source
    try:
        yield Slide(levels, label, mpp_xy, source)
    finally:
        levels.close()


def slide_mpp(slide: Slide, given: float | None) -> tuple[tuple[float, float], str, tuple[str, ...]]:
    """µm per pixel of the largest level along x and y, where it comes from, and notes; `given` takes precedence.

    Raises PixelSizeError where it is unknown or implausible: at a wrong one every outline would be wrong.
    """
    stated = slide.mpp_xy
    low, high = PLAUSIBLE_MPP
    plausible = f"plausible are {low:g} to {high:g}; a 20× scan has about 0.5, a 40× scan about 0.25"
    if given is not None:
        if not low <= given <= high:
            raise PixelSizeError(f"{slide.name}: {given:g} µm per pixel was given; {plausible}")
        notes: tuple[str, ...] = ()
        if stated is not None and any(abs(mpp / given - 1) > 0.1 for mpp in stated):
            notes = (f"The file states {stated[0]:g} µm per pixel ({slide.mpp_source}), not {given:g}.",)
        return (given, given), "given by the user", notes
    if stated is None:
        raise PixelSizeError(f"{slide.name}: the file states no pixel size; give it with --mpp ({plausible})")
    if not _plausible(*stated):
        raise PixelSizeError(f"{slide.name}: {slide.mpp_source} states {stated[0]:g} × {stated[1]:g} µm per pixel; "
                             f"{plausible}. Give the right one with --mpp")
    return stated, slide.mpp_source, ()


def _plausible(mpp_x: float, mpp_y: float) -> bool:
    low, high = PLAUSIBLE_MPP
    return low <= mpp_x <= high and low <= mpp_y <= high and 0.8 <= mpp_x / mpp_y <= 1.25


def _with_margin(start: float, length: float, out_px: int, side_px: int) -> tuple[int, int]:
    """The whole pixels from which `out_px` are resampled, those at the border included."""
    reach = 0 if length == out_px and start == int(start) else int(_LANCZOS_REACH * max(length / out_px, 1)) + 2
    return max(int(start) - reach, 0), min(int(np.ceil(start + length)) + reach, side_px)

