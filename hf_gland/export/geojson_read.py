"""GeoJSON of drawn annotations, as QuPath exports it, parsed feature by feature.

Coordinates are pixels of the image from its top left corner, y downwards, as QuPath counts them.
"""

import gzip
import json
import re
import zlib
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hf_gland.errors import HfGlandError
from hf_gland.export.polygons import crosses_itself
from hf_gland.imaging.opening import displayable

MAX_BYTES = 2**27  # of text, unpacked
MAX_COORDINATE_PX = 1e9  # a slide has some 100,000 px a side
MAX_EFFORT = 300_000_000  # crossings of outlines with rows of pixels in a file; each takes some 50 ns
# Objects of QuPath that are no drawn outlines of tissue.
NO_ANNOTATION = {"cell": "cells", "tile": "tiles", "tmaCore": "TMA cores", "root": "the image itself"}
# What features of QuPath before 0.4 are, which say so by their id.
KINDS_BY_ID = {"PathCellObject": "cell", "PathTileObject": "tile", "PathDetectionTile": "tile", "TMACoreObject": "tmaCore",
               "PathRootObject": "root"}
REMEDY = "export it from QuPath with File > Object data > Export as GeoJSON"

Source = str | Path | Mapping[str, Any] | Sequence[Any]
Polygons = list[list[np.ndarray]]  # each a list of float rings [n, 2], the outer one first
_SPACE = re.compile(r"[ \t\r\n]*")


class GeoJsonError(HfGlandError):
    """A GeoJSON file cannot be used; the message names it, the feature and the remedy."""


class GeoJsonWarning(UserWarning):
    """Something in a GeoJSON file was left out."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """One drawn object: its place in the file from 1, the names of its class ("" for none) and of itself, and what was
    drawn: areas (`polygons`) or strokes and points (`lines`, float [n, 2], a point alone [1, 2])."""

    number: int
    label: str
    name: str
    polygons: Polygons
    lines: list[np.ndarray]
    kind: str

    @property
    def base_class(self) -> str:
        """The class that its own is derived from, in small letters: "gland" of "Gland: Atypical"."""
        return self.label.casefold().split(": ")[0]


def read_annotations(source: Source, *, checked: bool = True) -> tuple[list[Annotation], Counter[str]]:
    """The annotations of a file (`.gz` too, of at most MAX_BYTES unpacked), or of a parsed FeatureCollection, Feature,
    bare geometry or list of features; and how many objects of each kind are none: cells, tiles, TMA cores, and what lies
    in other planes of a stack than the first. Raises GeoJsonError that names the file and the feature; unless `checked` is
    False, for outlines that cross themselves or take too long too.
    """
    name = displayable(source) if isinstance(source, str | Path) else "GeoJSON"
    left_out: Counter[str] = Counter()
    found: list[tuple[Annotation, tuple[int, int]]] = []
    effort = 0
    for number, feature in enumerate(_features(source, name), start=1):
        where = f"{name}: feature {number}"
        if not isinstance(feature, Mapping):
            raise GeoJsonError(f"{where} is not a GeoJSON object")
        properties, geometry = (_mapping(feature, key, where) for key in ("properties", "geometry"))
        kind, own_name = _kind(feature, properties), properties.get("name")
        if isinstance(kind, str) and kind in NO_ANNOTATION:
            left_out[NO_ANNOTATION[kind]] += 1
            continue
        polygons, lines = _shapes(geometry, where)
        effort = _check_outlines(polygons, where, effort) if checked else 0
        plane = _mapping(geometry, "plane", where)
        z, t = (plane.get(axis) or 0 for axis in "zt")
        if not isinstance(z, int) or not isinstance(t, int):
            raise GeoJsonError(f"{where}: its plane has no whole numbers z and t")
        label = _label(properties.get("classification"), where)
        found.append((Annotation(number, label, own_name if isinstance(own_name, str) else "", polygons, lines,
                                 str(geometry.get("type"))), (z, t)))
    planes = {plane for _, plane in found}
    if len(planes) > 1:
        left_out["annotations of other planes (z, t)"] += sum(plane != min(planes) for _, plane in found)
        found = [item for item in found if item[1] == min(planes)]
    return [annotation for annotation, _ in found], +left_out


def _kind(feature: Mapping[str, Any], properties: Mapping[str, Any]) -> Any:
    """What QuPath calls the object: "annotation", "cell", …; None where the file does not say."""
    kind = properties.get("objectType", properties.get("object_type"))
    if kind is None:
        kind = "cell" if "nucleusGeometry" in feature else KINDS_BY_ID.get(str(feature.get("id")))
    return kind


def _features(source: Source, name: str) -> Iterator[Any]:
    """The features one by one; of a file, each is parsed when it is asked for."""
    if isinstance(source, str | Path):
        yield from _parsed(read_text(Path(source), name), name)
        return
    if isinstance(source, Mapping):
        source = _as_list(source, name)
    if not isinstance(source, list):
        raise GeoJsonError(f"{name}: holds no list of features; expected a GeoJSON FeatureCollection")
    yield from source


def _as_list(whole: Mapping[str, Any], name: str) -> list[Any]:
    kind, features = whole.get("type"), whole.get("features", ())
    if kind == "Feature":
        return [whole]
    if {"coordinates", "geometries"} & whole.keys():
        return [{"geometry": whole}]
    if not isinstance(features, list):
        raise GeoJsonError(f"{name}: holds no list of features; expected a GeoJSON FeatureCollection")
    return features


def read_text(path: Path, name: str) -> str:
    """A file's text, plain or gzipped, with or without a BOM; GeoJsonError above MAX_BYTES and for a damaged file."""
    try:
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == b"\x1f\x8b"
            with gzip.open(file) if packed else file as unpacked:
                text = unpacked.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise GeoJsonError(f"{name}: holds more than {MAX_BYTES / 2**20:.0f} MiB; export the annotations alone, without "
                               "cells and measurements")
        return text.decode("utf-8-sig")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise GeoJsonError(f"{name}: damaged or cut short ({error}); export it again") from error
    except OSError as error:
        raise GeoJsonError(f"{name}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise GeoJsonError(f"{name}: not GeoJSON ({error}); {REMEDY}") from error


def _whole_number(digits: str) -> int | float:
    """A number of thousands of digits is refused as a coordinate, with its feature, not as a file that cannot be read."""
    return int(digits) if len(digits) < 20 else float(digits)


_DECODER = json.JSONDecoder(parse_int=_whole_number)


def _parsed(text: str, name: str) -> Iterator[Any]:
    """The members of a list of features, or of a collection's, decoded one after the other: an error names the feature,
    and the whole, which takes some twenty times the memory of its text, is never held."""
    try:
        bracket, at = _sign(text, 0, "[{")
        at = yield from (_listed(text, at, name) if bracket == "[" else _collected(text, at, name))
        if at < len(text):
            raise ValueError(f"something follows its end: line {text.count(chr(10), 0, at) + 1}")
    except (ValueError, RecursionError) as error:
        if isinstance(error, GeoJsonError):
            raise
        raise GeoJsonError(f"{name}: not GeoJSON ({error}); {REMEDY}") from error


def _listed(text: str, at: int, name: str) -> Generator[Any, None, int]:
    """The members of a list whose first begins at `at`; returns where the text goes on."""
    number, more = 0, text[at:at + 1] != "]"
    if not more:
        return _behind_space(text, at + 1)
    while more:
        number += 1
        try:
            feature, at = _DECODER.raw_decode(text, at)
            sign, at = _sign(text, at, ",]")
        except (ValueError, RecursionError) as error:
            problem = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise GeoJsonError(f"{name}: not GeoJSON: feature {number}: {problem}; {REMEDY}") from error
        yield feature
        more = sign == ","
    return at


def _collected(text: str, at: int, name: str) -> Generator[Any, None, int]:
    """The features of the object whose first member begins at `at`; returns where the text goes on."""
    members: dict[str, Any] = {}
    seen, more = False, text[at:at + 1] != "}"
    if not more:
        at = _behind_space(text, at + 1)
    while more:
        key, at = _DECODER.raw_decode(text, at)
        if not isinstance(key, str):
            raise ValueError("a member has no name")
        _, at = _sign(text, at, ":")
        if key == "features" and text[at:at + 1] == "[":
            at, seen = (yield from _listed(text, _behind_space(text, at + 1), name)), True
        else:
            members[key], at = _DECODER.raw_decode(text, at)
        sign, at = _sign(text, at, ",}")
        more = sign == ","
    if not seen:
        yield from _as_list(members, name)
    return at


def _sign(text: str, at: int, allowed: str) -> tuple[str, int]:
    """The next character, which must be one of `allowed`, and where the text goes on behind it and spaces."""
    at = _behind_space(text, at)
    if not text[at:at + 1] or text[at] not in allowed:
        raise ValueError(f"expected {' or '.join(allowed)}: line {text.count(chr(10), 0, at) + 1}")
    return text[at], _behind_space(text, at + 1)


def _behind_space(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it always matches


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


def _shapes(geometry: Mapping[str, Any], where: str) -> tuple[Polygons, list[np.ndarray]]:
    """All areas and all strokes of a geometry."""
    polygons: Polygons = []
    lines: list[np.ndarray] = []
    waiting = deque[Any]([geometry])
    while waiting:
        part = waiting.popleft()
        kind = part.get("type") if isinstance(part, Mapping) else None
        try:
            if kind == "GeometryCollection":
                waiting.extend(part["geometries"])
                continue
            nested: Any = part.get("coordinates") if isinstance(part, Mapping) else None
            if kind in ("Polygon", "MultiPolygon"):
                polygons += [[_points(ring, 3) for ring in rings] for rings in ([nested] if kind == "Polygon" else nested)
                             if len(rings)]
            elif kind in ("LineString", "MultiLineString"):
                lines += [_points(line, 1) for line in ([nested] if kind == "LineString" else nested)]
            elif kind in ("Point", "MultiPoint"):
                lines += [_points([point], 1) for point in ([nested] if kind == "Point" else nested)]
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise GeoJsonError(f"{where}: the coordinates of its {kind} are malformed; each ring must be a list "
                               f"of at least three [x, y] of finite numbers of pixels ({error})") from error
    return polygons, lines


def _check_outlines(polygons: Polygons, where: str, effort: int) -> int:
    """`effort`, what the outlines before these took to check, and what these took. Raises GeoJsonError for one that crosses
    itself, and above MAX_EFFORT."""
    for rings in polygons:
        try:
            place, crossings = crosses_itself(rings)
        except ValueError as error:
            raise GeoJsonError(f"{where}: {error}") from error
        if place:
            raise GeoJsonError(f"{where}: its outline crosses itself near x {place[0]:.0f}, y {place[1]:.0f}, so what it "
                               "encloses is open to doubt; draw it again")
        effort += crossings
        if effort > MAX_EFFORT:
            raise GeoJsonError(f"{where}: up to here the outlines cross {effort / 1e6:.1f} million rows of pixels; "
                               "nobody drew that")
    return effort


def _points(points: Any, least: int) -> np.ndarray:
    """float [n, 2] of a list of [x, y] or [x, y, z]."""
    found = np.array(points, np.float64)[:, :2] if len(points) else np.empty((0, 2))
    if found.shape[1:] != (2,) or len(found) < least or not (np.abs(found) <= MAX_COORDINATE_PX).all():  # NaN fails too
        raise ValueError(f"too few points, or one beyond {MAX_COORDINATE_PX:g} px")
    return found
