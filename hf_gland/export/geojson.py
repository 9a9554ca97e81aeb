"""Glands as GeoJSON annotations that QuPath (0.4 or newer) opens.

Coordinates are pixels of the image from its top left corner, y downwards, as QuPath counts them.
"""

import gzip
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, BinaryIO, cast

import numpy as np
from scipy import ndimage

from hf_gland.export.polygons import Polygon, region_polygons
from hf_gland.export.slide_writer import SlideInfo, SlideWriter
from hf_gland.glands import Gland, PredictedGlands, in_pixels_of
from hf_gland.labels import class_colour
from hf_gland.options import ExportOptions

# Ids of annotations are derived from this, so that exporting the same glands twice gives the same ids.
NAMESPACE = uuid.UUID("8d3f0f5e-4a53-5d0c-9a1c-6f0f2f7f3b11")


def glands_to_geojson(prediction: PredictedGlands, options: ExportOptions = ExportOptions()) -> dict[str, Any]:
    """One annotation per gland, as a GeoJSON FeatureCollection; see `gland_features`."""
    return {"type": "FeatureCollection", "features": list(gland_features(prediction, options))}


def gland_features(prediction: PredictedGlands, options: ExportOptions = ExportOptions()) -> Iterator[dict[str, Any]]:
    """One annotation per gland.

    Outlines follow the pixel edges exactly: they enclose the gland's own number of pixels. With
    `simplify_px` > 0 each is thinned by Douglas and Peucker's method, moving by at most that many pixels
    and keeping its holes; areas then differ slightly, the measurements stay those of the pixels, and
    neighbours may overlap by as much. The image's name enters the annotations' ids, which are the same whenever
    the same glands are exported.
    """
    return (feature for feature, _ in _features(prediction, options))


def _features(prediction: PredictedGlands, options: ExportOptions) -> Iterator[tuple[dict[str, Any], str]]:
    """The features, and the coordinates of each as JSON, which takes the longest to write."""
    boxes = ndimage.find_objects(prediction.instances)
    for number, (gland, box) in enumerate(zip(prediction.glands, boxes, strict=True), start=1):
        offset = np.array([box[1].start, box[0].start]) + prediction.origin_yx[::-1]
        polygons = [[ring + offset for ring in polygon]
                    for polygon in region_polygons(prediction.instances[box] == number)]
        geometry = _geometry(polygons, options)
        coordinates = json.dumps(geometry["coordinates"])
        unsure = gland.mean_confidence < options.unsure_below
        yield _feature(gland, geometry, coordinates, prediction.name, unsure), coordinates


class GeojsonWriter(SlideWriter):
    """A FeatureCollection, written feature by feature, a line each; in ASCII (µ escaped), so that no reader's encoding
    matters. `of_slide`: glands are measured in pixels of the prediction, and get areas and perimeters in those of the slide.
    """

    def __init__(self, file: BinaryIO, slide: SlideInfo, options: ExportOptions, of_slide: bool = False):
        self._file, self._options, self._of_slide = file, options, of_slide
        self._between = b'{"type":"FeatureCollection","features":['

    def add_glands(self, part: PredictedGlands) -> None:
        if self._of_slide:
            part = replace(part, glands=tuple(in_pixels_of(gland, self._options.scale_xy) for gland in part.glands))
        for feature, coordinates in _features(part, self._options):
            feature["geometry"]["coordinates"] = 0
            text = json.dumps(feature, separators=(",", ":"), allow_nan=False)
            text = text.replace('"coordinates":0', '"coordinates":' + coordinates.replace(" ", ""), 1)
            self._file.write(self._between + b"\n" + text.encode("ascii"))
            self._between = b","

    def finish(self) -> None:
        self._file.write(b"]}\n" if self._between == b"," else self._between + b"]}\n")


class GzippedGeojsonWriter(GeojsonWriter):
    """The same, compressed; the same bytes each time, as no name or time is stored."""

    def __init__(self, file: BinaryIO, slide: SlideInfo, options: ExportOptions, of_slide: bool = False):
        self._gzip = gzip.GzipFile("", "wb", fileobj=file, mtime=0)
        super().__init__(cast(BinaryIO, self._gzip), slide, options, of_slide)

    def finish(self) -> None:
        super().finish()
        self._gzip.close()


def _feature(gland: Gland, geometry: dict[str, Any], coordinates: str, image_name: str, unsure: bool) -> dict[str, Any]:
    identity = f"[{json.dumps(image_name)}, {json.dumps(gland.class_name)}, {coordinates}]"
    measurements = {
        "Area px^2": gland.area_px, "Area µm^2": gland.area_um2,
        "Perimeter px": gland.perimeter_px, "Perimeter µm": gland.perimeter_um,
        "Eccentricity": gland.eccentricity, "Mean confidence": gland.mean_confidence,
        "Share of confidence < 0.75": gland.low_confidence_share, "Touches image border": int(gland.touches_border),
        "Unsure": int(unsure),
    }
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, identity)),
        "geometry": geometry,
        "properties": {
            "objectType": "annotation",
            "name": f"{gland.class_name} {gland.id}{' (unsure)' if unsure else ''}",
            "classification": {"name": gland.class_name, "color": list(class_colour(gland.class_id))},
            "isLocked": False,
            "measurements": {key: value for key, value in measurements.items() if value is not None},
        },
    }


def _geometry(polygons: list[Polygon], options: ExportOptions) -> dict[str, Any]:
    coordinates = [[ring.tolist() for ring in polygon] for polygon in polygons]
    if options.simplify_px > 0:
        coordinates = _simplified(coordinates, options.simplify_px)
    if (options.scale_xy, options.origin_xy) != ((1.0, 1.0), (0.0, 0.0)):
        coordinates = [[np.round(np.multiply(ring, options.scale_xy) + options.origin_xy, 2).tolist() for ring in polygon]
                       for polygon in coordinates]
    if len(coordinates) == 1:
        return {"type": "Polygon", "coordinates": coordinates[0]}
    return {"type": "MultiPolygon", "coordinates": coordinates}


def _simplified(coordinates: list[list[list]], tolerance_px: float) -> list[list[list]]:
    """The same polygons with fewer vertices, or as they are where thinning would make them overlap."""
    import shapely  # only here: exact outlines need no geometry library

    parts = [shapely.Polygon(rings[0], rings[1:]).simplify(tolerance_px, preserve_topology=True)
             for rings in coordinates]
    if not shapely.MultiPolygon(parts).is_valid:
        return coordinates
    oriented = [shapely.geometry.polygon.orient(part) for part in parts]
    return [[[list(xy) for xy in ring.coords] for ring in (part.exterior, *part.interiors)]
            for part in oriented]
