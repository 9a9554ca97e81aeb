"""From a class map to single glands."""

import numpy as np
from scipy import ndimage

from hf_gland.labels import IGNORE_INDEX, MaskError

EIGHT_NEIGHBOURS = np.ones((3, 3), int)


def gland_instances(class_map: np.ndarray, min_area_px: int = 0) -> np.ndarray:
    """Number the glands of a class map.

    A gland is an 8-connected region of one gland class; pixels of class 0 and 255 belong to none, and regions
    under `min_area_px` pixels are dropped. `class_map`: integers [H, W]. Returns int32 [H, W], ids 1..n
    without gaps in raster order per class, 0 elsewhere.
    """
    instances = np.zeros(class_map.shape, np.int32)
    count = 0
    for class_id in range(1, int(class_map.max(initial=0)) + 1):
        of_class = class_map == class_id
        if class_id == IGNORE_INDEX or not of_class.any():
            continue
        regions, n = ndimage.label(of_class, structure=EIGHT_NEIGHBOURS)
        areas = np.bincount(regions.ravel(), minlength=n + 1)
        keep = np.flatnonzero(areas >= max(min_area_px, 1))
        keep = keep[keep > 0]
        renumber = np.zeros(n + 1, np.int32)
        renumber[keep] = np.arange(count + 1, count + 1 + len(keep))
        instances += renumber[regions]  # classes do not overlap
        count += len(keep)
    return instances


def join_small_parts(class_map: np.ndarray, min_area_px: int) -> np.ndarray:
    """Give parts of a gland that are too small to be one the class of the gland they are part of; a copy of `class_map`,
    integers [H, W].

    Within each 8-connected region of gland, of whatever classes, of at least `min_area_px` pixels: every part of one class
    with fewer takes, pixel by pixel, the class of the nearest part that has enough. Where none has, all of the region takes
    the class that most of its pixels have (the lowest of several). With one gland class nothing changes.
    """
    joined = class_map.copy()
    if class_map.max(initial=0) < 2:  # one class of glands
        return joined
    parts = gland_instances(class_map)
    small = np.bincount(parts.ravel()) < min_area_px
    small[0] = False
    if not small.any():
        return joined
    regions, _ = ndimage.label(parts > 0, structure=EIGHT_NEIGHBOURS)
    boxes = ndimage.find_objects(regions)
    for number in np.unique(regions[small[parts]]):
        box = boxes[number - 1]
        region = regions[box] == number
        if np.count_nonzero(region) < min_area_px:
            continue
        lost = region & small[parts[box]]
        classes = joined[box]
        if (enough := region & ~lost).any():
            nearest = ndimage.distance_transform_edt(~enough, return_distances=False, return_indices=True)
            classes[lost] = classes[tuple(nearest)][lost]
        else:
            classes[region] = np.bincount(classes[region]).argmax()
    return joined


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
    if n < 2 and class_map[0, 0] == 0:  # all of it reaches the border
        return filled
    areas = np.bincount(regions.ravel(), minlength=n + 1)
    for region, found in enumerate(ndimage.find_objects(regions), start=1):
        rows, columns = found
        at_border = (rows.start == 0 or columns.start == 0 or rows.stop == class_map.shape[0]
                     or columns.stop == class_map.shape[1])
        if at_border or areas[region] > max_area_px:
            continue
        crop = np.s_[rows.start - 1:rows.stop + 1, columns.start - 1:columns.stop + 1]
        hole = regions[crop] == region
        beside = np.zeros_like(hole)  # as ndimage.binary_dilation gives it, which takes longer than all the rest
        for to, fro in ((np.s_[1:], np.s_[:-1]), (np.s_[:-1], np.s_[1:])):
            beside[to] |= hole[fro]
            beside[:, to] |= hole[:, fro]
        around = class_map[crop][beside & ~hole]
        if (around != 255).all():
            filled[crop][hole] = np.bincount(around).argmax()
    return filled


def framed(array: np.ndarray) -> np.ndarray:
    """`array` [H, W] in a frame of zeros, [H + 2, W + 2]; np.pad takes longer than most of what is done with it."""
    result = np.zeros((array.shape[0] + 2, array.shape[1] + 2), array.dtype)
    result[1:-1, 1:-1] = array
    return result


def check_instances(instances: np.ndarray, class_map: np.ndarray, name: str) -> None:
    """Raise MaskError unless the gland ids `instances` (integers [H, W], 0 = none) are those of `class_map` ([H, W]).

    Most of every gland region has an id, most of every id lies on glands, and several regions do not all carry the number
    of their class, or 255. Outlines that differ by a pixel or two pass; what lies under 255 does not count. `name` is
    quoted.
    """
    if instances.shape != class_map.shape:
        raise MaskError(f"{name}: the map of gland ids is {instances.shape} but the mask is {class_map.shape}, in rows and "
                        "columns")
    glands = (class_map != 0) & (class_map != IGNORE_INDEX)
    ids = np.where(class_map != IGNORE_INDEX, instances, 0)
    numbers, places = np.unique(ids, return_inverse=True)
    remedy = "give each gland an id of its own and 0 to all else, or leave the ids out: then connected regions are glands"
    outside = numbers[np.bincount(places.ravel(), ~glands.ravel(), len(numbers)) * 2 > np.bincount(places.ravel())]
    if outside[outside != 0].size:
        raise MaskError(f"{name}: gland id {outside[outside != 0][0]} lies outside the glands of the mask; {remedy}")
    regions = gland_instances(np.where(glands, class_map, 0))
    areas = np.bincount(regions.ravel())
    bare = np.flatnonzero(np.bincount(regions.ravel(), (ids == 0).ravel(), len(areas)) * 2 > areas)
    if bare[bare != 0].size:
        y, x = np.argwhere(regions == bare[bare != 0][0])[0]
        raise MaskError(f"{name}: the gland at row {y}, column {x} of the mask has no id; {remedy}")
    one_number = set(numbers.tolist()) - {0} == {IGNORE_INDEX}  # of a mask of 0 and 255
    if one_number or np.array_equal(ids, np.where(glands, class_map, 0)):
        pieces, _ = ndimage.label(class_map != 0, structure=EIGHT_NEIGHBOURS)  # joined where 255 hides what is between
        sizes = np.bincount(pieces[glands])
        found, count = int((sizes * 10 >= sizes.max(initial=1)).sum()), np.count_nonzero(numbers)  # a crumb is no gland
        if found > count:
            of = "all 255" if one_number else "the classes of the mask"
            raise MaskError(f"{name}: the gland ids are {of}, {count} for {found} glands; {remedy}")
