"""Between pixel regions and polygons, exactly.

Vertices lie on pixel corners (pixel (row, column) covers x from column to column + 1, y from row to row +
1), so a traced polygon has the area of its region to the pixel, and filling it gives the same region back.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

Ring = np.ndarray  # [n + 1, 2] of (x, y), the last vertex repeating the first
Polygon = list[Ring]  # the outer ring, then the holes

CHECKED_SIDE_PX = 1024  # of the grid on which a crossing has to show
MAX_CROSSINGS, CROSSINGS_AT_ONCE = 100_000_000, 2**20  # of outlines with rows of pixels, when a polygon is filled


def region_polygons(region: np.ndarray) -> list[Polygon]:
    """The outline of a bool [H, W] region along its pixel edges.

    One polygon per 4-connected part, in raster order: parts that touch only at a corner become separate
    polygons, since a ring through that corner twice would not be valid. Rings are int64, closed and simple;
    seen with y upwards, outer rings run counter-clockwise and holes clockwise (RFC 7946), so `ring_area` is
    positive for the former, negative for the latter, and all areas add up to the number of pixels.
    """
    parts, _ = ndimage.label(region)
    polygons = []
    for index, box in enumerate(ndimage.find_objects(parts), start=1):
        offset = np.array([box[1].start, box[0].start])
        polygons.append([ring + offset for ring in _rings(parts[box] == index)])
    return polygons


def ring_area(ring: np.ndarray) -> float:
    """Signed area of a closed ring [n + 1, 2] of (x, y) by the shoelace formula."""
    x, y = ring.astype(np.float64).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)


def fill_polygon(rings: Sequence[np.ndarray], hw: tuple[int, int]) -> np.ndarray:
    """The pixels whose centre lies inside, bool [H, W].

    `rings`: float [n, 2] of (x, y) in pixels from the top left corner, closed or not, in any direction.
    Inside is by the even-odd rule over all rings, so holes are left out. What lies beyond the image is cut
    off. Raises ValueError for outlines that cross rows of pixels more than MAX_CROSSINGS times.
    """
    return (_windings(rings, hw) % 2).astype(bool)


def _windings(rings: Sequence[np.ndarray], hw: tuple[int, int]) -> np.ndarray:
    """How often the rings go round the centre of each pixel, int32 [H, W], one way counted against the other."""
    height, width = hw
    flips = np.zeros((height, width + 1), np.int32)
    start = np.concatenate([np.asarray(ring, np.float64) for ring in rings])
    end = np.concatenate([np.roll(np.asarray(ring, np.float64), -1, axis=0) for ring in rings])
    # rows whose centre y + ½ lies in [y0, y1) of an edge, whichever way it runs
    first, last = (np.clip(np.ceil(edge - 0.5), 0, height).astype(np.int64)
                   for edge in (np.minimum(start[:, 1], end[:, 1]), np.maximum(start[:, 1], end[:, 1])))
    counts = last - first
    direction = np.where(end[:, 1] > start[:, 1], 1, -1).astype(np.int32)
    total = np.cumsum(counts)
    if total[-1] > MAX_CROSSINGS:
        raise ValueError(f"its outline crosses {total[-1] / 1e6:.0f} million rows of pixels; nobody drew that")
    for block in np.split(np.arange(len(start)), np.flatnonzero(np.diff(total // CROSSINGS_AT_ONCE)) + 1):
        edge = np.repeat(block, counts[block])
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts[block]) - counts[block], counts[block]) + first[edge]
        share = (row + 0.5 - start[edge, 1]) / (end[edge, 1] - start[edge, 1])
        x = start[edge, 0] + share * (end[edge, 0] - start[edge, 0])
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)
        np.add.at(flips, (row, column), direction[edge])
    return np.cumsum(flips[:, :width], axis=1, dtype=np.int32)


def crosses_itself(rings: Polygon) -> tuple[float, float] | None:
    """(x, y) near which the outline of a polygon crosses itself, else None. `rings`: float [n, 2], outer one first.

    Rings may touch, and what is less than a pixel (of CHECKED_SIDE_PX to the longer side) is passed over: QuPath rounds
    coordinates to a hundredth of a pixel, which can make two edges that met cross.
    """
    import shapely  # only here: exact outlines need no geometry library

    shape = shapely.Polygon(rings[0], rings[1:])
    if shapely.is_valid(shape):
        return None
    corner, far = np.concatenate(rings).min(axis=0), np.concatenate(rings).max(axis=0)
    scale = max((far - corner).max() / CHECKED_SIDE_PX, 1.0)
    width, height = np.ceil((far - corner) / scale).astype(int) + 1
    try:
        outer, *holes = (_windings([(ring - corner) / scale], (height, width)) for ring in rings)
        doubtful = _wound_otherwise(outer)
        for hole in holes:
            doubtful |= _wound_otherwise(hole) | ((hole != 0) & (outer == 0))
    except ValueError:
        doubtful = np.ones((1, 1), bool)
    if not doubtful.any():
        return None
    y, x = np.argwhere(doubtful)[0]
    return float(corner[0] + (x + 0.5) * scale), float(corner[1] + (y + 0.5) * scale)


def _wound_otherwise(windings: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels that a ring goes round more than once, or in another direction than it goes round most."""
    usual = 1 if windings.sum() >= 0 else -1
    return (windings != 0) & (windings != usual)


def _rings(part: np.ndarray) -> list[Ring]:
    """The closed rings of a 4-connected region, the outer one first.

    A corner of the outline has one horizontal and one vertical edge. Along a grid line the corners pair up,
    two by two, into edges, so sorting finds every edge at once. Where four edges meet (pixels touching at a
    corner), the corner counts twice, and its edges join so that the touching pixels lie on the same side:
    then no ring of a 4-connected region passes a corner twice.
    """
    padded = np.pad(part, 1)
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    crossing = (above_left == below_right) & (above_right == below_left) & (above_left != above_right)
    corner = above_left ^ above_right ^ below_left ^ below_right
    y, x = np.nonzero(corner | crossing)
    double = crossing[y, x]
    y, x, falling = (np.repeat(v, 1 + double) for v in (y, x, above_left[y, x] & double))
    node = np.arange(len(y))
    second = np.zeros(len(y), bool)
    second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])

    # Of a double corner the first node holds the edge to the left, the second that to the right. The edge
    # upwards goes with the left one where the touching pixels rise to the right, else with the right one.
    along = np.lexsort((second ^ falling, y, x))
    vertical = np.empty_like(node)
    vertical[along[0::2]], vertical[along[1::2]] = along[1::2], along[0::2]

    # Horizontal edges join nodes 2k and 2k + 1. Those above the region run to the right.
    left = node[0::2]
    below_inside = below_right[y[left], x[left]]
    start = np.where(below_inside, left, left + 1)
    end = np.where(below_inside, left + 1, left)
    following = (vertical[end] // 2).tolist()  # the edge that starts where the vertical one from here ends

    rings: list[Ring] = []
    seen = np.zeros(len(left), bool)
    for first in range(len(left)):
        if seen[first]:
            continue
        edges, edge = [], first
        while not seen[edge]:
            seen[edge] = True
            edges.append(edge)
            edge = following[edge]
        nodes = np.stack([start[edges], end[edges]], axis=1).ravel()
        nodes = np.append(nodes, nodes[0])
        rings.append(np.stack([x[nodes], y[nodes]], axis=1))
    # Raster order meets the outer ring first: its topmost edge lies above those of all holes.
    return rings
