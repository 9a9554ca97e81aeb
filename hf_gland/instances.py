"""From a class map to single glands."""

import numpy as np
from scipy import ndimage

EIGHT_NEIGHBOURS = np.ones((3, 3), int)


def gland_instances(class_map: np.ndarray, min_area_px: int = 0) -> np.ndarray:
    """Number the glands of a class map.

    A gland is an 8-connected region of one gland class; pixels of class 0 and 255 belong to none, and regions
    under `min_area_px` pixels are dropped. `class_map`: integers [H, W]. Returns int32 [H, W], ids 1..n
    without gaps in raster order per class, 0 elsewhere.
    """
    instances = np.zeros(class_map.shape, np.int32)
    count = 0
    for class_id in np.unique(class_map):
        if class_id in (0, 255):
            continue
        regions, n = ndimage.label(class_map == class_id, structure=EIGHT_NEIGHBOURS)
        areas = np.bincount(regions.ravel(), minlength=n + 1)
        keep = np.flatnonzero(areas >= max(min_area_px, 1))
        keep = keep[keep > 0]
        renumber = np.zeros(n + 1, np.int32)
        renumber[keep] = np.arange(count + 1, count + 1 + len(keep))
        instances = np.where(regions > 0, renumber[regions], instances)
        count += len(keep)
    return instances


def fill_holes(class_map: np.ndarray, max_area_px: int) -> np.ndarray:
    """Give small holes in glands to the gland around them; a copy of `class_map`, integers [H, W].

    A hole is a 4-connected region of class 0, at most `max_area_px` pixels large, that touches neither the
    border of the image nor an unlabelled pixel (255). It takes the class that most of the pixels along its
    outside have (the lowest of several). `max_area_px=0` fills nothing.
    """
    filled = class_map.copy()
    if max_area_px < 1:
        return filled
    regions, n = ndimage.label(class_map == 0)
    areas = np.bincount(regions.ravel(), minlength=n + 1)
    for region, found in enumerate(ndimage.find_objects(regions), start=1):
        rows, columns = found
        at_border = (rows.start == 0 or columns.start == 0 or rows.stop == class_map.shape[0]
                     or columns.stop == class_map.shape[1])
        if at_border or areas[region] > max_area_px:
            continue
        crop = np.s_[rows.start - 1:rows.stop + 1, columns.start - 1:columns.stop + 1]
        hole = regions[crop] == region
        around = class_map[crop][ndimage.binary_dilation(hole) & ~hole]
        if (around != 255).all():
            filled[crop][hole] = np.bincount(around).argmax()
    return filled
