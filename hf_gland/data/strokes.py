"""The hand of an annotator: smooth strokes and dots, rasterised inside a region that they may not leave."""

import math
from collections import deque

import numpy as np
from scipy import ndimage
from skimage.morphology import skeletonize

ATTEMPTS = 8  # starts tried for each free stroke; the longest path is kept
MOST_TURN = 2.6  # radians between a path's first and any later direction: it bends, but never closes a loop
_SWERVES = (0.0, 0.15, -0.15, 0.35, -0.35, 0.6, -0.6)  # radians: how a path turns away from what is ahead
_NEIGHBOURS = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]


def thicken(path: np.ndarray, region: np.ndarray, width_px: float) -> np.ndarray:
    """bool [H, W]: pixels of `region` within width_px / 2 of a pixel of `path` (ints [n, 2]: row, column)."""
    drawn = np.zeros(region.shape, bool)
    reach = math.ceil(width_px / 2)
    rows, columns = np.mgrid[-reach:reach + 1, -reach:reach + 1]
    disc = np.argwhere(rows**2 + columns**2 <= (width_px / 2) ** 2) - reach
    pixels = (path[:, None] + disc[None]).reshape(-1, 2)
    inside = ((pixels >= 0) & (pixels < region.shape)).all(1)
    drawn[tuple(pixels[inside].T)] = True
    return drawn & region


def depth_inside(region: np.ndarray) -> np.ndarray:
    """float [H, W]: distance of each pixel of a region to its outside, the array's border being outside too."""
    return ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]


def free_path(room: np.ndarray, width_px: float, length_px: float, rng: np.random.Generator) -> np.ndarray:
    """A smooth wandering path (ints [n, 2], one pixel per step) through a region.

    `room` float [H, W] is the distance of each pixel to the outside of the region, 0 outside. The path keeps
    `width_px` from the outside, or less where the region is nowhere so wide, and is at most `length_px` long.
    An empty region gives an empty path.
    """
    clear = min(width_px, 0.8 * float(room.max(initial=0)))
    starts = np.flatnonzero(room > clear)
    if not len(starts):
        return np.zeros((0, 2), int)
    paths = [_wander(room, clear, int(rng.choice(starts)), max(round(length_px), 1), rng) for _ in range(ATTEMPTS)]
    return max(paths, key=len)


def _wander(room: np.ndarray, clear: float, start: int, steps: int, rng: np.random.Generator) -> np.ndarray:
    row, column = divmod(start, room.shape[1])
    position = (float(row), float(column))
    first = heading = rng.uniform(0, 2 * math.pi)
    turn, path = 0.0, [position]
    for tremor in rng.normal(0, 0.005, steps - 1):
        turn = 0.95 * turn + tremor  # curvature drifts slowly, as a hand's does
        for swerve in _SWERVES:
            angle = heading + turn + swerve
            ahead = (position[0] + math.sin(angle), position[1] + math.cos(angle))
            row, column = round(ahead[0]), round(ahead[1])
            if (abs(angle - first) < MOST_TURN and 0 <= row < room.shape[0] and 0 <= column < room.shape[1]
                    and room[row, column] > clear):
                break
        else:
            break
        position, heading = ahead, angle
        path.append(position)
    return np.rint(path).astype(int)


def skeleton_path(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A stroke along the middle of a region (bool [H, W], not empty) as a path, ints [n, 2], n >= 1.

    It is the longest shortest path through the region's skeleton, without its outer sixths and smoothed: a
    hand does not follow the skeleton into the corners. A region too round to have a long axis gets a straight
    stroke through its innermost point instead, in a random direction.
    """
    room = depth_inside(region)
    centre = np.unravel_index(int(room.argmax()), room.shape)
    angle, radius = rng.uniform(0, math.pi), float(room.max())
    skeleton = skeletonize(region)
    start = (int(centre[0]), int(centre[1]))
    if skeleton.any():
        row, column = np.argwhere(skeleton)[0]
        start = (int(row), int(column))
    path = np.array(_farthest(skeleton, _farthest(skeleton, start)[-1]), float)
    sixth = len(path) // 6
    path = ndimage.gaussian_filter1d(path[sixth:len(path) - sixth], 3.0, axis=0, mode="nearest")
    if len(path) < radius:
        along = np.arange(-0.6 * radius, 0.6 * radius + 1)
        path = np.array(centre) + along[:, None] * (math.sin(angle), math.cos(angle))
    return np.rint(path).astype(int)


def _farthest(skeleton: np.ndarray, start: tuple[int, int]) -> list[tuple[int, int]]:
    """Breadth first from `start`: the shortest path to the pixel that is reached last."""
    came_from: dict[tuple[int, int], tuple[int, int] | None] = {start: None}
    queue, last = deque([start]), start
    while queue:
        last = queue.popleft()
        for down, right in _NEIGHBOURS:
            pixel = (last[0] + down, last[1] + right)
            if (0 <= pixel[0] < skeleton.shape[0] and 0 <= pixel[1] < skeleton.shape[1]
                    and skeleton[pixel] and pixel not in came_from):
                came_from[pixel] = last
                queue.append(pixel)
    path: list[tuple[int, int]] = []
    step: tuple[int, int] | None = last
    while step is not None:
        path.append(step)
        step = came_from[step]
    return path


def dot(room: np.ndarray, clear_px: float, rng: np.random.Generator) -> np.ndarray:
    """One clicked pixel (ints [1, 2], or [0, 2] in an empty region) about `clear_px` or more inside the region.

    `room` float [H, W]: distance to the outside of the region, 0 outside. Where the region is narrower, the
    click falls anywhere from 0.6 of the way to its innermost point.
    """
    places = np.flatnonzero((room > 0) & (room >= min(clear_px, 0.6 * float(room.max(initial=0)))))
    if not len(places):
        return np.zeros((0, 2), int)
    return np.array([divmod(int(rng.choice(places)), room.shape[1])])
