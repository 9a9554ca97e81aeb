"""From a class map to single glands."""

import numpy as np
from scipy import ndimage


def gland_instances(class_map: np.ndarray, min_area_px: int = 0) -> np.ndarray:
    """Number the glands of a class map.

    A gland is an 8-connected region of one gland class; pixels of class 0 and 255 belong to none, and regions
    under `min_area_px` pixels are dropped. `class_map`: integers [H, W]. Returns int32 [H, W], ids 1..n without
    gaps in raster order per class, 0 elsewhere.
    """
    instances = np.zeros(class_map.shape, np.int32)
    count = 0
    for class_id in np.unique(class_map):
        if class_id in (0, 255):
            continue
        regions, n = ndimage.label(class_map == class_id, structure=np.ones((3, 3), int))
        areas = np.bincount(regions.ravel(), minlength=n + 1)
        keep = np.flatnonzero(areas >= max(min_area_px, 1))
        keep = keep[keep > 0]
        renumber = np.zeros(n + 1, np.int32)
        renumber[keep] = np.arange(count + 1, count + 1 + len(keep))
        instances = np.where(regions > 0, renumber[regions], instances)
        count += len(keep)
    return instances
