"""What the result view in the browser is given: once per picture, and anew for every position of the sliders."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from gland_space.analysis import Analysis, Choice, kept_glands, unsure_ids
from gland_space.colours import cividis, data_uri, hex_colour
from gland_space.histogram import histogram_svg
from hf_gland.export.polygons import Polygon, region_polygons
from hf_gland.imaging.pictures import Picture
from hf_gland.inference import Gland

MAX_SHOWN_PX = 2048  # longer side of what the browser draws; the analysis and the downloads keep their own size


def picture_view(picture: Picture) -> dict[str, Any]:
    """A picture before it is segmented."""
    shown = ImageOps.contain(Image.fromarray(picture.rgb), (MAX_SHOWN_PX, MAX_SHOWN_PX)) \
        if max(picture.rgb.shape) > MAX_SHOWN_PX else picture.rgb
    pixels = np.asarray(shown)
    return {"name": picture.name, "width": pixels.shape[1], "height": pixels.shape[0],
            "full": list(picture.full_hw[::-1]), "image": data_uri(pixels, "JPEG"), "data": None, "glands": []}


def result_view(analysis: Analysis) -> dict[str, Any]:
    """A segmented picture: the image, each pixel's gland and confidence, and each gland's outline and measures.

    `data` is a PNG whose red + 256 · green is the gland's id and whose blue is 255 · confidence.
    """
    view = picture_view(analysis.picture)
    rows, columns = (_sampled(side, shown) for side, shown in zip(
        analysis.picture.rgb.shape[:2], (view["height"], view["width"]), strict=True))
    instances = analysis.prediction.instances[np.ix_(rows, columns)]
    confidence = analysis.prediction.confidence[np.ix_(rows, columns)]
    data = np.stack([instances & 255, instances >> 8, np.round(confidence * 255)], axis=-1).astype(np.uint8)
    outlines = _outlines(instances)
    per_um = analysis.mpp is not None
    return view | {
        "data": data_uri(data, "PNG"), "lowest": analysis.lowest_confidence,
        "ramp": ["#" + bytes(colour).hex() for colour in cividis().tolist()],
        "classes": [{"id": i, "name": name, "colour": hex_colour(i)} for i, name in analysis.prediction.id2label.items()],
        "unit": "µm" if per_um else "px",
        "glands": [_gland(gland, outlines.get(gland.id, ""), per_um) for gland in analysis.prediction.glands],
    }


def choice_view(key: str, analysis: Analysis, choice: Choice) -> dict[str, Any]:
    """What the sliders change; `key` names the view it belongs to."""
    kept = kept_glands(analysis, choice)
    unsure = unsure_ids(analysis, choice)
    return {"view": key, "kept": [gland.id for gland in kept],
            "unsure": sorted(unsure & {gland.id for gland in kept}), "threshold": choice.unsure_below,
            "summary": summary(analysis, choice, kept, unsure),
            "histogram": histogram_svg(analysis.histogram, analysis.lowest_confidence, choice.unsure_below)}


def summary(analysis: Analysis, choice: Choice, kept: list[Gland], unsure: set[int]) -> str:
    """One line under the pictures."""
    if not analysis.prediction.glands:
        return "No gland found in this picture."
    count = f"{len(kept)} gland{'' if len(kept) == 1 else 's'}"
    doubtful = sum(gland.id in unsure for gland in kept)
    share = sum(gland.area_px for gland in kept) / (analysis.picture.full_hw[0] * analysis.picture.full_hw[1])
    parts = [count, f"{100 * min(share, 1):.1f} % of the picture",
             f"{doubtful} unsure (below {100 * choice.unsure_below:.0f} %)"]
    if hidden := len(analysis.prediction.glands) - len(kept):
        parts.append(f"{hidden} smaller gland{'' if hidden == 1 else 's'} left out")
    return " · ".join(parts)


def _sampled(side: int, shown: int) -> np.ndarray:
    """Which of `side` pixels stand for each of `shown` ones."""
    return np.minimum((np.arange(shown) + 0.5) * side / shown, side - 1).astype(np.intp)


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
    return {"id": gland.id, "class": gland.class_id, "outline": outline, "area": round(area or 0, 1),
            "perimeter": round(perimeter or 0, 1), "eccentricity": round(gland.eccentricity, 3),
            "mean": round(gland.mean_confidence, 4), "lowest": round(gland.lowest_confidence, 4),
            "border": gland.touches_border}
