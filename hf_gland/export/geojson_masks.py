"""Annotations drawn in QuPath, or exported by `geojson`, as masks."""

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hf_gland.export.geojson_read import Annotation, GeoJsonError, GeoJsonWarning, Polygons, Source, read_annotations
from hf_gland.export.polygons import fill_polygon, ring_area
from hf_gland.imaging.opening import displayable
from hf_gland.labels import BACKGROUND, IGNORE_INDEX

BINARY_CLASS_IDS = {"background": BACKGROUND, "gland": 1, "Ignore*": IGNORE_INDEX}
MAX_DRAWN_PX = 2**31  # of all annotations' boxes inside the image

Box = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Region:
    """What is to be painted: number of the feature, class id, and polygons in pixels of the image.

    `outlined`: they are the outline of one thing, which gets an id if it is a gland. `below`: whatever else is drawn lies
    above it, however small it is. `stroke`: the rings of a polygon, all turned one way, are parts of a stroke, which add up.
    """

    number: int
    class_id: int
    polygons: Polygons
    outlined: bool = True
    below: bool = False
    stroke: bool = False


def masks_from_geojson(source: Source, hw: tuple[int, int],
                       class_ids: Mapping[str, int] | None = None, *, outside: int = IGNORE_INDEX,
                       origin_px: tuple[float, float] = (0.0, 0.0),
                       downsample: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Instances int32 [H, W] (0 = none, ids 1..n in file order) and class map uint8 [H, W] from annotations.

    `source`: a file (`.gz` too, of at most MAX_BYTES unpacked), or the parsed FeatureCollection, Feature or list of
    features. `class_ids`: the class id (0 stroma, 255 unlabelled) of each classification name, in any case; by default
    gland, background and QuPath's Ignore*. Annotations without a classification are glands if no object has one and there
    is just one gland class; beside classified ones they are left out, as the regions that others lie in.
    `outside`: what pixels without an annotation become, by default unlabelled; 0 only if every gland is
    drawn. A pixel belongs to an annotation if its centre does; of several the smallest annotation wins.

    Annotations of a slide are mapped to a region of it by `origin_px` (the region's left and top) and
    `downsample`, in pixels of the slide. Left out with a GeoJsonWarning: points and lines, which enclose nothing, cells,
    tiles and TMA cores, and other planes of a stack than the first. Raises GeoJsonError.
    """
    name = displayable(source) if isinstance(source, str | Path) else "GeoJSON"
    known = class_ids or BINARY_CLASS_IDS
    drawn, left_out = read_annotations(source)
    drawn = without_unclassified(areas_of(drawn, left_out), left_out)
    say_left_out(name, left_out)
    regions = [Region(a.number, class_of(a, known, f"{name}: feature {a.number}"),
                      [[(ring - origin_px) / downsample for ring in rings] for rings in a.polygons]) for a in drawn]
    instances, class_map, outlined = paint(regions, hw, name, outside)
    if regions and not len(outlined):
        warnings.warn(f"{name}: no annotation lies inside the image of {hw[1]}×{hw[0]} px; were they drawn "
                      "on another image, or at another magnification?", GeoJsonWarning, stacklevel=2)
    return instances, class_map


def areas_of(drawn: list[Annotation], left_out: Counter[str]) -> list[Annotation]:
    """The annotations with an area; the others, points and lines, are counted as left out."""
    for annotation in drawn:
        if not annotation.polygons:
            left_out[f"{annotation.kind} geometries, which enclose no area"] += 1
    return [annotation for annotation in drawn if annotation.polygons]


def without_unclassified(drawn: list[Annotation], left_out: Counter[str]) -> list[Annotation]:
    """The classified annotations, if any is; the others are counted as left out: regions that those lie in."""
    classified = [annotation for annotation in drawn if annotation.label]
    if classified:
        left_out["annotations without a classification beside classified ones"] += len(drawn) - len(classified)
    return classified or drawn


def say_left_out(name: str, left_out: Counter[str]) -> None:
    """A GeoJsonWarning that counts what was left out of the file `name`, if anything was."""
    if said := left_out_words(name, left_out):
        warnings.warn(said, GeoJsonWarning, stacklevel=3)


def left_out_words(name: str, left_out: Counter[str]) -> str | None:
    """How much of each kind was left out of the file `name`; None where nothing was."""
    said = ", ".join(f"{count} × {what}" for what, count in sorted(left_out.items()) if count)
    return f"{name}: left out: {said}" if said else None


def class_of(annotation: Annotation, class_ids: Mapping[str, int], where: str) -> int:
    """The class id of an annotation by its classification, in any case; of a derived class ("Tumor: Positive") that has
    none of its own, that of the class it is derived from. Raises GeoJsonError."""
    known = {key.casefold(): value for key, value in class_ids.items()}
    parts = annotation.label.casefold().split(": ")
    for count in range(len(parts), 0, -1):
        if (name := ": ".join(parts[:count])) and name in known:
            return known[name]
    if annotation.label:
        raise GeoJsonError(f"{where} is classified as {annotation.label[:80]!r}, which is none of {', '.join(known)}; map "
                           "it to a class id, or change it in QuPath")
    glands = {value for value in known.values() if 0 < value < IGNORE_INDEX}
    if len(glands) != 1:
        raise GeoJsonError(f"{where} has no classification, and there are {len(glands)} gland classes; "
                           "classify it in QuPath")
    return glands.pop()


def paint(regions: Iterable[Region], hw: tuple[int, int], name: str,
          outside: int = IGNORE_INDEX) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Instances int32 [H, W] (0 = none, ids 1..n in file order), class map uint8 [H, W] where nothing is drawn `outside`,
    and the numbers of the features that cover a pixel, in order.

    A pixel belongs to a region if its centre does; of several the smallest region wins, by all of its area, that outside
    the image too. `name` is quoted in errors. Raises GeoJsonError.
    """
    patches: list[tuple[tuple[bool, float], Region, Box, np.ndarray]] = []
    in_all = 0
    for region in regions:
        box, inside, in_all = _patch(region, hw, f"{name}: feature {region.number}", in_all)
        if seen_px := int(inside.sum()):
            area = seen_px if region.stroke else max(seen_px, _area_beyond(region.polygons, hw))
            patches.append(((not region.below, -area), region, box, np.packbits(inside)))

    instances, class_map = np.zeros(hw, np.int32), np.full(hw, outside, np.uint8)
    for _, region, box, packed in sorted(patches, key=lambda patch: patch[0]):
        target = class_map[box]
        inside = np.unpackbits(packed, count=target.size).reshape(target.shape).astype(bool)
        target[inside] = region.class_id
        is_gland = region.outlined and region.class_id not in (BACKGROUND, IGNORE_INDEX)
        instances[box][inside] = region.number if is_gland else 0
    seen = np.zeros(max((region.number for _, region, _, _ in patches), default=0) + 1, bool)
    seen[instances] = True
    seen[0] = False
    ids = np.where(seen, np.cumsum(seen), 0).astype(np.int32)[instances]
    return ids, class_map, np.unique([region.number for _, region, _, _ in patches])


def _area_beyond(polygons: Polygons, hw: tuple[int, int]) -> float:
    """The area of polygons that reach beyond the image, px²; 0 of those that lie in it, whose pixels tell."""
    points = np.concatenate([ring for rings in polygons for ring in rings])
    if (points >= 0).all() and (points <= hw[::-1]).all():
        return 0.0
    return sum(abs(ring_area(rings[0])) - sum(abs(ring_area(hole)) for hole in rings[1:]) for rings in polygons)


def _patch(region: Region, hw: tuple[int, int], where: str, in_all: int) -> tuple[Box, np.ndarray, int]:
    """The pixels inside any of a region's polygons, within the box that holds them all; and `in_all`, the pixels of the
    boxes that were filled before these, with these. Raises GeoJsonError."""
    (left, top), (right, bottom) = _corners([ring for rings in region.polygons for ring in rings], hw)
    inside = np.zeros((bottom - top, right - left), bool)
    for rings in region.polygons:
        (x, y), (x_end, y_end) = _corners(rings, hw)
        part = inside[y - top:y_end - top, x - left:x_end - left]
        in_all += part.size
        if in_all > MAX_DRAWN_PX:
            raise GeoJsonError(f"{where}: up to here annotations cover the image of {hw[1]}×{hw[0]} px "
                               f"{in_all // (hw[0] * hw[1])} times over; nobody drew that")
        try:
            part |= fill_polygon([ring - (x, y) for ring in rings], part.shape, nonzero=region.stroke)
        except ValueError as error:
            raise GeoJsonError(f"{where}: {error}") from error
    return (slice(top, bottom), slice(left, right)), inside, in_all


def _corners(rings: list[np.ndarray], hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Top left and bottom right corner of the pixels inside the image that rings reach, int [2] of (x, y) each."""
    points = np.concatenate(rings or [np.zeros((1, 2))])
    first, last = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
    return np.clip(first, 0, hw[::-1]).astype(int), np.clip(last, 0, hw[::-1]).astype(int)
