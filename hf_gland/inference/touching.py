"""Glands that touch, told apart where the model is less sure.

Between two neighbours lies a strip of stroma a few pixels wide. A network that is right about most of its pixels still
joins the two wherever it misses one, and one region then stands for two glands. The strip shows in the confidence: each
gland has a core that is surer than the bridge.
"""

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from hf_gland.instances import EIGHT_NEIGHBOURS

CORE_SHARE = 0.05  # of its region, that a core must have: less is noise


def divide_by_cores(instances: np.ndarray, gland_probability: np.ndarray, core_probability: float,
                    min_core_area_px: int = 0) -> np.ndarray:
    """Each region that holds several sure cores, divided among them; the others, as they are.

    instances: int [H, W], ids 1..n, 0 = none; gland_probability: float [H, W], 0-1. A core is an 8-connected part of a
    region above `core_probability`, of at least `min_core_area_px` pixels and CORE_SHARE of the region. Every pixel of the
    region goes to one of its cores by watershed on the probability, so no pixel is lost or gained. Returns int32 [H, W],
    ids 1..m without gaps, parts of a region one after the other.
    """
    result = np.zeros(instances.shape, np.int32)
    count = 0
    for region, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        inside, probability = instances[box] == region, gland_probability[box]
        cores, found = ndimage.label(inside & (probability > core_probability), EIGHT_NEIGHBOURS)
        areas = np.bincount(cores.ravel(), minlength=found + 1)
        enough = areas >= max(min_core_area_px, CORE_SHARE * inside.sum())
        enough[0] = False
        parts = max(int(enough.sum()), 1)
        if parts > 1:
            markers = np.where(enough, np.cumsum(enough), 0)[cores]
            # Most pixels of a region belong to cores, and they are assigned already: the watershed, which is slow, runs only
            # over the pixels between the cores and the rim of each core, one pixel wide, from which it starts.
            flooded = inside & ~ndimage.binary_erosion(markers > 0, EIGHT_NEIGHBOURS, border_value=1)
            spread = watershed(-probability, markers, mask=flooded, connectivity=2)
            result[box][inside] = count + np.where(flooded, spread, markers)[inside]
        else:
            result[box][inside] = count + 1
        count += parts
    return result
