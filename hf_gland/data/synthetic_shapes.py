"""Drawing tools of the synthetic tissue: smooth noise, gland outlines, batched stamps of small ellipses.

Everything works elementwise (no BLAS), so the result does not depend on the number of threads.
"""

import numpy as np
from scipy import ndimage

Array = np.ndarray


def _spline_axis(length: int, scale_px: float, offset: float) -> tuple[Array, Array]:
    """First knot [L] and the four cubic B-spline weights [4, L] of each of `length` pixels."""
    position = np.arange(length, dtype=np.float32) / np.float32(scale_px) + np.float32(offset)
    knot = np.floor(position).astype(np.int64)
    t = position - knot
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    return knot, weights.astype(np.float32)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> Array:
    """Gaussian-like noise of about unit variance whose bumps are about `scale_px` wide; float32 [H, W].

    A random grid seen through cubic B-splines, evaluated one axis at a time.
    """
    height, width = shape
    offset_y, offset_x = rng.random(2)
    ky, wy = _spline_axis(height, scale_px, offset_y)
    kx, wx = _spline_axis(width, scale_px, offset_x)
    grid = rng.standard_normal((int(ky[-1]) + 4, int(kx[-1]) + 4), dtype=np.float32)
    rows = sum(wy[k][:, None] * grid[ky + k] for k in range(4))
    field: Array = sum(wx[k] * rows[:, kx + k] for k in range(4))
    return field * np.float32(2.1)  # B-spline smoothing leaves a standard deviation of about 1/2.1


def skeleton(rng: np.random.Generator, length_px: float, radius_px: float, bend: float, waist: float,
             branches: int = 0) -> Array:
    """A gland's axis as discs: float32 [N, 3] of (y, x, radius) about the origin.

    `bend` is the turn in radians over the whole length, `waist` the relative variation of the radius, and each
    branch is a shorter axis that leaves the first one sideways.
    """
    steps = max(1, int(np.ceil(length_px / (0.6 * radius_px))) + 1)
    s = np.linspace(-0.5, 0.5, steps) if steps > 1 else np.zeros(1)
    heading = rng.uniform(0, 2 * np.pi) + bend * s
    step = length_px / max(steps - 1, 1)
    y, x = np.cumsum(np.sin(heading)) * step, np.cumsum(np.cos(heading)) * step
    radius = radius_px * (1 + waist * rng.uniform(-1, 1, steps))
    discs = [np.stack([y - y.mean(), x - x.mean(), radius], 1)]
    for _ in range(branches):
        start = discs[0][rng.integers(steps)]
        limb = skeleton(rng, length_px * rng.uniform(0.3, 0.6), radius_px * rng.uniform(0.6, 0.9), bend, waist)
        limb[:, :2] += start[:2] - limb[0, :2]
        discs.append(limb)
    return np.concatenate(discs).astype(np.float32)


def outline(rng: np.random.Generator, discs: Array, roughness_px: float, rough_scale_px: float) -> tuple[Array, int, int]:
    """A filled gland: bool [h, w] and the (y, x) of its corner relative to the gland's origin.

    A smooth union of the discs (exponential soft minimum of their distances), its boundary displaced by noise
    of amplitude `roughness_px`. Evaluated at half resolution and enlarged linearly.
    """
    blend_px = 5.0
    reach = discs[:, 2] + 3 * roughness_px + 4
    y0, x0 = (np.floor((discs[:, :2] - reach[:, None]).min(0)).astype(int))
    y1, x1 = (np.ceil((discs[:, :2] + reach[:, None]).max(0)).astype(int))
    shape = ((y1 - y0) // 2 + 2, (x1 - x0) // 2 + 2)
    yy = (np.arange(shape[0], dtype=np.float32) * 2 + y0)[:, None]
    xx = (np.arange(shape[1], dtype=np.float32) * 2 + x0)[None, :]
    total = np.zeros(shape, np.float32)
    for cy, cx, r in discs:
        distance = np.sqrt((yy - cy) ** 2 + (xx - cx) ** 2) - r
        total += np.exp(-np.maximum(distance, -60) / blend_px)
    level = -blend_px * np.log(np.maximum(total, 1e-12))
    level += roughness_px * smooth_noise(rng, shape, rough_scale_px / 2)
    fine = np.repeat(np.repeat(level, 2, 0), 2, 1)
    fine = ndimage.uniform_filter(fine, 3)
    return fine < 0, int(y0), int(x0)


def stamp(target: Array, y: Array, x: Array, long_px: Array, short_px: Array, angle: Array, value: Array,
          hollow: Array | float = 0.0) -> None:
    """Draw N soft-edged ellipses into `target` (float32 [H, W]), keeping the larger value at each pixel.

    All parameters are [N] (or scalars): centre, half axes in px, angle of the long axis in radians from +x
    towards +y, peak value, and `hollow` 0..1, how much paler the middle is than the rim.
    """
    y, x, long_px, short_px, angle, value, hollow = (
        np.atleast_1d(a).astype(np.float32) for a in np.broadcast_arrays(y, x, long_px, short_px, angle, value, hollow))
    height, width = target.shape
    inside = (y > -20) & (y < height + 20) & (x > -20) & (x < width + 20)
    order = np.flatnonzero(inside)
    for low, high in ((0, 4), (4, 7), (7, 11), (11, 18), (18, 64)):  # grouped by size: small stamps stay cheap
        group = order[(long_px[order] >= low) & (long_px[order] < high)]
        if not len(group):
            continue
        half = int(np.ceil(long_px[group].max())) + 1
        offsets = np.arange(-half, half + 1, dtype=np.int64)
        iy = np.rint(y[group]).astype(np.int64)[:, None, None] + offsets[None, :, None]
        ix = np.rint(x[group]).astype(np.int64)[:, None, None] + offsets[None, None, :]
        g = group[:, None, None]
        dy, dx = iy - y[g], ix - x[g]
        c, s = np.cos(angle[g]), np.sin(angle[g])
        u, v = (dx * c + dy * s) / long_px[g], (dy * c - dx * s) / short_px[g]
        rho2 = u * u + v * v
        rho = np.sqrt(rho2)
        cover = np.clip((1 - rho) * short_px[g] + 0.5, 0, 1)
        drawn = cover * value[g] * (1 - hollow[g] * np.clip(1 - rho2, 0, 1))
        keep = (cover > 0) & (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
        flat = (iy * width + ix)[keep]
        np.maximum.at(target.ravel(), flat, drawn[keep])
