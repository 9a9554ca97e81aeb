"""Painting one synthetic gland: lumen and its content, columnar cytoplasm, goblet cells, nuclei, damage.

Everything follows the depth below the gland's border, so that any outline gets a fitting epithelium.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hf_gland.data.sources.synthetic.layout import MALIGNANT, Architecture
from hf_gland.data.sources.synthetic.shapes import Array, points_at_depth, smooth_noise, stamp, value_at


@dataclass(frozen=True)
class Habit:
    """How one gland looks; lengths in px, shares 0..1."""

    thickness_px: float  # height of the epithelium; beyond the gland's deepest point: no lumen
    rows: tuple[float, ...]  # depth of each row of nuclei
    nucleus_px: tuple[float, float]  # half axes
    turned: float  # rad between the nuclei and the inward direction: 0 columnar, π/2 flattened
    tilt: float  # random deviation from it, rad
    hollow: float  # how vesicular nuclei may be
    nuclear_hema: float
    goblets: float
    cribriform: bool
    torn: float  # share of the wall that has come off
    blurred_border: float  # px over which the stroma's and the gland's colours mix


def paint_gland(rng: np.random.Generator, hema: Array, eosin: Array, domain: Array, gland_class: int,
                plan: Architecture) -> None:
    """Paint the gland that covers `domain` (bool [h, w]) into `hema` and `eosin` (float32 [h, w])."""
    malignant = gland_class == MALIGNANT
    exact, nearest = ndimage.distance_transform_edt(domain, return_indices=True)
    exact = exact.astype(np.float32)
    depth = ndimage.gaussian_filter(exact, 1.8)
    shape = depth.shape
    habit = _draw_habit(rng, float(depth.max()), malignant, plan)
    slope_y, slope_x = np.gradient(depth)
    inward = np.arctan2(slope_y, slope_x)

    # A value read at the nearest border point is constant along a cell, from its base to its apex.
    streak = smooth_noise(rng, shape, 2.4)[nearest[0], nearest[1]]
    waves = 0.1 * smooth_noise(rng, shape, 8)
    apical = habit.thickness_px * (1 + waves) - depth  # px from the lumen
    lumen = np.clip(0.5 - apical, 0, 1) * (exact > 4)
    if habit.cribriform:
        lumen = np.maximum(lumen, _secondary_lumina(rng, depth))
    if habit.torn:
        wear = smooth_noise(rng, shape, 30)[nearest[0], nearest[1]] + 0.3 * smooth_noise(rng, shape, 5)
        lumen = np.maximum(lumen, np.clip(2.5 * (wear - np.quantile(wear[domain], 1 - habit.torn)), 0, 1))

    grain = smooth_noise(rng, shape, 2.5)
    body_e = plan.cytoplasm_eosin * rng.uniform(0.75, 1.25) * (1 + 0.12 * grain + 0.1 * streak)
    body_e = body_e * (1 + 0.5 * np.exp(-((apical / 1.8) ** 2)))  # brush border
    body_h = plan.cytoplasm_hema * rng.uniform(0.75, 1.25) * (1 + 0.15 * grain + 0.1 * streak)
    mucin = _goblet_cells(rng, depth, inward, habit)
    body_e = body_e * (1 - 0.9 * mucin) + 0.04 * mucin
    body_h = body_h * (1 - mucin) + rng.uniform(0, 0.12) * mucin
    content_h, content_e = _lumen_content(rng, shape, malignant)
    nuclei = _nuclei(rng, depth, inward, lumen, habit) * (1 + 0.16 * smooth_noise(rng, shape, 1.6))
    nuclei = nuclei * (1 - 0.8 * lumen)
    gland_h = np.maximum(body_h * (1 - lumen) + content_h * lumen, nuclei)
    gland_e = (body_e * (1 - lumen) + content_e * lumen) * (1 - 0.2 * np.clip(nuclei, 0, 1))

    ragged = 0.5 * habit.blurred_border * smooth_noise(rng, shape, 6)
    edge = np.where(domain, np.clip((exact - 0.3 + ragged) / max(habit.blurred_border, 1), 0, 1), 0)
    hema += edge * (gland_h - hema)
    eosin += edge * (gland_e - eosin)


def _draw_habit(rng: np.random.Generator, deepest_px: float, malignant: bool, plan: Architecture) -> Habit:
    odds = [0.70, 0.15, 0.15] if malignant else [0.79, 0.07, 0.14]
    kind = rng.choice(["usual", "solid", "dilated"], p=odds)
    long_px, short_px = rng.uniform(4.6, 6.5), rng.uniform(2.3, 3.1)
    turned = 0.0
    if malignant:
        long_px, short_px = rng.uniform(4.6, 7.5), rng.uniform(2.6, 3.8)
    if kind == "dilated":  # cystic: a low epithelium round a wide lumen
        thickness = rng.uniform(6, 11)
        long_px, short_px = rng.uniform(3, 4.5), rng.uniform(2, 2.8)
        turned = float(rng.choice([0, np.pi / 2]))
        rows = [0.45 * thickness]
    else:
        usual = rng.uniform(17, 32) if malignant else np.clip(deepest_px * rng.uniform(0.5, 0.85), 13, 34)
        thickness = deepest_px + 4 if kind == "solid" else float(usual)
        rows = [rng.uniform(5.5, 7)]
        if kind == "solid":
            rows += list(np.arange(rows[0] + 6, deepest_px, 7))
        elif malignant:
            rows += list(np.arange(rows[0] + 6, thickness * rng.uniform(0.3, 0.95), rng.uniform(5.5, 8)))
        elif rng.random() < 0.25:
            rows.append(rows[0] + 5.5)
    return Habit(
        thickness_px=float(thickness),
        rows=tuple(map(float, rows)),
        nucleus_px=(long_px, short_px),
        turned=turned,
        tilt=rng.uniform(0.25, 0.7) if malignant else rng.uniform(0.08, 0.3),
        hollow=rng.uniform(0.1, 0.7) if malignant else rng.uniform(0, 0.35),
        nuclear_hema=plan.nuclear_hema * rng.uniform(0.65, 1.1),
        goblets=plan.goblets * rng.uniform(0.6, 1.2),
        cribriform=malignant and kind == "usual" and rng.random() < 0.5,
        torn=rng.uniform(0.1, 0.35) if rng.random() < (0.3 if malignant else 0.15) else 0.0,
        blurred_border=rng.uniform(2, 6) if rng.random() < (0.5 if malignant else 0.2) else 0.0,
    )


def _secondary_lumina(rng: np.random.Generator, depth: Array) -> Array:
    """Cover 0..1 of round holes well inside the gland: a cribriform pattern."""
    holes = np.zeros_like(depth)
    y, x = np.nonzero(depth > 14)
    if len(y):
        pick = rng.integers(0, len(y), int(rng.integers(2, 9)))
        n = len(pick)
        stamp(holes, y[pick], x[pick], rng.uniform(4, 10, n), rng.uniform(3.5, 8, n),
              rng.uniform(0, np.pi, n), 1.0)
    return holes


def _lumen_content(rng: np.random.Generator, shape: tuple[int, int], malignant: bool) -> tuple[Array, Array]:
    """Hematoxylin and eosin [h, w] of what fills the lumen: nothing, mucin, secretion or necrotic debris."""
    hema, eosin = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    odds = [0.3, 0.2, 0.2, 0.3] if malignant else [0.4, 0.35, 0.2, 0.05]
    kind = rng.choice(["empty", "mucin", "secretion", "debris"], p=odds)
    if kind == "mucin":
        wisps = np.clip(smooth_noise(rng, shape, 5) + 0.4, 0, 2)
        hema += rng.uniform(0.05, 0.16) * wisps
        eosin += rng.uniform(0.0, 0.12) * wisps
    elif kind == "secretion":
        eosin += rng.uniform(0.2, 0.6) * np.clip(0.7 + smooth_noise(rng, shape, 14), 0, 1)
        eosin *= 1 + 0.25 * smooth_noise(rng, shape, 2)
    elif kind == "debris":
        clumps = np.clip(smooth_noise(rng, shape, 12) + 0.4, 0, 1)
        eosin += 0.5 * clumps * (1 + 0.4 * smooth_noise(rng, shape, 2.2))
        n = int(0.01 * shape[0] * shape[1])
        stamp(hema, rng.uniform(0, shape[0], n), rng.uniform(0, shape[1], n), rng.uniform(1, 3.6, n),
              rng.uniform(0.8, 2.6, n), rng.uniform(0, np.pi, n), rng.uniform(0.4, 1.1, n))
        hema *= clumps > 0.2
    return hema, np.clip(eosin, 0, 2)


def _goblet_cells(rng: np.random.Generator, depth: Array, inward: Array, habit: Habit) -> Array:
    """Cover 0..1 of mucin vacuoles: rows of pale ovals between the nuclei and the lumen."""
    cover = np.zeros_like(depth)
    size = rng.uniform(3.6, 5.6)
    for level in np.arange(12 + size * 0.6, min(habit.thickness_px, depth.max()) - 2, size * 1.75):
        y, x = points_at_depth(rng, depth, level, size * 1.9)
        keep = rng.random(len(y)) < habit.goblets
        y, x = y[keep], x[keep]
        n = len(y)
        stamp(cover, y, x, size * rng.uniform(0.95, 1.35, n), size * rng.uniform(0.7, 0.95, n),
              value_at(inward, y, x), rng.uniform(0.75, 1, n))
    return cover


def _nuclei(rng: np.random.Generator, depth: Array, inward: Array, lumen: Array, habit: Habit) -> Array:
    """Nuclear hematoxylin [h, w]: a basal palisade, or several rows of nuclei."""
    amount = np.zeros_like(depth)
    long_px, short_px = habit.nucleus_px
    for level in habit.rows:
        across_px = long_px if habit.turned else short_px
        y, x = points_at_depth(rng, depth, level, across_px * rng.uniform(1.7, 2.5))
        y, x = y + rng.normal(0, 0.2 * short_px, len(y)), x + rng.normal(0, 0.2 * short_px, len(x))
        keep = value_at(lumen, y, x) < 0.4
        y, x = y[keep], x[keep]
        n = len(y)
        stamp(amount, y, x, long_px * rng.uniform(0.8, 1.2, n), short_px * rng.uniform(0.8, 1.2, n),
              value_at(inward, y, x) + habit.turned + rng.normal(0, habit.tilt, n),
              habit.nuclear_hema * rng.uniform(0.65, 1.1, n), habit.hollow * rng.random(n))
    return amount
