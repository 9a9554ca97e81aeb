"""Which part of a slide is predicted: its tissue, outlined regions, or all of it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import shapely
from shapely.geometry import shape

from hf_gland.errors import HfGlandError
from hf_gland.export.geojson_read import read_text
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
    """The polygons of a GeoJSON file (`.gz` too), in pixels of the slide's largest level, x before y; and notes.

    Outlines that cross themselves are mended (even-odd), and what lies beyond the slide is cut off, both with a note.
    Raises HfGlandError for a file without outlines, or with none on the slide.
    """
    name = displayable(path)
    shapes = [_geometry(feature, f"{name}: feature {number}")
              for number, feature in enumerate(_features(path, name), start=1)]
    notes = []
    if crossing := [number for number, one in enumerate(shapes, start=1) if not one.is_valid]:
        notes.append(f"{name}: outline {crossing[0]}" + (f" and {len(crossing) - 1} more" if len(crossing) > 1 else "")
                     + " crosses itself; its parts were taken by the even-odd rule")
        shapes = [shapely.make_valid(one) for one in shapes]
    drawn = [part for one in shapes for part in shapely.get_parts(one) if part.geom_type == "Polygon" and part.area > 0]
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


def _features(path: Path, name: str) -> list[Any]:
    if not path.exists():
        raise HfGlandError(f"{name}: no such file")
    try:
        content = json.loads(read_text(path, name))
    except (ValueError, RecursionError) as error:
        raise HfGlandError(f"{name}: not a GeoJSON file ({error})") from error
    if isinstance(content, dict):
        content = content.get("features", [content])
    if not isinstance(content, list) or not all(isinstance(feature, dict) for feature in content):
        raise HfGlandError(f"{name}: not a GeoJSON file: no list of features")
    return content


def _geometry(feature: dict[str, Any], where: str) -> shapely.Geometry:
    try:
        geometry = shape(feature.get("geometry", feature))
        if not np.isfinite(shapely.get_coordinates(geometry)).all():
            raise ValueError("coordinates that are no numbers")
        _check_effort(geometry)
        return geometry
    except (shapely.errors.ShapelyError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise HfGlandError(f"{where}: not a geometry of GeoJSON ({error})") from error


def _check_effort(geometry: shapely.Geometry) -> None:
    """Raises ValueError for outlines of many points that cross themselves or run to and fro: what geometry takes for them
    grows with the square of their points."""
    for part in shapely.get_parts(geometry):
        if part.geom_type == "Polygon" and shapely.get_num_coordinates(part) > MANY_POINTS:
            place, crossings = crosses_itself([shapely.get_coordinates(ring) for ring in (part.exterior, *part.interiors)])
            if place or crossings > MOST_CROSSINGS:
                raise ValueError(f"an outline of {shapely.get_num_coordinates(part)} points that "
                                 + ("crosses itself" if place else "runs to and fro") + "; draw it again")


def _nearest(start: int, stop: int, side_px: int, of_px: int) -> np.ndarray:
    """The pixels of another grid of `of_px` on which the centres of pixels start … stop of `side_px` lie."""
    return ((np.arange(start, stop) + 0.5) * of_px / side_px).astype(int)
