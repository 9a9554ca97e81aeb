"""What the stage in the browser is given, once per picture; the sliders, the table and the layers work on it there."""

import base64
import io
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from gland_space.analysis import Analysis, sampled
from hf_gland.export.polygons import Polygon, region_polygons
from hf_gland.imaging.pictures import Picture
from hf_gland.inference import Gland
from hf_gland.labels import class_colour

MAX_SHOWN_PX = 2048  # longer side of what the browser draws; the analysis and the downloads keep their own size


def stage_view(picture: Picture, analysis: Analysis | None = None) -> dict[str, Any]:
    """A picture, and if it was segmented each pixel's gland and confidence, and each gland's outline and measures.

    `full`: (width, height) in the file; `mpp`: µm per pixel there. `data`: a PNG whose red + 256 · green is the gland's id
    and whose blue is 255 · confidence.
    """
    rgb = picture.rgb
    if max(rgb.shape) > MAX_SHOWN_PX:
        rgb = np.asarray(ImageOps.contain(Image.fromarray(rgb), (MAX_SHOWN_PX, MAX_SHOWN_PX)))
    height, width = rgb.shape[:2]
    view = {"name": picture.name, "width": width, "height": height, "full": list(picture.full_hw[::-1]),
            "mpp": picture.mpp if analysis is None else analysis.mpp, "image": data_uri(rgb, "JPEG"), "data": None,
            "glands": []}
    if analysis is None:
        return view
    prediction = analysis.prediction
    pixels = np.ix_(*(sampled(side, shown) for side, shown in zip(picture.rgb.shape[:2], (height, width), strict=True)))
    instances = prediction.instances[pixels]
    data = np.stack([instances & 255, instances >> 8, np.round(prediction.confidence[pixels] * 255)], axis=-1)
    per_um, outlines = analysis.mpp is not None, _outlines(instances)
    return view | {
        "data": data_uri(data.astype(np.uint8), "PNG"), "lowest": analysis.lowest_confidence, "ramp": cividis().tolist(),
        "classes": [{"id": i, "name": name, "colour": hex_colour(i)} for i, name in prediction.id2label.items()],
        "unit": "µm" if per_um else "px",
        "glands": [_gland(gland, outlines.get(gland.id, ""), per_um) for gland in prediction.glands],
    }


def _outlines(instances: np.ndarray) -> dict[int, str]:
    """SVG path of each gland of int [H, W], along its pixels' edges."""
    found = {}
    for index, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is not None:
            found[index] = svg_path(region_polygons(instances[box] == index), box[1].start, box[0].start)
    return found


def svg_path(polygons: list[Polygon], left: int, top: int) -> str:
    """Polygons with vertical and horizontal edges, shifted by (left, top), as the data of an SVG path."""
    parts = []
    for rings in polygons:
        for ring in rings:
            x, y = (ring[0] + (left, top)).tolist()
            steps = np.diff(ring, axis=0).tolist()[:-1]  # the last edge is drawn by closing the path
            parts.append(f"M{x} {y}" + "".join(f"h{dx}" if dx else f"v{dy}" for dx, dy in steps) + "z")
    return "".join(parts)


def _gland(gland: Gland, outline: str, per_um: bool) -> dict[str, Any]:
    area, perimeter = (gland.area_um2, gland.perimeter_um) if per_um else (gland.area_px, gland.perimeter_px)
    return {"id": gland.id, "class": gland.class_id, "outline": outline, "pixels": gland.area_px,
            "area": round(area or 0, 1), "perimeter": round(perimeter or 0, 1),
            "eccentricity": round(gland.eccentricity, 3), "mean": round(gland.mean_confidence, 4),
            "low": round(gland.low_confidence_share, 4), "border": gland.touches_border}


def hex_colour(class_id: int) -> str:
    return "#" + bytes(class_colour(class_id)).hex()


@cache
def cividis() -> np.ndarray:
    """uint8 [256, 3], dark blue (lowest confidence) to yellow (highest)."""
    return np.round(matplotlib.colormaps["cividis"](np.arange(256))[:, :3] * 255).astype(np.uint8)


def data_uri(pixels: np.ndarray, kind: str) -> str:
    """A `data:` address of uint8 [H, W] or [H, W, 3], as PNG (exact) or JPEG."""
    buffer = io.BytesIO()
    options = {"compress_level": 3} if kind == "PNG" else {"quality": 92, "subsampling": 0}
    Image.fromarray(pixels).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
