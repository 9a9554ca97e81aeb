"""Where the model hesitates, and where the next outline therefore teaches it most."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.feature import peak_local_max

from hf_gland.labels import IGNORE_INDEX


@dataclass(frozen=True)
class Suggestion:
    """A place worth outlining: its centre and radius in px, and its mean uncertainty, 0-1."""

    x_px: float
    y_px: float
    radius_px: float
    uncertainty: float


def uncertainty(confidence: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 [H, W] in 0-1: 0 where the model is certain, 1 where it might as well guess among the classes."""
    lowest = 1 / num_classes
    return np.clip((1 - confidence) / (1 - lowest), 0, 1).astype(np.float32)


def suggest(uncertain: np.ndarray, mask: np.ndarray | None, radius_px: float, count: int = 5) -> list[Suggestion]:
    """The `count` most uncertain places, the most uncertain first, at least two radii apart.

    `uncertain` float [H, W]; `mask` uint8 [H, W]: what is labelled already (not 255) needs no further outline.
    Uncertainty is averaged over about the area of a gland of `radius_px`: the thin seam of doubt around every outline
    is not what is looked for.
    """
    open_ground = uncertain if mask is None else np.where(mask == IGNORE_INDEX, uncertain, 0)
    mean = ndimage.gaussian_filter(open_ground.astype(np.float32), radius_px / 2, mode="constant")
    found = peak_local_max(mean, min_distance=max(round(2 * radius_px), 1), num_peaks=count, threshold_abs=0.05,
                           exclude_border=False)
    return [Suggestion(float(x) + 0.5, float(y) + 0.5, radius_px, float(mean[y, x])) for y, x in found]


def gland_radius_px(instances: np.ndarray) -> float:
    """Radius of a disc of the median gland's area; a twelfth of the shorter side where there is no gland."""
    areas = np.bincount(instances.ravel())[1:]
    areas = areas[areas > 0]
    if not len(areas):
        return max(min(instances.shape) / 12, 8.0)
    return float(np.clip(np.sqrt(np.median(areas) / np.pi), 8, min(instances.shape) / 4))
