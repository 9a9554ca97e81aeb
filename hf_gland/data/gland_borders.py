"""Where the border of a gland is: what a network learns so that glands that touch can be told apart.

The border is the inner rim of a gland, the part of it that lies near what is not of the same gland. Two neighbours joined by
a narrow bridge then have two cores, as the bridge belongs to the rims of both. (A contour beside the mask: DCAN, Chen et al.
2017, Med. Image Anal. 36; here the rim is a part of the gland, so that the mask is not touched.)
"""

import numpy as np
from scipy import ndimage

from hf_gland.instances import gland_instances
from hf_gland.labels import BACKGROUND, IGNORE_INDEX

BORDER, CORE = 1, 0


def border_targets(labels: np.ndarray, instances: np.ndarray | None, border_px: float) -> np.ndarray:
    """uint8 [H, W]: BORDER and CORE in labelled glands, IGNORE_INDEX in all else and where the labels do not tell.

    `labels`: uint8 [H, W] of classes and IGNORE_INDEX, what an annotator drew; `instances`: integers [H, W], gland ids, of
    which only those of labelled pixels are used and 0 is none (None: connected regions of one class). A pixel within
    `border_px` of a pixel that is known not to belong to its gland is BORDER. A gland that is labelled wholly is known to
    end where its pixels end; of one that is labelled in part, such as by a stroke, only what is labelled otherwise is
    known, and its pixels near unlabelled ones are left open. The picture's edge is no border.
    """
    result = np.full(labels.shape, IGNORE_INDEX, np.uint8)
    labelled = labels != IGNORE_INDEX
    drawn = labelled & (labels != BACKGROUND)
    whole = gland_instances(labels) if instances is None else instances
    ids = np.where(drawn, whole, 0)
    margin = int(np.ceil(border_px)) + 1
    sizes = {} if instances is None else dict(zip(*np.unique(whole, return_counts=True), strict=True))
    for gland, box in zip(*_boxes(ids), strict=True):
        window = tuple(slice(max(side.start - margin, 0), side.stop + margin) for side in box)
        inside = ids[window] == gland
        outside = ~inside & (labelled[window] | (sizes.get(gland) == inside.sum()))
        near = _within(outside, border_px)
        known = inside & (near | ~_within(~inside & ~outside, border_px))
        result[window][known] = np.where(near, BORDER, CORE)[known]
    return result


def _boxes(ids: np.ndarray) -> tuple[list[int], list[tuple[slice, ...]]]:
    """The ids in a map, 0 left out, and the boxes around them."""
    found = np.unique(ids)
    found = found[found != 0]
    dense = np.where(ids > 0, np.searchsorted(found, ids) + 1, 0)
    return found.tolist(), ndimage.find_objects(dense)


def _within(where: np.ndarray, distance_px: float) -> np.ndarray:
    """Pixels no farther than `distance_px` from a pixel of `where`, centre to centre."""
    return ndimage.distance_transform_edt(~where) <= distance_px if where.any() else np.zeros(where.shape, bool)
