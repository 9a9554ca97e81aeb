"""Painting one synthetic gland: lumen and its content, columnar cytoplasm, goblet cells, nuclei.

Everything follows the depth below the gland's border, so that any outline gets a fitting epithelium.
"""

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours

from hf_gland.data.synthetic_layout import MALIGNANT, Architecture
from hf_gland.data.synthetic_shapes import Array, smooth_noise, stamp


def paint_gland(rng: np.random.Generator, hema: Array, eosin: Array, domain: Array, gland_class: int,
                plan: Architecture) -> None:
    """Paint the gland that covers `domain` (bool [h, w]) into the views `hema` and `eosin` (float32 [h, w])."""
    malignant = gland_class == MALIGNANT
    exact, nearest = ndimage.distance_transform_edt(domain, return_indices=True)
    depth = ndimage.gaussian_filter(exact.astype(np.float32), 1.8)
    slope_y, slope_x = np.gradient(depth)
    inward = np.arctan2(slope_y, slope_x)
    shape = depth.shape
    deepest = float(depth.max())
    thickness = _thickness(rng, deepest, malignant)
    apical = thickness - depth + rng.uniform(0.8, 2.5) * smooth_noise(rng, shape, 8)  # px outside the lumen
    lumen = np.clip(0.5 - apical, 0, 1) * (exact > 8)
    if malignant and rng.random() < 0.5:
        lumen = np.maximum(lumen, _cribriform(rng, depth))

    # The value at the nearest border point is constant along a cell: streaks from base to apex.
    streak = smooth_noise(rng, shape, 2.4)[nearest[0], nearest[1]]
    grain = smooth_noise(rng, shape, 2.5)
    body_e = plan.cytoplasm_eosin * rng.uniform(0.85, 1.15) * (1 + 0.12 * grain + 0.1 * streak)
    body_e = body_e * (1 + 0.5 * np.exp(-((apical / 1.8) ** 2)))  # brush border
    body_h = plan.cytoplasm_hema * rng.uniform(0.85, 1.15) * (1 + 0.15 * grain + 0.1 * streak)
    vacuole = _goblets(rng, depth, inward, thickness, plan.goblets, malignant)
    tint = rng.uniform(0.0, 0.12)
    body_e = body_e * (1 - 0.9 * vacuole) + 0.04 * vacuole
    body_h = body_h * (1 - vacuole) + tint * vacuole
    fill_h, fill_e = _content(rng, shape, malignant)
    gland_e = body_e * (1 - lumen) + fill_e * lumen
    gland_h = body_h * (1 - lumen) + fill_h * lumen

    nuclei = _nuclei(rng, depth, inward, lumen, thickness, malignant) * plan.nuclear_hema
    nuclei = nuclei * (1 + 0.16 * smooth_noise(rng, shape, 1.6))
    gland_h = np.maximum(gland_h, nuclei)
    gland_e = gland_e * (1 - 0.2 * np.clip(nuclei, 0, 1))
    edge = np.clip(exact - 0.3, 0, 1).astype(np.float32)
    hema += edge * (gland_h - hema)
    eosin += edge * (gland_e - eosin)


def _thickness(rng: np.random.Generator, deepest: float, malignant: bool) -> float:
    """Height of the epithelium in px; above `deepest`, the gland shows no lumen."""
    if malignant:
        return float(rng.uniform(18, 32)) if rng.random() < 0.85 else deepest + 4
    return float(np.clip(deepest * rng.uniform(0.55, 0.85), 14, 34)) if rng.random() < 0.93 else deepest + 4


def _cribriform(rng: np.random.Generator, depth: Array) -> Array:
    """Round secondary lumina (0..1) well inside the gland."""
    holes = np.zeros_like(depth)
    y, x = np.nonzero(depth > 16)
    if len(y):
        pick = rng.integers(0, len(y), int(rng.integers(2, 7)))
        n = len(pick)
        stamp(holes, y[pick], x[pick], rng.uniform(4, 9, n), rng.uniform(3.5, 7, n), rng.uniform(0, np.pi, n), 1.0)
    return holes


def _content(rng: np.random.Generator, shape: tuple[int, int], malignant: bool) -> tuple[Array, Array]:
    """Hematoxylin and eosin amounts [h, w] of what fills the lumen: nothing, mucin, secretion or debris."""
    hema, eosin = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    kind = rng.choice(["empty", "mucin", "secretion", "debris"], p=[.3, .2, .2, .3] if malignant else [.4, .4, .2, 0])
    if kind == "mucin":
        wisps = np.clip(smooth_noise(rng, shape, 5) + 0.4, 0, 2)
        hema += rng.uniform(0.05, 0.16) * wisps
        eosin += rng.uniform(0.0, 0.12) * wisps
    elif kind == "secretion":
        eosin += rng.uniform(0.2, 0.5) * np.clip(0.6 + smooth_noise(rng, shape, 9), 0, 1)
        eosin *= 1 + 0.25 * smooth_noise(rng, shape, 2)
    elif kind == "debris":
        clumps = np.clip(smooth_noise(rng, shape, 12) + 0.2, 0, 1)
        eosin += 0.5 * clumps * (1 + 0.4 * smooth_noise(rng, shape, 2.2))
        n = int(0.008 * shape[0] * shape[1])
        y, x = rng.uniform(0, shape[0], n), rng.uniform(0, shape[1], n)
        stamp(hema, y, x, rng.uniform(1, 3.2, n), rng.uniform(0.8, 2.4, n), rng.uniform(0, 3, n), rng.uniform(0.4, 1.1, n))
        hema *= clumps > 0.2
    return hema, np.clip(eosin, 0, 2)


def _goblets(rng: np.random.Generator, depth: Array, inward: Array, thickness: float, share: float,
             malignant: bool) -> Array:
    """Cover 0..1 of mucin vacuoles: rows of pale ovals between the nuclei and the lumen."""
    cover = np.zeros_like(depth)
    share = share * rng.uniform(0.6, 1.2)
    size = rng.uniform(3.6, 5.6)
    for level in np.arange(12 + size * 0.6, max(min(thickness, depth.max()) - 2, 0), size * 1.75):
        y, x = _row(rng, depth, level, size * 1.9)
        keep = rng.random(len(y)) < share
        y, x = y[keep], x[keep]
        n = len(y)
        stamp(cover, y, x, size * rng.uniform(0.95, 1.35, n), size * rng.uniform(0.7, 0.95, n),
              _at(inward, y, x), rng.uniform(0.75, 1, n))
    return cover


def _nuclei(rng: np.random.Generator, depth: Array, inward: Array, lumen: Array, thickness: float,
            malignant: bool) -> Array:
    """Nuclear hematoxylin [h, w]: a basal palisade, in several rows where the gland is malignant."""
    amount = np.zeros_like(depth)
    levels = [rng.uniform(5.5, 7)]
    if malignant:
        levels += list(np.arange(levels[0] + 6, thickness * rng.uniform(0.4, 0.95), rng.uniform(5.5, 8)))
    elif thickness > depth.max() or rng.random() < 0.25:
        levels.append(levels[0] + 5.5)
    if thickness > depth.max():  # cut through its wall: nuclei all over
        levels += list(np.arange(levels[-1] + 6, depth.max(), 7))
    long_px, short_px = (rng.uniform(5, 7.5), rng.uniform(2.6, 3.8)) if malignant else (
        rng.uniform(4.6, 6.5), rng.uniform(2.3, 3.1))
    tilt = rng.uniform(0.25, 0.6) if malignant else rng.uniform(0.08, 0.25)
    hollow = rng.uniform(0.1, 0.65) if malignant else rng.uniform(0, 0.3)
    for level in levels:
        y, x = _row(rng, depth, level, short_px * rng.uniform(1.7, 2.3))
        y, x = y + rng.normal(0, 1.1, len(y)), x + rng.normal(0, 1.1, len(x))
        keep = _at(lumen, y, x) < 0.3
        y, x = y[keep], x[keep]
        n = len(y)
        stamp(amount, y, x, long_px * rng.uniform(0.8, 1.2, n), short_px * rng.uniform(0.8, 1.2, n),
              _at(inward, y, x) + rng.normal(0, tilt, n), rng.uniform(0.65, 1.1, n), hollow * rng.random(n))
    return amount


def _row(rng: np.random.Generator, depth: Array, level_px: float, spacing_px: float) -> tuple[Array, Array]:
    """Points (y, x) about `spacing_px` apart along the line of equal depth."""
    points = [np.zeros((0, 2))]
    for line in find_contours(depth, level_px):
        arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        at = np.arange(rng.uniform(0, spacing_px), arc[-1], spacing_px)
        at = at + rng.normal(0, 0.12 * spacing_px, len(at))
        points.append(np.stack([np.interp(at, arc, line[:, 0]), np.interp(at, arc, line[:, 1])], 1))
    y, x = np.concatenate(points).T
    return y, x


def _at(field: Array, y: Array, x: Array) -> Array:
    """The field's value at the pixel of each point, the border's for points beyond it."""
    h, w = field.shape
    values: Array = field[np.clip(np.rint(y).astype(int), 0, h - 1), np.clip(np.rint(x).astype(int), 0, w - 1)]
    return values
