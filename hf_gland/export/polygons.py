"""Between pixel regions and polygons, exactly.

Vertices lie on pixel corners (pixel (row, column) covers x from column to column + 1, y from row to row +
1), so a traced polygon has the area of its region to the pixel, and filling it gives the same region back.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from hf_gland.instances import framed

Ring = np.ndarray  # [n + 1, 2] of (x, y), the last vertex repeating the first
Polygon = list[Ring]  # the outer ring, then the holes

CHECKED_SIDE_PX = 1024  # of the grid on which a crossing has to show
# Outlines that are checked exactly, with at most this many points: that takes the square of their number, at worst.
EXACT_POINTS = 64
# The grid lies askew of the whole and half pixels on which outlines have their corners, so that no centre lies on an edge.
CHECKED_SHIFT_PX = (0.2360679775, 0.4142135624)
MAX_CROSSINGS, CROSSINGS_AT_ONCE = 10_000_000, 2**19  # of an outline with rows of pixels


def region_polygons(region: np.ndarray) -> list[Polygon]:
    """The outline of a bool [H, W] region along its pixel edges.

    One polygon per 4-connected part, in raster order: parts that touch only at a corner become separate
    polygons, since a ring through that corner twice would not be valid. Rings are int64, closed and simple;
    seen with y upwards, outer rings run counter-clockwise and holes clockwise (RFC 7946), so `ring_area` is
    positive for the former, negative for the latter, and all areas add up to the number of pixels.
    """
    corners = _corners(region)
    if not corners.crossing.any():
        rings, outer = _rings(corners)
        if outer <= 1:  # one part, in most cases, whose pixels need not be numbered
            return [rings] if rings else []
    parts, _ = ndimage.label(region)
    polygons = []
    for index, box in enumerate(ndimage.find_objects(parts), start=1):
        offset = np.array([box[1].start, box[0].start])
        polygons.append([ring + offset for ring in _rings(_corners(parts[box] == index))[0]])
    return polygons


def ring_area(ring: np.ndarray) -> float:
    """Signed area of a ring [n, 2] of (x, y), closed or not, by the shoelace formula."""
    x, y = (ring.astype(np.float64) - ring[0]).T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2)


def fill_polygon(rings: Sequence[np.ndarray], hw: tuple[int, int], *, nonzero: bool = False) -> np.ndarray:
    """The pixels whose centre lies inside, bool [H, W].

    `rings`: float [n, 2] of (x, y) in pixels from the top left corner, closed or not, in any direction.
    Inside is by the even-odd rule over all rings, so holes are left out; `nonzero`: rings turned one way add
    up. What lies beyond the image is cut off. Raises ValueError for outlines that cross rows of pixels more
    than MAX_CROSSINGS times.
    """
    flips = np.zeros((hw[0], hw[1] + 1), np.int32)
    for _, row, column, direction in _crossings(rings, hw):
        np.add.at(flips, (row, column), direction)
    windings = np.cumsum(flips[:, :hw[1]], axis=1, dtype=np.int32)
    return windings != 0 if nonzero else (windings % 2).astype(bool)


def stroke_rings(line: np.ndarray, width_px: float) -> list[np.ndarray]:
    """A line, float [n, 2], or a point, [1, 2], drawn with a round pen: a ring around each of its edges, all turned one way,
    for `fill_polygon(nonzero=True)`."""
    start, end = (line[:-1], line[1:]) if len(line) > 1 else (line, line)
    along = end - start
    facing = np.arctan2(along[:, 1], along[:, 0])[:, None]
    half = np.linspace(-np.pi / 2, np.pi / 2, 9)

    def around(centre: np.ndarray, angle: np.ndarray) -> np.ndarray:
        return centre[:, None] + width_px / 2 * np.stack([np.cos(angle), np.sin(angle)], axis=2)

    return list(np.concatenate([around(end, facing + half), around(start, facing + half + np.pi)], axis=1))


def _crossings(rings: Sequence[np.ndarray],
               hw: tuple[int, int]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Where edges cross the lines through the centres of rows of pixels, at most CROSSINGS_AT_ONCE or those of one edge at
    a time: number of the ring, row, first column whose centre lies to the right (0-W), direction (1 down, -1 up).

    Raises ValueError of more than MAX_CROSSINGS.
    """
    height, width = hw
    of = np.repeat(np.arange(len(rings)), [len(ring) for ring in rings])
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
        yield of[edge], row, column, direction[edge]


def crosses_itself(rings: Polygon) -> tuple[tuple[float, float] | None, int]:
    """(x, y) near which the outline of a polygon crosses itself, else None; and how many crossings with rows that took to
    find. `rings`: float [n, 2], outer one first.

    Rings may touch, and what is less than a pixel (of CHECKED_SIDE_PX to the longer side) is passed over: QuPath rounds
    coordinates to a hundredth of a pixel, which can make two edges that met cross. Time grows with the number of points
    and of crossings with rows, never with that of pairs of edges. Raises ValueError of more than MAX_CROSSINGS.
    """
    points = np.concatenate(rings)
    if len(points) <= EXACT_POINTS:
        import shapely  # only here: exact outlines need no geometry library

        if shapely.is_valid(shapely.Polygon(rings[0], rings[1:])):
            return None, 0
    corner, far = points.min(axis=0), points.max(axis=0)
    scale = max((far - corner).max() / CHECKED_SIDE_PX, 1.0)
    corner = corner - np.array(CHECKED_SHIFT_PX) * scale
    width, height = np.ceil((far - corner) / scale).astype(int) + 1
    # All rings are turned one way round; then the outer one goes round each pixel once or not at all, the holes together
    # likewise, and only where the outer one does. Along a row that number changes at crossings alone.
    turned = [(ring - corner) / scale if ring_area(ring) >= 0 else (ring[::-1] - corner) / scale for ring in rings]
    keys, counts = [], []
    for ring, row, column, direction in _crossings(turned, (height, width)):
        found, times = np.unique((((row * (width + 1) + column) * 2 + (ring > 0)) * 2 + (direction > 0)).astype(np.int32),
                                 return_counts=True)
        keys.append(found)
        counts.append(times.astype(np.int32))
    key, times = np.concatenate(keys), np.concatenate(counts)
    order = np.argsort(key)
    key, times = key[order], times[order]
    step, is_hole, place = np.where(key & 1, -times, times), (key & 2) > 0, key >> 2
    # with y downwards, a ring of positive area runs up on its left side, so the way up counts as 1
    outer, holes = (np.cumsum(np.where(these, step, 0), dtype=np.int32) for these in (~is_hole, is_hole))
    doubtful = (outer >> 1 != 0) | (holes >> 1 != 0) | (holes != 0) & (outer == 0)
    over_centres = np.flatnonzero(doubtful[:-1] & (place[1:] > place[:-1]))
    if not len(over_centres):
        return None, int(times.sum())
    y, x = divmod(int(place[over_centres[0]]), width + 1)
    return (float(corner[0] + (x + 0.5) * scale), float(corner[1] + (y + 0.5) * scale)), int(times.sum())


class _Corners(NamedTuple):
    """Corners of the outline of a region, bool [H + 1, W + 1]: all of them, and those where two pixels touch across; and the
    pixel below to the right and above to the left of each."""

    outline: np.ndarray
    crossing: np.ndarray
    below_right: np.ndarray
    above_left: np.ndarray


def _corners(region: np.ndarray) -> _Corners:
    padded = framed(region)
    above_left, above_right = padded[:-1, :-1], padded[:-1, 1:]
    below_left, below_right = padded[1:, :-1], padded[1:, 1:]
    across = above_left ^ above_right
    crossing = across & (above_left ^ below_left) & ~(above_left ^ below_right)
    return _Corners(across ^ below_left ^ below_right | crossing, crossing, below_right, above_left)


def _rings(corners: _Corners) -> tuple[list[Ring], int]:
    """The closed rings of a 4-connected region, the outer one first; and how many of them are outer ones, which is one.

    A corner of the outline has one horizontal and one vertical edge. Along a grid line the corners pair up,
    two by two, into edges, so sorting finds every edge at once. Where four edges meet (pixels touching at a
    corner), the corner counts twice, and its edges join so that the touching pixels lie on the same side:
    then no ring of a 4-connected region passes a corner twice. Without such corners, a region may have several parts.
    """
    y, x = np.nonzero(corners.outline)
    double = corners.crossing[y, x]
    y, x, falling = (np.repeat(v, 1 + double) for v in (y, x, corners.above_left[y, x] & double))
    node = np.arange(len(y))
    second = np.zeros(len(y), bool)
    second[1:] = (y[1:] == y[:-1]) & (x[1:] == x[:-1])

    # Of a double corner the first node holds the edge to the left, the second that to the right. The edge
    # upwards goes with the left one where the touching pixels rise to the right, else with the right one.
    along = np.argsort((x * corners.outline.shape[0] + y) * 2 + (second ^ falling))
    vertical = np.empty_like(node)
    vertical[along[0::2]], vertical[along[1::2]] = along[1::2], along[0::2]

    # Horizontal edges join nodes 2k and 2k + 1. Those above the region run to the right.
    left = node[0::2]
    below_inside = corners.below_right[y[left], x[left]]
    start = np.where(below_inside, left, left + 1)
    end = np.where(below_inside, left + 1, left)
    following = (vertical[end] // 2).tolist()  # the edge that starts where the vertical one from here ends

    rings, outer = list[Ring](), 0
    seen = bytearray(len(left))
    for first in range(len(left)):
        if seen[first]:
            continue
        edges, edge = [], first
        while not seen[edge]:
            seen[edge] = 1
            edges.append(edge)
            edge = following[edge]
        nodes = np.stack([start[edges], end[edges]], axis=1).ravel()
        nodes = np.append(nodes, nodes[0])
        rings.append(np.stack([x[nodes], y[nodes]], axis=1))
        outer += bool(below_inside[first])  # the topmost edge of a ring: what lies below is inside, or a hole
    # Raster order meets the outer ring first: its topmost edge lies above those of all holes.
    return rings, outer
