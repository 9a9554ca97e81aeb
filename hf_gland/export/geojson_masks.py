"""Annotations drawn in QuPath, or exported by `geojson`, read back as masks.

Coordinates are pixels of the image from its top left corner, y downwards, as QuPath counts them.
"""

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_gland.errors import HfGlandError
from hf_gland.export.polygons import fill_polygon
from hf_gland.labels import BACKGROUND, IGNORE_INDEX

BINARY_CLASS_IDS = {"background": BACKGROUND, "gland": 1, "Ignore*": IGNORE_INDEX}

Source = str | Path | Mapping[str, Any] | Sequence[Any]
Patch = tuple[tuple[slice, slice], np.ndarray]  # a box of an image, and which of its pixels


class GeoJsonError(HfGlandError):
    """A GeoJSON file cannot be used; the message names it, the feature and the remedy."""


class GeoJsonWarning(UserWarning):
    """Something in a GeoJSON file was left out."""


def masks_from_geojson(source: Source, hw: tuple[int, int],
                       class_ids: Mapping[str, int] | None = None, *, outside: int = IGNORE_INDEX,
                       origin_px: tuple[float, float] = (0.0, 0.0),
                       downsample: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Instances int32 [H, W] (0 = none, ids 1..n in file order) and class map uint8 [H, W] from annotations.

    `source`: a file, or the parsed FeatureCollection, Feature or list of features. `class_ids`: the class
    id (0 stroma, 255 unlabelled) of each classification name, in any case; by default gland, background and
    QuPath's Ignore*. An annotation without a classification is a gland if there is just one gland class.
    `outside`: what pixels without an annotation become, by default unlabelled; 0 only if every gland is
    drawn. A pixel belongs to an annotation if its centre does; of several the smallest annotation wins.

    Annotations of a slide are mapped to a region of it by `origin_px` (the region's left and top) and
    `downsample`, in pixels of the slide. Points and lines enclose nothing and are left out with a
    GeoJsonWarning. Raises GeoJsonError.
    """
    name = str(source) if isinstance(source, str | Path) else "GeoJSON"
    known = {key.casefold(): value for key, value in (class_ids or BINARY_CLASS_IDS).items()}
    drawn: list[tuple[int, int, Patch]] = []
    left_out: set[str] = set()
    for number, feature in enumerate(_features(source, name), start=1):
        where = f"{name}: feature {number}"
        polygons = _polygons(feature, where)
        if polygons is None:
            left_out.add(str((feature.get("geometry") or {}).get("type")))
            continue
        scaled = [[(ring - origin_px) / downsample for ring in rings] for rings in polygons]
        drawn.append((number, _class_id(feature, known, where), _patch(scaled, hw)))
    if left_out:
        warnings.warn(f"{name}: {', '.join(sorted(left_out))} geometries enclose no area and were left out",
                      GeoJsonWarning, stacklevel=2)
    if drawn and not any(inside.any() for _, _, (_, inside) in drawn):
        warnings.warn(f"{name}: no annotation lies inside the image of {hw[1]}×{hw[0]} px; were they drawn "
                      "on another image, or at another magnification?", GeoJsonWarning, stacklevel=2)

    instances = np.zeros(hw, np.int32)
    class_map = np.full(hw, outside, np.uint8)
    for number, class_id, (box, inside) in sorted(drawn, key=lambda item: -int(item[2][1].sum())):
        class_map[box][inside] = class_id
        instances[box][inside] = number if class_id not in (BACKGROUND, IGNORE_INDEX) else 0
    present = np.unique(instances[instances > 0])
    return np.where(instances > 0, 1 + np.searchsorted(present, instances), 0).astype(np.int32), class_map


def _features(source: Source, name: str) -> Iterator[Mapping[str, Any]]:
    if isinstance(source, str | Path):
        try:
            source = json.loads(Path(source).read_text("utf-8"))
        except OSError as error:
            raise GeoJsonError(f"{name}: cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise GeoJsonError(f"{name}: not GeoJSON ({error}); export it from QuPath with File > "
                               "Object data > Export as GeoJSON") from error
    if isinstance(source, Mapping) and source.get("type") == "Feature":
        source = [source]
    elif isinstance(source, Mapping):
        source = source.get("features", ())
    if not isinstance(source, list):
        raise GeoJsonError(f"{name}: holds no list of features; expected a GeoJSON FeatureCollection")
    for number, feature in enumerate(source, start=1):
        if not isinstance(feature, Mapping):
            raise GeoJsonError(f"{name}: feature {number} is not a GeoJSON object")
        yield feature


def _patch(polygons: list[list[np.ndarray]], hw: tuple[int, int]) -> Patch:
    """The pixels inside any of the polygons, within the box that holds them all."""
    points = np.concatenate([ring for rings in polygons for ring in rings] or [np.zeros((1, 2))])
    left, top = np.clip(np.floor(points.min(axis=0)), 0, hw[::-1]).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, hw[::-1]).astype(int)
    inside = np.zeros((bottom - top, right - left), bool)
    for rings in polygons:
        inside |= fill_polygon([ring - (left, top) for ring in rings], inside.shape)
    return (slice(top, bottom), slice(left, right)), inside


def _polygons(feature: Mapping[str, Any], where: str) -> list[list[np.ndarray]] | None:
    """Polygons, each a list of float rings [n, 2], or None for a geometry without area."""
    geometry = feature.get("geometry") or {}
    kind = geometry.get("type")
    if kind not in ("Polygon", "MultiPolygon"):
        return None
    nested: Any = geometry.get("coordinates")
    try:
        return [[_ring(ring) for ring in rings] for rings in ([nested] if kind == "Polygon" else nested)]
    except (TypeError, ValueError, IndexError) as error:
        raise GeoJsonError(f"{where}: the coordinates of its {kind} are malformed; each ring must be a list "
                           "of at least three [x, y] of finite numbers") from error


def _ring(points: Sequence[Sequence[float]]) -> np.ndarray:
    ring = np.array([[float(point[0]), float(point[1])] for point in points])
    if len(ring) < 3 or not np.isfinite(ring).all():
        raise ValueError("too few points, or not finite")
    return ring


def _class_id(feature: Mapping[str, Any], known: Mapping[str, int], where: str) -> int:
    classification = (feature.get("properties") or {}).get("classification") or {}
    label = classification.get("name") or ": ".join(classification.get("names") or [])
    if label:
        if label.casefold() in known:
            return known[label.casefold()]
        raise GeoJsonError(f"{where} is classified as {label!r}, which is none of {', '.join(known)}; map "
                           "it to a class id, or change it in QuPath")
    glands = {value for value in known.values() if value not in (BACKGROUND, IGNORE_INDEX)}
    if len(glands) != 1:
        raise GeoJsonError(f"{where} has no classification, and there are {len(glands)} gland classes; "
                           "classify it in QuPath")
    return glands.pop()
