"""Predicted glands as data: what inference makes and what exports write."""

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Gland:
    """One gland: an 8-connected region of one gland class, or a part of one (see `touching`).

    Lengths and areas in µm are None where the image's pixel size is unknown. The centroid is in pixels from
    the image's top left corner (the centre of the first pixel is 0.5, 0.5), as in the GeoJSON. The
    perimeter is Crofton's estimate over four directions and includes the rims of holes; eccentricity is
    that of the ellipse with the same second moments (0 circle, towards 1 line). Confidence is the
    probability of the gland's own class, over its pixels; `low_confidence_share` is the share of them (0-1) where it
    is below LOW_CONFIDENCE (0.75). A gland that touches the border of the image, or of the part of a slide that was
    predicted, is probably cut: its sizes are lower bounds.
    """

    id: int
    class_id: int
    class_name: str
    area_px: int
    area_um2: float | None
    perimeter_px: float
    perimeter_um: float | None
    centroid_x_px: float
    centroid_y_px: float
    eccentricity: float
    mean_confidence: float
    low_confidence_share: float
    touches_border: bool


def in_pixels_of(gland: Gland, scale_xy: tuple[float, float]) -> Gland:
    """The gland with area and perimeter in pixels of a picture of which `scale_xy` go to one of those it was measured in."""
    scale = math.sqrt(scale_xy[0] * scale_xy[1])
    return replace(gland, area_px=round(gland.area_px * scale**2), perimeter_px=gland.perimeter_px * scale)


@dataclass(frozen=True, eq=False)
class Place:
    """Where a part lies in its image.

    `origin_yx`: its first row and column; `bounds`: first row, first column, last row + 1, last column + 1 of what could
    be seen, most often the whole image: a gland that reaches them is cut; `glands_before`: how many are numbered already;
    `cut_yx`: pixels of the part, int [N, 2] (row, column) of the image: the gland of one of them is cut.
    """

    origin_yx: tuple[int, int]
    bounds: tuple[int, int, int, int]
    glands_before: int = 0
    cut_yx: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class PredictedGlands:
    """What the model sees in one image of H×W pixels.

    `class_map` uint8 [H, W]: class ids after clean-up. `probabilities` float32 [C, H, W], 0-1, summing to
    1. `confidence` float32 [H, W]: the highest class probability, before clean-up. `instances` int32 [H,
    W]: gland ids, 0 = none. `glands`: one row per id, in order. `id2label`: class names. `mpp`: µm per
    pixel of the image, None when it was not stated. `rgb` uint8 [H, W, 3]: the image (None: not kept), whose file or id
    is `name`. `origin_yx`: where the arrays' first pixel lies in the image, if they are a part of it, as they are on a
    slide; ids of `instances` then count from 1, while the glands carry those of the whole image.
    """

    class_map: np.ndarray
    probabilities: np.ndarray
    confidence: np.ndarray
    instances: np.ndarray
    glands: tuple[Gland, ...]
    id2label: dict[int, str]
    mpp: float | None
    rgb: np.ndarray | None = None
    name: str = "image"
    origin_yx: tuple[int, int] = (0, 0)
