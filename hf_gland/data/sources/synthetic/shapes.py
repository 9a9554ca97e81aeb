"""Drawing tools of the synthetic tissue: smooth noise, gland outlines, batched stamps of small ellipses.

Everything is computed elementwise (no matrix product), so no figure depends on the number of threads.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage
from skimage.measure import find_contours

Array = np.ndarray


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> Array:
    """Noise of mean 0 and about unit variance whose bumps are about `scale_px` wide; float32 [H, W].

    A random grid seen through cubic B-splines, evaluated one axis at a time.
    """
    offset_y, offset_x = rng.random(2)
    ky, wy = _spline_axis(shape[0], scale_px, offset_y)
    kx, wx = _spline_axis(shape[1], scale_px, offset_x)
    grid = rng.standard_normal((int(ky[-1]) + 4, int(kx[-1]) + 4), dtype=np.float32)
    rows = np.zeros((shape[0], grid.shape[1]), np.float32)
    for k in range(4):
        rows += wy[k][:, None] * grid[ky + k]
    field = np.zeros(shape, np.float32)
    for k in range(4):
        field += wx[k] * rows[:, kx + k]
    return field * np.float32(2.1)  # the splines leave a standard deviation of about 1 / 2.1


def _spline_axis(length: int, scale_px: float, offset: float) -> tuple[Array, Array]:
    """First knot [L] and the four cubic B-spline weights [4, L] of each of `length` pixels."""
    position = np.arange(length, dtype=np.float32) / np.float32(scale_px) + np.float32(offset)
    knot = np.floor(position).astype(np.int64)
    t = position - knot
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    return knot, weights.astype(np.float32)


def skeleton(rng: np.random.Generator, length_px: float, radius_px: float, bend: float, waist: float,
             branches: int = 0) -> Array:
    """A gland's axis as discs: float32 [N, 3] of (y, x, radius) about the origin.

    `bend` is the turn in radians over the whole length, `waist` the relative variation of the radius; each
    branch is a shorter axis that leaves a disc of the first one.
    """
    steps = 1 + int(np.ceil(length_px / (0.6 * radius_px)))
    along = np.linspace(-0.5, 0.5, steps) if steps > 1 else np.zeros(1)
    heading = rng.uniform(0, 2 * np.pi) + bend * along
    step_px = length_px / max(steps - 1, 1)
    y, x = np.cumsum(np.sin(heading)) * step_px, np.cumsum(np.cos(heading)) * step_px
    radius = radius_px * (1 + waist * rng.uniform(-1, 1, steps))
    discs = [np.stack([y - y.mean(), x - x.mean(), radius], 1)]
    for _ in range(branches):
        start = discs[0][rng.integers(steps)]
        limb = skeleton(rng, length_px * rng.uniform(0.3, 0.6), radius_px * rng.uniform(0.6, 0.9), bend,
                        waist)
        limb[:, :2] += start[:2] - limb[0, :2]
        discs.append(limb)
    return np.concatenate(discs).astype(np.float32)


def outline(rng: np.random.Generator, discs: Array, roughness_px: float,
            wave_px: float) -> tuple[Array, int, int]:
    """A filled gland: bool [h, w] and the (y, x) of its corner relative to the gland's origin.

    A smooth union of the discs (exponential soft minimum of their distances) whose boundary is displaced by
    noise of amplitude `roughness_px` and bump width `wave_px`; evaluated at half resolution, then enlarged.
    """
    blend_px = 5.0
    reach = (discs[:, 2] + 3 * roughness_px + 6)[:, None]
    y0, x0 = np.floor((discs[:, :2] - reach).min(0)).astype(int)
    y1, x1 = np.ceil((discs[:, :2] + reach).max(0)).astype(int)
    shape = ((y1 - y0) // 2 + 2, (x1 - x0) // 2 + 2)
    yy = (np.arange(shape[0], dtype=np.float32) * 2 + y0)[:, None]
    xx = (np.arange(shape[1], dtype=np.float32) * 2 + x0)[None, :]
    total = np.zeros(shape, np.float32)
    for cy, cx, r in discs:
        total += np.exp((r - np.sqrt((yy - cy) ** 2 + (xx - cx) ** 2)) / blend_px)
    level = -blend_px * np.log(np.maximum(total, 1e-30))
    level += roughness_px * smooth_noise(rng, shape, wave_px / 2) + 0.7 * smooth_noise(rng, shape, 4)
    fine = ndimage.uniform_filter(np.repeat(np.repeat(level, 2, 0), 2, 1), 3)
    return fine < 0, int(y0), int(x0)


def stamp(target: Array, y: Array, x: Array, long_px: ArrayLike, short_px: ArrayLike, angle: ArrayLike,
          value: ArrayLike, hollow: ArrayLike = 0.0) -> None:
    """Draw N soft-edged ellipses into `target` (contiguous float32 [H, W]), the larger value winning.

    Centre `y`, `x` [N]; the others [N] or scalars: half axes in px, angle of the long axis in radians from +x
    towards +y, peak value, and `hollow` 0..1, how much paler the middle is than the rim.
    """
    height, width = target.shape
    columns = np.broadcast_arrays(y, x, long_px, short_px, angle, value, hollow)
    table = np.stack([np.asarray(c, np.float32).reshape(-1) for c in columns])
    reach = table[2] + 1
    table = table[:, (table[0] > -reach) & (table[0] < height + reach) & (table[1] > -reach)
                  & (table[1] < width + reach)]
    flat = target.reshape(-1)
    for low, high in ((0, 4), (4, 6), (6, 9), (9, 14), (14, np.inf)):  # by size: small stamps stay cheap
        group = table[:, (table[2] >= low) & (table[2] < high)][:, :, None, None]
        if not group.size:
            continue
        cy, cx, long_, short, turn, peak, pale = group
        half = int(np.ceil(long_.max())) + 1
        offset = np.arange(-half, half + 1)
        iy = np.rint(cy).astype(np.int64) + offset[:, None]
        ix = np.rint(cx).astype(np.int64) + offset
        dy, dx = (iy - cy).astype(np.float32), (ix - cx).astype(np.float32)
        cos, sin = np.cos(turn), np.sin(turn)
        u, v = (dx * cos + dy * sin) / long_, (dy * cos - dx * sin) / short
        rho2 = u * u + v * v
        cover = np.clip((1 - np.sqrt(rho2)) * short + 0.5, 0, 1)
        drawn = cover * peak * (1 - pale * np.clip(1 - rho2, 0, 1))
        keep = (cover > 0) & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
        np.maximum.at(flat, (iy * width + ix)[keep], drawn[keep])


def points_at_depth(rng: np.random.Generator, depth: Array, level_px: float,
                    spacing_px: float) -> tuple[Array, Array]:
    """Points (y [N], x [N]) about `spacing_px` apart along the lines where `depth` [h, w] is `level_px`."""
    points = [np.zeros((0, 2))]
    for line in find_contours(depth, level_px):
        arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        at = np.arange(rng.uniform(0, spacing_px), arc[-1], spacing_px)
        at = at + rng.normal(0, 0.12 * spacing_px, len(at))
        points.append(np.stack([np.interp(at, arc, line[:, 0]), np.interp(at, arc, line[:, 1])], 1))
    y, x = np.concatenate(points).T
    return y, x


def value_at(field: Array, y: Array, x: Array) -> Array:
    """The value of `field` [h, w] at the pixel of each point [N]; beyond the border, the border's."""
    h, w = field.shape
    iy, ix = np.rint(y).astype(int), np.rint(x).astype(int)
    values: Array = field[np.clip(iy, 0, h - 1), np.clip(ix, 0, w - 1)]
    return values
