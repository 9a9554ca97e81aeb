"""Glands that touch, told apart where the model is less sure.

Between two neighbours lies a strip of stroma a few pixels wide. A network that is right about most of its pixels still
joins the two wherever it misses one, and one region then stands for two glands. The strip shows in the confidence: each
gland has a core that is surer than the bridge; and in the border of glands, where a network says where that is.
"""

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed

from hf_gland.instances import EIGHT_NEIGHBOURS
from hf_gland.labels import BACKGROUND
from hf_gland.metrics.temperature import apply_temperature

CORE_SHARE = 0.05  # of its region, that a core must have: less is noise


def gland_probability(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """P(gland) of each pixel as it was before calibration, float [H, W].

    probabilities: float [C, H, W], calibrated with `temperature`, which is undone: glands are the same at any temperature.
    """
    before = probabilities if temperature == 1 else apply_temperature(probabilities, 1 / temperature)
    return 1 - before[BACKGROUND]


def core_probabilities(gland: np.ndarray, border: np.ndarray | None) -> np.ndarray:
    """How sure it is that a pixel lies in the core of a gland, float [H, W]: P(gland), see `gland_probability`, times
    1 − P(border | gland) where the network gives that."""
    return gland if border is None else gland * (1 - border)


def divide_by_cores(instances: np.ndarray, probability: np.ndarray, core_probability: float,
                    min_core_area_px: int = 0) -> np.ndarray:
    """Each region that holds several sure cores, divided among them; the others, as they are.

    instances: int [H, W], ids 1..n, 0 = none; probability: float [H, W], 0-1, see `core_probabilities`. A core is an
    8-connected part of a region above `core_probability`, of at least `min_core_area_px` pixels and CORE_SHARE of the
    region. Every pixel of the region goes to one of its cores by watershed on the probability, so no pixel is lost or
    gained. Returns int32 [H, W], ids 1..m without gaps, parts of a region one after the other.
    """
    result = np.zeros(instances.shape, np.int32)
    count = 0
    for region, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        inside, here = instances[box] == region, probability[box]
        cores, found = ndimage.label(inside & (here > core_probability), EIGHT_NEIGHBOURS)
        areas = np.bincount(cores.ravel(), minlength=found + 1)
        enough = areas >= max(min_core_area_px, CORE_SHARE * inside.sum())
        enough[0] = False
        parts = max(int(enough.sum()), 1)
        if parts > 1:
            markers = np.where(enough, np.cumsum(enough), 0)[cores]
            # Most pixels of a region belong to cores, and they are assigned already: the watershed, which is slow, runs only
            # over the pixels between the cores and the rim of each core, one pixel wide, from which it starts.
            flooded = inside & ~ndimage.binary_erosion(markers > 0, EIGHT_NEIGHBOURS, border_value=1)
            spread = watershed(-here, markers, mask=flooded, connectivity=2)
            result[box][inside] = count + np.where(flooded, spread, markers)[inside]
        else:
            result[box][inside] = count + 1
        count += parts
    return result
