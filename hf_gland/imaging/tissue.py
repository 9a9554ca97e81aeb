"""Where a slide holds tissue, by the colour of its stain."""

from math import ceil

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import remove_small_objects

from hf_gland.imaging.slides import Slide

TISSUE_MPP = 8.0  # µm per pixel at which tissue is told from glass
# Difference of a pixel's largest and smallest channel, 0-255, from which it may be tissue whatever the slide, and from which
# it is: Otsu's threshold lies between. Glass has up to 8.
CHROMA_RANGE = (10, 40)
SMOOTHING_UM, CLOSING_UM, MARGIN_UM = 8.0, 32.0, 40.0
SMALLEST_PIECE_UM2 = 10_000.0  # a square of 100 µm
LARGEST_HOLE_UM2 = 1_000_000.0  # a square of 1 mm: the lumen of a large gland, in which glass shows


def tissue_mask(slide: Slide, mpp_xy: tuple[float, float]) -> np.ndarray:
    """bool [h, w] over the whole slide at about TISSUE_MPP: stained pixels by Otsu's threshold on their chroma, smoothed,
    gaps and holes closed, specks left out, with a margin around; and what could not be decoded, which nobody can tell from
    tissue. `mpp_xy`: µm per pixel of the largest level."""
    mpp = max(TISSUE_MPP, *mpp_xy)
    hw = tuple(max(round(side * own / mpp), 1) for side, own in zip(slide.hw, mpp_xy[::-1], strict=True))
    overview = slide.whole(max(hw))
    rgb = overview.rgb
    chroma = ndimage.gaussian_filter((rgb.max(2) - rgb.min(2)).astype(np.float32), SMOOTHING_UM / mpp)
    low, high = CHROMA_RANGE
    stained = chroma >= (np.clip(threshold_otsu(chroma), low, high) if np.ptp(chroma) else low)

    def grown(mask: np.ndarray, radius_um: float) -> np.ndarray:
        return ndimage.distance_transform_edt(~mask) <= radius_um / mpp if mask.any() else mask

    closed = ~grown(~grown(stained, CLOSING_UM), CLOSING_UM)
    pieces = remove_small_objects(closed | stained, max_size=int(SMALLEST_PIECE_UM2 / mpp**2), connectivity=2)
    holes = ndimage.binary_fill_holes(pieces) & ~pieces
    large = remove_small_objects(holes, max_size=int(LARGEST_HOLE_UM2 / mpp**2))
    tissue = grown(pieces | (holes & ~large), MARGIN_UM)
    across, down = rgb.shape[1] / slide.hw[1], rgb.shape[0] / slide.hw[0]
    for left, top, width, height in overview.unreadable:
        tissue[int(top * down):ceil((top + height) * down), int(left * across):ceil((left + width) * across)] = True
    return tissue
