"""What the result view in the browser is given: once per picture, and anew for every position of the sliders."""

import base64
import io
from functools import cache
from typing import Any

import matplotlib
import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from gland_space.analysis import Analysis, Choice, kept_glands, uncertain_ids
from hf_gland.export.polygons import Polygon, region_polygons
from hf_gland.imaging.pictures import Picture
from hf_gland.inference import Gland
from hf_gland.labels import class_colour

MAX_SHOWN_PX = 2048  # longer side of what the browser draws; the analysis and the downloads keep their own size
WIDTH, HEIGHT = 420, 190  # of the histogram, and the margins of its axes
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 38


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
    uncertain = uncertain_ids(analysis, choice)
    return {"view": key, "kept": [gland.id for gland in kept],
            "uncertain": sorted(uncertain & {gland.id for gland in kept}), "threshold": choice.uncertain_below,
            "summary": summary(analysis, choice, kept, uncertain),
            "histogram": histogram_svg(analysis.histogram, analysis.lowest_confidence, choice.uncertain_below)}


def summary(analysis: Analysis, choice: Choice, kept: list[Gland], uncertain: set[int]) -> str:
    """One line under the pictures."""
    if not analysis.prediction.glands:
        return "No gland found in this picture."
    count = f"{len(kept)} gland{'' if len(kept) == 1 else 's'}"
    low = sum(gland.id in uncertain for gland in kept)
    share = sum(gland.area_px for gland in kept) / (analysis.picture.full_hw[0] * analysis.picture.full_hw[1])
    parts = [count, f"{100 * min(share, 1):.1f} % of the picture",
             f"{low} uncertain (below {100 * choice.uncertain_below:.0f} %)"]
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
            "mean": round(gland.mean_confidence, 4), "unsure": round(gland.low_confidence_share, 4),
            "border": gland.touches_border}


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


def histogram_svg(shares: np.ndarray, lowest: float, threshold: float) -> str:
    """`shares` float [2, bins]: share of all pixels by confidence from `lowest` to 1, outside and inside glands."""
    bins = shares.shape[1]
    plot_w, plot_h = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    top_share = float(shares.sum(axis=0).max()) or 1.0
    step = plot_w / bins
    bars = []
    for index, (outside, inside) in enumerate(shares.T.tolist()):
        base = TOP + plot_h
        for share, kind in ((inside, "inside"), (outside, "outside")):
            height = plot_h * share / top_share
            if height > 0.05:
                base -= height
                bars.append(f'<rect class="gl-{kind}" x="{LEFT + index * step + 0.5:.1f}" y="{base:.1f}" '
                            f'width="{step - 1:.1f}" height="{height:.1f}"/>')
    x = LEFT + plot_w * (min(max(threshold, lowest), 1) - lowest) / (1 - lowest)
    ticks = "".join(
        f'<text x="{LEFT + plot_w * t:.1f}" y="{HEIGHT - 20}" text-anchor="middle">{100 * (lowest + t * (1 - lowest)):.0f}'
        "</text>" for t in np.linspace(0, 1, 6))
    below = float(shares.sum(axis=0)[np.linspace(lowest, 1, bins + 1)[1:] <= threshold + 1e-9].sum())
    text = (f"Histogram of the confidence of all pixels. About {100 * below:.0f} % of the pixels are below the "
            f"threshold of {100 * threshold:.0f} %.")
    return (f'<svg class="gl-histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text}">'
            f'<title>{text}</title>'
            f'<text x="{LEFT - 6}" y="{TOP + 9}" text-anchor="end">{100 * top_share:.0f} %</text>'
            f'<text x="{LEFT - 6}" y="{TOP + plot_h}" text-anchor="end">0 %</text>'
            f'<path class="gl-axis" d="M{LEFT} {TOP}V{TOP + plot_h}H{WIDTH - RIGHT}"/>{"".join(bars)}'
            f'<path class="gl-threshold" d="M{x:.1f} {TOP}V{TOP + plot_h}"/>{ticks}'
            f'<text x="{LEFT + plot_w / 2}" y="{HEIGHT - 4}" text-anchor="middle">confidence (%)</text></svg>')
