"""Annotations drawn in QuPath, or exported by `geojson`, read back as masks.

Coordinates are pixels of the image from its top left corner, y downwards, as QuPath counts them.
"""

import gzip
import json
import warnings
import zlib
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_gland.errors import HfGlandError
from hf_gland.export.polygons import fill_polygon
from hf_gland.imaging.opening import displayable
from hf_gland.labels import BACKGROUND, IGNORE_INDEX

BINARY_CLASS_IDS = {"background": BACKGROUND, "gland": 1, "Ignore*": IGNORE_INDEX}

MAX_BYTES = 2**26  # of text, unpacked; parsed it takes some 20 times as much memory
MAX_COORDINATE_PX = 1e9  # a slide has some 100,000 px a side
MAX_DRAWN_PX = 2**31  # of all annotations' boxes inside the image
# Objects of QuPath that are no drawn outlines of tissue.
NO_ANNOTATION = {"cell": "cells", "tile": "tiles", "tmaCore": "TMA cores", "root": "the image itself"}

Source = str | Path | Mapping[str, Any] | Sequence[Any]
Box = tuple[slice, slice]
Polygons = list[list[np.ndarray]]  # each a list of float rings [n, 2]


class GeoJsonError(HfGlandError):
    """A GeoJSON file cannot be used; the message names it, the feature and the remedy."""


class GeoJsonWarning(UserWarning):
    """Something in a GeoJSON file was left out."""


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
    known = {key.casefold(): value for key, value in (class_ids or BINARY_CLASS_IDS).items()}
    drawn, left_out = _annotations(source, name)
    if left_out:
        warnings.warn(f"{name}: left out: {', '.join(f'{n} × {what}' for what, n in sorted(left_out.items()))}",
                      GeoJsonWarning, stacklevel=2)
    patches: list[tuple[int, int, int, Box, np.ndarray]] = []
    in_all = 0
    for number, label, polygons in drawn:
        where = f"{name}: feature {number}"
        class_id = _class_id(label, known, where)
        box, inside = _patch([[(ring - origin_px) / downsample for ring in rings] for rings in polygons], hw, where)
        in_all += inside.size
        if in_all > MAX_DRAWN_PX:
            raise GeoJsonError(f"{where}: up to here annotations cover the image of {hw[1]}×{hw[0]} px "
                               f"{in_all // (hw[0] * hw[1])} times over; nobody drew that")
        patches.append((-int(inside.sum()), number, class_id, box, np.packbits(inside)))
    if patches and not any(area for area, *_ in patches):
        warnings.warn(f"{name}: no annotation lies inside the image of {hw[1]}×{hw[0]} px; were they drawn "
                      "on another image, or at another magnification?", GeoJsonWarning, stacklevel=2)

    instances = np.zeros(hw, np.int32)
    class_map = np.full(hw, outside, np.uint8)
    for _, number, class_id, box, packed in sorted(patches, key=lambda patch: patch[0]):
        target = class_map[box]
        inside = np.unpackbits(packed, count=target.size).reshape(target.shape).astype(bool)
        target[inside] = class_id
        instances[box][inside] = number if class_id not in (BACKGROUND, IGNORE_INDEX) else 0
    present = np.unique(instances[instances > 0])
    return np.where(instances > 0, 1 + np.searchsorted(present, instances), 0).astype(np.int32), class_map


def _annotations(source: Source, name: str) -> tuple[list[tuple[int, str, Polygons]], Counter[str]]:
    """Number from 1, classification ("" for none) and polygons of each annotation, and by kind what is none."""
    left_out: Counter[str] = Counter()
    found: list[tuple[int, str, Polygons, tuple[int, int]]] = []
    for number, feature in enumerate(_features(source, name), start=1):
        where = f"{name}: feature {number}"
        if not isinstance(feature, Mapping):
            raise GeoJsonError(f"{where} is not a GeoJSON object")
        properties, geometry = (_mapping(feature, key, where) for key in ("properties", "geometry"))
        kind = properties.get("objectType")
        polygons = _polygons(geometry, where)
        if isinstance(kind, str) and kind in NO_ANNOTATION:
            left_out[NO_ANNOTATION[kind]] += 1
        elif not polygons:
            left_out[f"{geometry.get('type')} geometries, which enclose no area"] += 1
        else:
            plane = _mapping(geometry, "plane", where)
            z, t = (plane.get(axis) or 0 for axis in "zt")
            if not isinstance(z, int) or not isinstance(t, int):
                raise GeoJsonError(f"{where}: its plane has no whole numbers z and t")
            found.append((number, _label(properties.get("classification"), where), polygons, (z, t)))
    planes = {plane for *_, plane in found}
    if len(planes) > 1:
        first = min(planes)
        left_out["annotations of other planes (z, t)"] += sum(plane != first for *_, plane in found)
        found = [item for item in found if item[3] == first]
    if any(label for _, label, _, _ in found):
        left_out["annotations without a classification beside classified ones"] += sum(not item[1] for item in found)
        found = [item for item in found if item[1]]
    return [item[:3] for item in found], +left_out


def _features(source: Source, name: str) -> list[Any]:
    if isinstance(source, str | Path):
        source = _parsed(Path(source), name)
    if isinstance(source, Mapping):
        kind = source.get("type")
        source = ([source] if kind == "Feature" else [{"geometry": source}] if kind in ("Polygon", "MultiPolygon")
                  else source.get("features", ()))
    if not isinstance(source, list):
        raise GeoJsonError(f"{name}: holds no list of features; expected a GeoJSON FeatureCollection")
    return source


def _parsed(path: Path, name: str) -> Any:
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            with gzip.open(file) if packed else file as unpacked:
                text = unpacked.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise GeoJsonError(f"{name}: holds more than {MAX_BYTES / 2**20:.0f} MiB; export the annotations alone, without "
                               "cells and measurements")
        return json.loads(text.decode("utf-8-sig"))
    except GeoJsonError:
        raise
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GeoJsonError(f"{name}: damaged or cut short ({error}); export it again") from error
    except OSError as error:
        raise GeoJsonError(f"{name}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise GeoJsonError(f"{name}: not GeoJSON ({error}); export it from QuPath with File > "
                           "Object data > Export as GeoJSON") from error


def _mapping(parent: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = parent.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise GeoJsonError(f"{where}: its {key} is not a GeoJSON object")
    return value or {}


def _label(classification: Any, where: str) -> str:
    """The name of a classification, as QuPath (an object) and others (a word or a number) write it; "" for none."""
    if isinstance(classification, Mapping):
        names = classification.get("names")
        classification = classification.get("name")
        if classification is None and isinstance(names, list):
            classification = ": ".join(map(str, names))
    if classification is None:
        return ""
    if not isinstance(classification, str | int | float):
        raise GeoJsonError(f"{where}: its classification is neither a name nor an object that has one")
    return str(classification)


def _polygons(geometry: Mapping[str, Any], where: str) -> Polygons:
    """All polygons of a geometry; none for one without area."""
    polygons: Polygons = []
    waiting = deque[Any]([geometry])
    while waiting:
        part = waiting.popleft()
        kind = part.get("type") if isinstance(part, Mapping) else None
        try:
            if kind == "GeometryCollection":
                waiting.extend(part["geometries"])
            elif kind in ("Polygon", "MultiPolygon"):
                nested = part.get("coordinates")
                polygons += [[_ring(ring) for ring in rings] for rings in ([nested] if kind == "Polygon" else nested)]
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise GeoJsonError(f"{where}: the coordinates of its {kind} are malformed; each ring must be a list "
                               f"of at least three [x, y] of finite numbers of pixels ({error})") from error
    return polygons


def _patch(polygons: Polygons, hw: tuple[int, int], where: str) -> tuple[Box, np.ndarray]:
    """The pixels inside any of the polygons, within the box that holds them all."""
    points = np.concatenate([ring for rings in polygons for ring in rings] or [np.zeros((1, 2))])
    left, top = np.clip(np.floor(points.min(axis=0)), 0, hw[::-1]).astype(int)
    right, bottom = np.clip(np.ceil(points.max(axis=0)), 0, hw[::-1]).astype(int)
    inside = np.zeros((bottom - top, right - left), bool)
    try:
        for rings in polygons:
            inside |= fill_polygon([ring - (left, top) for ring in rings], inside.shape)
    except ValueError as error:
        raise GeoJsonError(f"{where}: {error}") from error
    return (slice(top, bottom), slice(left, right)), inside


def _ring(points: Sequence[Sequence[float]]) -> np.ndarray:
    ring = np.array([[float(point[0]), float(point[1])] for point in points])
    if len(ring) < 3 or not (np.abs(ring) <= MAX_COORDINATE_PX).all():  # NaN fails too
        raise ValueError(f"too few points, or one beyond {MAX_COORDINATE_PX:g} px")
    return ring


def _class_id(label: str, known: Mapping[str, int], where: str) -> int:
    if label:
        if label.casefold() in known:
            return known[label.casefold()]
        raise GeoJsonError(f"{where} is classified as {label[:80]!r}, which is none of {', '.join(known)}; map "
                           "it to a class id, or change it in QuPath")
    glands = {value for value in known.values() if value not in (BACKGROUND, IGNORE_INDEX)}
    if len(glands) != 1:
        raise GeoJsonError(f"{where} has no classification, and there are {len(glands)} gland classes; "
                           "classify it in QuPath")
    return glands.pop()
