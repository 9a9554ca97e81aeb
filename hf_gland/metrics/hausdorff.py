"""Exact Hausdorff distances between the objects of two maps, fast enough for every image."""

from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree


class ObjectMap:
    """A map of object ids, integers >= 0 [H, W] with 0 = none, and its n objects in the order of their ids.

    `labels` int64 [H, W]: the ids made 1..n without gaps; `areas` int64 [n], in pixels. Objects need not be
    connected. Raises ValueError for another kind of array.
    """

    def __init__(self, ids: np.ndarray) -> None:
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer) or ids.min(initial=0) < 0:
            raise ValueError(f"an object map must hold integers >= 0, [H, W]; got {ids.dtype} {ids.shape}")
        present = np.bincount(ids.ravel(), minlength=1) > 0
        present[0] = False
        self.labels = np.where(present, np.cumsum(present), 0)[ids]
        self.areas = np.bincount(self.labels.ravel(), minlength=1)[1:]
        self._slices = ndimage.find_objects(self.labels)
        self._made: dict[int, _Object] = {}

    def __len__(self) -> int:
        return len(self.areas)

    def __getitem__(self, index: int) -> "_Object":
        if index not in self._made:
            rows, columns = self._slices[index]
            crop = self.labels[rows, columns] == index + 1
            self._made[index] = _Object(crop, (rows.start, columns.start))
        return self._made[index]

    @cached_property
    def boxes(self) -> np.ndarray:
        """First row, first column, last row and last column of each object: int [n, 4]."""
        return np.array([[r.start, c.start, r.stop - 1, c.stop - 1] for r, c in self._slices]).reshape(-1, 4)


class _Object:
    """One object: `crop` bool [h, w], the smallest box around it, from `low` to `high` (row, column) inclusive."""

    def __init__(self, crop: np.ndarray, low: tuple[int, int]) -> None:
        self.crop = crop
        self.low = np.array(low)
        self.high = self.low + crop.shape - 1

    @cached_property
    def edge(self) -> np.ndarray:
        """Pixels with one of their four neighbours outside the object or the box: (row, column), int [n, 2]."""
        return np.argwhere(self.crop & ~ndimage.binary_erosion(self.crop)) + self.low

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(self.edge)

    @cached_property
    def distance_px(self) -> np.ndarray:
        """Distance of every pixel of the box to the object: float64 [h, w], 0 in the object."""
        return ndimage.distance_transform_edt(~self.crop)


def hausdorff_px(objects: ObjectMap, index: int, others: ObjectMap, other_index: int) -> float:
    """max(sup over a in A of dist(a, B), sup over b in B of dist(b, A)) over all pixels, in pixels."""
    a, b = objects[index], others[other_index]
    return max(_directed(a, b), _directed(b, a))


def nearest_hausdorff_px(objects: ObjectMap, index: int, others: ObjectMap) -> float:
    """The smallest Hausdorff distance of one object to any of the others, in pixels; infinite if there are
    none.

    Two objects are at least as far apart as their extreme rows and columns differ, so the others are tried in
    the order of that bound until it reaches the best distance found.
    """
    bounds = np.abs(others.boxes - objects.boxes[index]).max(1)
    best = np.inf
    for other in np.argsort(bounds):
        if bounds[other] >= best:
            break
        best = min(best, hausdorff_px(objects, index, others, int(other)))
    return best


def _directed(a: _Object, b: _Object) -> float:
    """sup over all pixels of `a` of the distance to `b`: exact, though it looks at few pixels.

    A pixel of `a` outside the box of `b` gets farther from all of `b` by a step away from the box, so the
    farthest of these lies on the edge of `a`, and the pixel of `b` nearest to it is on the edge of `b`.
    Within the box any pixel may be the farthest (`b` may enclose it): the distance map of the box gives
    them all.
    """
    farthest = 0.0
    low, high = np.maximum(a.low, b.low), np.minimum(a.high, b.high) + 1
    if (low < high).all():
        shared = [np.s_[low[0] - box.low[0]:high[0] - box.low[0], low[1] - box.low[1]:high[1] - box.low[1]]
                  for box in (a, b)]
        farthest = float(b.distance_px[shared[1]].max(where=a.crop[shared[0]], initial=0))
    beyond = a.edge[((a.edge < b.low) | (a.edge > b.high)).any(1)]
    return max(farthest, float(b.tree.query(beyond)[0].max())) if len(beyond) else farthest
