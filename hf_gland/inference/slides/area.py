"""Which part of a slide is predicted: its tissue, outlined regions, or all of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import shapely

from hf_gland.errors import HfGlandError
from hf_gland.export.geojson_masks import areas_of, left_out_words
from hf_gland.export.geojson_read import read_annotations
from hf_gland.export.polygons import crosses_itself, fill_polygon
from hf_gland.imaging.opening import displayable
from hf_gland.imaging.slides import Slide
from hf_gland.imaging.tissue import tissue_mask
from hf_gland.inference.slides.plan import SlideGrid

MANY_POINTS = 500  # of an outline; one of fewer is mended where it crosses itself
MOST_CROSSINGS = 1_000_000  # of an outline with the rows of a grid of some 1,000


class Area(Protocol):
    """A part of a grid."""

    @property
    def about(self) -> str:
        """Which part, in words."""
        ...

    def rows(self, top_px: int, bottom_px: int) -> np.ndarray:
        """Which pixels of these rows belong to it, bool [bottom − top, W]."""
        ...

    def columns(self, top_px: int, bottom_px: int) -> np.ndarray:
        """Which columns hold such a pixel in these rows, bool [W]."""
        ...


@dataclass(frozen=True, eq=False)
class Whole:
    """All of the grid."""

    grid: SlideGrid
    about: str = "the whole slide"

    def rows(self, top_px: int, bottom_px: int) -> np.ndarray:
        return np.broadcast_to(np.True_, (bottom_px - top_px, self.grid.width_px))

    def columns(self, top_px: int, bottom_px: int) -> np.ndarray:
        return np.ones(self.grid.width_px, bool)


@dataclass(frozen=True, eq=False)
class Tissue:
    """The pixels of the grid whose centre lies on a True of `mask` bool [h, w], which covers the whole grid."""

    grid: SlideGrid
    mask: np.ndarray
    about: str = "tissue"

    def rows(self, top_px: int, bottom_px: int) -> np.ndarray:
        return self.mask[_nearest(top_px, bottom_px, self.grid.height_px, self.mask.shape[0])][:, self._columns()]

    def columns(self, top_px: int, bottom_px: int) -> np.ndarray:
        rows = np.unique(_nearest(top_px, bottom_px, self.grid.height_px, self.mask.shape[0]))
        return np.asarray(self.mask[rows].any(0))[self._columns()]

    def _columns(self) -> np.ndarray:
        return _nearest(0, self.grid.width_px, self.grid.width_px, self.mask.shape[1])


@dataclass(frozen=True, eq=False)
class Outlined:
    """The pixels of the grid whose centre lies inside one of `polygons`, in pixels of the grid."""

    grid: SlideGrid
    polygons: tuple[shapely.Polygon, ...]
    about: str = "the outlined regions"

    def rows(self, top_px: int, bottom_px: int) -> np.ndarray:
        inside = np.zeros((bottom_px - top_px, self.grid.width_px), bool)
        for polygon in self.polygons:
            left, top, right, bottom = polygon.bounds
            x, y = max(int(left), 0), max(int(top), top_px)
            width, height = min(int(right) + 1, self.grid.width_px) - x, min(int(bottom) + 1, bottom_px) - y
            if width > 0 and height > 0:
                rings = [shapely.get_coordinates(ring) - (x, y) for ring in (polygon.exterior, *polygon.interiors)]
                inside[y - top_px:y - top_px + height, x:x + width] |= fill_polygon(rings, (height, width))
        return inside

    def columns(self, top_px: int, bottom_px: int) -> np.ndarray:
        return np.asarray(self.rows(top_px, bottom_px).any(0))


def find_area(slide: Slide, grid: SlideGrid, mpp_xy: tuple[float, float], roi: Path | None,
              whole: bool) -> tuple[Area, list[str]]:
    """What is predicted, and notes: inside the outlines of the file `roi`, or the `whole` slide, or else its tissue.

    Raises HfGlandError for outlines that cannot be used, and for a slide without tissue.
    """
    if roi is not None:
        polygons, notes = read_roi(roi, slide.hw)
        return Outlined(grid, tuple(shapely.transform(polygon, lambda xy: (xy - grid.origin_xy) / grid.scale_xy)
                                    for polygon in polygons)), notes
    if whole:
        return Whole(grid), []
    mask = tissue_mask(slide, mpp_xy)
    if not mask.any():
        raise HfGlandError(f"{slide.name}: no tissue found; --no-tissue-mask predicts the whole slide, --roi a part of it")
    return Tissue(grid, mask), []


def read_roi(path: Path, slide_hw: tuple[int, int]) -> tuple[list[shapely.Polygon], list[str]]:
    """What a GeoJSON file outlines (see `read_annotations`), in pixels of the slide's largest level, x before y; and notes.

    Outlines that cross themselves are mended (even-odd), and what lies beyond the slide is cut off, both with a note, as is
    what encloses no area. Raises HfGlandError for a file without outlines, or with none on the slide.
    """
    name = displayable(path)
    annotations, left_out = read_annotations(path, checked=False)
    areas = areas_of(annotations, left_out)
    shapes = [(area.number, _polygon(rings, f"{name}: feature {area.number}")) for area in areas for rings in area.polygons]
    notes = list(filter(None, [left_out_words(name, left_out)]))
    if crossing := list(dict.fromkeys(number for number, one in shapes if not one.is_valid)):
        notes.append(f"{name}: outline {crossing[0]}" + (f" and {len(crossing) - 1} more" if len(crossing) > 1 else "")
                     + " crosses itself; its parts were taken by the even-odd rule")
    drawn = [part for _, one in shapes for part in shapely.get_parts(shapely.make_valid(one))
             if part.geom_type == "Polygon" and part.area > 0]
    if not drawn:
        raise HfGlandError(f"{name}: holds no outline of a region (Polygon or MultiPolygon)")
    height, width = slide_hw
    frame = shapely.box(0, 0, width, height)
    inside = [part for one in drawn for part in shapely.get_parts(one.intersection(frame))
              if part.geom_type == "Polygon" and part.area > 0]
    if not inside:
        swapped = any(shapely.transform(one, lambda xy: xy[:, ::-1]).intersects(frame) for one in drawn)
        raise HfGlandError(f"{name}: no outline lies on the slide of {width}×{height} px; " + (
            "with x and y exchanged some would: write x (to the right) before y (downwards)" if swapped else
            "coordinates are pixels of the slide at full size, from its top left corner"))
    lost = 1 - sum(one.area for one in inside) / sum(one.area for one in drawn)
    if lost > 0.001:
        notes.append(f"{name}: {lost:.0%} of the outlined area lies beyond the slide and was cut off")
    return inside, notes


def _polygon(rings: list[np.ndarray], where: str) -> shapely.Polygon:
    """Raises HfGlandError for rings that enclose nothing, and for an outline of many points that crosses itself or runs to
    and fro: what geometry takes for it grows with the square of its points."""
    try:
        count = sum(map(len, rings))
        if count > MANY_POINTS:
            place, crossings = crosses_itself(rings)
            if place or crossings > MOST_CROSSINGS:
                raise ValueError(f"an outline of {count} points that "
                                 + ("crosses itself" if place else "runs to and fro") + "; draw it again")
        return shapely.Polygon(rings[0], rings[1:]) if rings else shapely.Polygon()
    except (shapely.errors.ShapelyError, ValueError) as error:
        raise HfGlandError(f"{where}: not an area ({error})") from error


def _nearest(start: int, stop: int, side_px: int, of_px: int) -> np.ndarray:
    """The pixels of another grid of `of_px` on which the centres of pixels start … stop of `side_px` lie."""
    return ((np.arange(start, stop) + 0.5) * of_px / side_px).astype(int)
