"""Exact Hausdorff distances between the objects of two maps, without distance transforms of whole images."""

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
            self._made[index] = _Object(index + 1, crop, (rows.start, columns.start))
        return self._made[index]

    @cached_property
    def boxes(self) -> np.ndarray:
        """First row, first column, last row and last column of each object: int [n, 4]."""
        return np.array([[r.start, c.start, r.stop - 1, c.stop - 1] for r, c in self._slices]).reshape(-1, 4)


class _Object:
    """The pixels of one object as (row, column), int [n, 2]; `label` is its number in `ObjectMap.labels`."""

    def __init__(self, label: int, crop: np.ndarray, top_left: tuple[int, int]) -> None:
        self.label = label
        self.pixels = np.argwhere(crop) + top_left
        # Pixels with one of the four neighbours outside the object; beyond the crop is outside.
        self.edge = np.argwhere(crop & ~ndimage.binary_erosion(crop)) + top_left
        self.low, self.high = self.pixels.min(0), self.pixels.max(0)

    @cached_property
    def tree(self) -> cKDTree:
        return cKDTree(self.edge)


def hausdorff_px(objects: ObjectMap, index: int, others: ObjectMap, other_index: int) -> float:
    """max(sup over a in A of dist(a, B), sup over b in B of dist(b, A)) over all pixels, in pixels."""
    a, b = objects[index], others[other_index]
    return max(_directed(a, b, others.labels), _directed(b, a, objects.labels))


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


def _directed(a: _Object, b: _Object, b_labels: np.ndarray) -> float:
    """sup over all pixels of `a` of the distance to `b`: exact, though it looks at few pixels.

    Pixels inside `b` are at distance 0. A pixel of `a` outside the bounding box of `b` gets farther from all
    of `b` by a step away from the box, so the farthest of these lies on the edge of `a`; within the box any
    may be the farthest (`b` may enclose it). The pixel of `b` nearest to a point outside `b` is on its edge.
    """
    in_box = ((a.pixels >= b.low) & (a.pixels <= b.high)).all(1)
    candidates = np.concatenate([a.edge, a.pixels[in_box]])
    candidates = candidates[b_labels[candidates[:, 0], candidates[:, 1]] != b.label]
    return float(b.tree.query(candidates)[0].max()) if len(candidates) else 0.0
