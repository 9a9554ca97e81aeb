"""Slides: an overview for the stage, tiles that sharpen it, the part for the model, and the command for all of it."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from gland_space.analysis import MAX_SHOWN_PX, data_uri
from gland_space.model_source import ModelSource
from gland_space.pictures import MEGAPIXEL, Limits, check_large_enough, read_picture, safe_name
from hf_gland.errors import HfGlandError, ImageError
from hf_gland.imaging.opening import check_size
from hf_gland.imaging.pictures import Picture, reduced
from hf_gland.imaging.pixel_size import working_hw
from hf_gland.imaging.slide_levels import PictureLevels
from hf_gland.imaging.slides import Box, Slide, is_slide, open_slide

TILE_PX = 512
THREADS = 2  # that read the tiles of one request
MOST_TILES, MOST_LEVEL = 16, 12  # of one request
UNREADABLE = "Some of it cannot be decoded and is white here."
LEAST_OVERVIEW_PX = 1024  # a level at least this long is shown as it is; a smaller one would look blurred


class PartError(HfGlandError):
    """The part of a slide that was chosen cannot be segmented; the message is for the user."""


def opens_as_slide(path: Path) -> bool:
    """Whether a file is shown tile by tile. What cannot be told, reading it as a picture will say."""
    try:
        return is_slide(path)
    except ImageError:
        return False


def read_overview(path: Path, limits: Limits) -> Picture:
    """The whole slide from the level that fits the stage; raises ImageError with a message for the user."""
    name = safe_name(path.name)
    with open_slide(path, name) as slide:
        longest = [max(hw) for hw in slide.level_hw]
        side = next((px for px in longest if LEAST_OVERVIEW_PX <= px <= MAX_SHOWN_PX), min(MAX_SHOWN_PX, longest[0]))
        height, width = min(hw for hw in slide.level_hw if max(hw) >= side)
        mpp = None if slide.mpp_xy is None else round((slide.mpp_xy[0] * slide.mpp_xy[1])**0.5, 4)
        notes = (f"A slide of {slide.hw[1]}×{slide.hw[0]} px, read by {slide.reader}.",)
        check_size(name, height, width, limits.max_decoded_px)
        return Picture(slide.whole(side).rgb, name, slide.hw, mpp, slide.mpp_source, notes=notes)


def tile_images(path: Path, overview: Picture, asked: Mapping[str, Any]) -> list[str]:
    """Tiles as JPEG `data:` addresses. `asked`: `level`, of which a pixel is 2**level pixels of the file wide, and `at`, the
    (column, row) of each tile of TILE_PX pixels a side. Raises ImageError, and PartError for what is no tile."""
    try:
        level, places = int(asked["level"]), [(int(column), int(row)) for column, row in asked["at"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PartError("No such tiles.") from error
    if not 0 <= level <= MOST_LEVEL or 2**level > 2 * overview.reduction or not 0 < len(places) <= MOST_TILES:
        raise PartError("No such tiles.")
    side, (height, width) = TILE_PX * 2**level, overview.full_hw
    if not all(0 <= column * side < width and 0 <= row * side < height for column, row in places):
        raise PartError("No such tiles.")
    with _read_for(path, overview, level) as slide, ThreadPoolExecutor(THREADS) as threads:
        down, right = slide.hw[0] / height, slide.hw[1] / width

        def tile(place: tuple[int, int]) -> str:
            left, top = place[0] * side, place[1] * side
            wide, tall = min(side, width - left), min(side, height - top)
            hw = max(round(tall / 2**level), 1), max(round(wide / 2**level), 1)
            return data_uri(slide.region(Box(left * right, top * down, wide * right, tall * down), hw).rgb, "JPEG")

        return list(threads.map(tile, places))


@contextmanager
def _read_for(path: Path, overview: Picture, level: int) -> Iterator[Slide]:
    """The slide, or its overview where that is fine enough."""
    if 2**level >= overview.reduction:
        yield Slide(PictureLevels(overview.rgb, None, ""), overview.name, None, "")
        return
    with open_slide(path, overview.name) as slide:
        yield slide


def part_of(value: Mapping[str, Any] | None, full_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, width and height in pixels of the slide, of the part that the stage's value names; raises PartError."""
    try:
        left, top, right, bottom = (round(float(edge)) for edge in (value or {})["part"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PartError("Zoom to the part to segment, or draw a rectangle around it.") from error
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, full_hw[1]), min(bottom, full_hw[0])
    if right <= left or bottom <= top:
        raise PartError("That part lies outside the slide; draw it again.")
    return left, top, right - left, bottom - top


def read_part(path: Path, overview: Picture, part: Sequence[int], mpp: float | None, model_mpp: float | None,
              limits: Limits) -> Picture:
    """A part (left, top, width, height in pixels of the slide) at the model's pixel size. `mpp`: µm per pixel of the slide.

    Raises PartError for one that is too large or too small, PixelSizeError and ImageError.
    """
    left, top, width, height = part
    pixels = float(width * height)
    if mpp is not None and model_mpp is not None:
        pixels *= (mpp / model_mpp)**2
    if pixels > limits.max_region_px:
        raise PartError(f"This part of {width}×{height} px is {pixels / MEGAPIXEL:.0f} million pixels for the model, and "
                        f"{limits.max_region_px / MEGAPIXEL:.0f} million can be segmented here: zoom in, or draw a smaller "
                        "rectangle. For the whole slide there is the command below the picture.")
    hw = working_hw((height, width), mpp, model_mpp, overview.name)
    if min(hw) < limits.min_side_px:
        raise PartError(f"This part of {width}×{height} px is too small to show a gland; draw a larger rectangle.")
    with open_slide(path, overview.name) as slide:
        region = slide.region(Box(left, top, width, height), hw)
    note = f"Part of {width}×{height} px at x {left}, y {top} of the slide; GeoJSON coordinates are those of the slide."
    damaged = (UNREADABLE,) if region.unreadable else ()
    stem, suffix = Path(overview.name).stem, Path(overview.name).suffix
    return Picture(region.rgb, f"{stem}_x{left}_y{top}{suffix}", (height, width), overview.mpp, overview.mpp_source,
                   notes=(note, *damaged), origin_xy=(left, top))


def read_whole(path: Path, page: int, mpp: float | None, model_mpp: float | None, limits: Limits) -> Picture:
    """A picture, or all of a slide as `read_part` reads it; of one too large for that, the level that fits, as notes say.

    `mpp`: µm per pixel of the file, None: what it states. Raises PixelSizeError and ImageError.
    """
    if page == 1 and opens_as_slide(path):
        overview = read_overview(path, limits)
        with suppress(PartError):
            whole = read_part(path, overview, (0, 0, *overview.full_hw[::-1]), overview.mpp if mpp is None else mpp,
                              model_mpp, limits)
            return replace(whole, name=overview.name, notes=whole.notes[1:])
        return _read_reduced(path, overview, limits)
    return read_picture(path, limits, page=page)


def _read_reduced(path: Path, overview: Picture, limits: Limits) -> Picture:
    """All of a slide at no more than the longest side of pictures, from a level that may be decoded whole."""
    check_large_enough(overview, limits)
    with open_slide(path, overview.name) as slide:
        longest = max(max(hw) for hw in slide.level_hw if hw[0] * hw[1] <= limits.max_decoded_px)
        region = slide.whole(min(limits.max_side_px, longest))
    notes = (UNREADABLE,) if region.unreadable else ()
    return reduced(replace(overview, rgb=region.rgb, notes=notes), limits.max_side_px)


def whole_slide_command(name: str, source: ModelSource) -> str:
    """What predicts all of a slide, on the computer where it lies; only folders below the server's own are named."""
    revision = ["--revision", source.revision] if source.revision else []
    model, folder, here = source.location, Path(source.location).resolve(), Path.cwd()
    if source.is_folder:
        model = folder.relative_to(here).as_posix() if folder.is_relative_to(here) else "path/to/model"
    return shlex.join(["hf-gland", "predict", name, "--model", model, *revision, "--out", "results"])
