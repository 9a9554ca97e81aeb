"""Background that resembles a part of a gland: vessels, fat, lymphoid tissue, tears, muscle bundles.

Each painter draws round (y, x) with radius r in px; `LOOKALIKES` says how large and how frequent they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hf_gland.data.sources.synthetic.shapes import Array, points_at_depth, smooth_noise, stamp, value_at

Window = tuple[slice, slice]


@dataclass
class Stains:
    """Amount of each absorber, contiguous float32 [H, W], 0 = empty glass."""

    hema: Array
    eosin: Array
    blood: Array


@dataclass(frozen=True)
class Lookalike:
    """How to paint one, its range of radii in px, and its relative frequency."""

    paint: Callable[[np.random.Generator, Stains, float, float, float], None]
    radius_px: tuple[float, float]
    frequency: float


def _depth(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float,
           rough: float) -> tuple[Window, Array]:
    """The window round (y, x) and, in it, the depth in px below a wobbly ellipse (negative outside)."""
    reach = int(r * 1.5 + 12)
    window = (slice(max(int(y) - reach, 0), int(y) + reach), slice(max(int(x) - reach, 0), int(x) + reach))
    h, w = stains.hema[window].shape
    dy = (np.arange(h, dtype=np.float32) + window[0].start - y)[:, None]
    dx = (np.arange(w, dtype=np.float32) + window[1].start - x)[None, :]
    stretch, turn = rng.uniform(1, 1.3), rng.uniform(0, np.pi)
    u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    wobble = rough * r * smooth_noise(rng, (h, w), max(r * 0.6, 5))
    return window, r - np.sqrt((u / stretch) ** 2 + (v * stretch) ** 2) + wobble


def _fill(stains: Stains, window: Window, cover: Array, hema: float | Array, eosin: float | Array) -> None:
    stains.hema[window] += cover * (hema - stains.hema[window])
    stains.eosin[window] += cover * (eosin - stains.eosin[window])


def _lymphocytes(rng: np.random.Generator, stains: Stains, y: Array, x: Array) -> None:
    n = len(y)
    size = rng.uniform(2.8, 4.4, n)
    stamp(stains.hema, y, x, size, size * rng.uniform(0.8, 1, n), rng.uniform(0, np.pi, n),
          rng.uniform(0.6, 1.2, n), rng.uniform(0, 0.4, n))


def _ring(rng: np.random.Generator, n: int, low: float, high: float) -> tuple[Array, Array, Array]:
    """n random (dy, dx, angle) with distances low..high px from the centre, evenly by area."""
    distance = np.sqrt(rng.uniform(low**2, high**2, n))
    angle = rng.uniform(0, 2 * np.pi, n)
    return distance * np.sin(angle), distance * np.cos(angle), angle


def _paint_vessel(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """A vein or capillary: thin wall, a few flat nuclei along it, often red cells."""
    window, depth = _depth(rng, stains, y, x, r, 0.05)
    wall = rng.uniform(2.5, 6)
    _fill(stains, window, np.clip(depth + 0.5, 0, 1), 0.12, rng.uniform(0.5, 0.9))
    _fill(stains, window, np.clip(depth - wall + 0.5, 0, 1), 0.0, rng.uniform(0, 0.15))
    dy, dx, angle = _ring(rng, int(r * 0.5), r - wall, r)
    stamp(stains.hema, y + dy, x + dx, rng.uniform(3.5, 7, len(dy)), rng.uniform(1.3, 2.2, len(dy)),
          angle + np.pi / 2, rng.uniform(0.7, 1.1, len(dy)))
    if rng.random() < 0.7:
        dy, dx, angle = _ring(rng, int(r * r * rng.uniform(0.01, 0.09)), 0, max(r - wall - 4, 1))
        stamp(stains.blood, y + dy, x + dx, 3.4, 3.0, angle, rng.uniform(0.5, 0.9, len(dy)), 0.35)


def _paint_artery(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """A thick muscular wall round a small lumen: a crypt but for its nuclei, which are concentric."""
    window, depth = _depth(rng, stains, y, x, r, 0.04)
    grain = smooth_noise(rng, depth.shape, 3)
    _fill(stains, window, np.clip(depth + 0.5, 0, 1), 0.15 + 0.04 * grain,
          rng.uniform(0.4, 0.8) * (1 + 0.15 * grain))
    dy, dx, angle = _ring(rng, int(r * r * 0.045), 0.4 * r, 0.98 * r)
    stamp(stains.hema, y + dy, x + dx, rng.uniform(4, 7.5, len(dy)), rng.uniform(1.6, 2.9, len(dy)),
          angle + np.pi / 2 + rng.normal(0, 0.2, len(dy)), rng.uniform(0.6, 1.1, len(dy)),
          rng.uniform(0, 0.3, len(dy)))
    window, depth = _depth(rng, stains, y, x, r * rng.uniform(0.2, 0.45), 0.15)
    _fill(stains, window, np.clip(depth + 0.5, 0, 1), 0.0, 0.05)


def _paint_fat(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """Two to five fat cells side by side: white discs with a thin rim."""
    for _ in range(int(rng.integers(2, 6))):
        size = r * rng.uniform(0.35, 0.65)
        dy, dx, _ = _ring(rng, 1, 0, r - size)
        window, depth = _depth(rng, stains, y + float(dy[0]), x + float(dx[0]), size, 0.06)
        _fill(stains, window, np.clip(depth + 0.5, 0, 1), 0.1, 0.45)
        _fill(stains, window, np.clip(depth - 1.2, 0, 1), 0.0, 0.0)


def _paint_follicle(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """A lymphoid aggregate: as dark as a gland cut through its wall, but of small, round, aimless nuclei."""
    window, depth = _depth(rng, stains, y, x, r, 0.1)
    _fill(stains, window, np.clip(depth / 6 + 0.5, 0, 1) * 0.8, 0.2, 0.3)
    dy, dx, _ = _ring(rng, int(r * r * rng.uniform(0.06, 0.1)), 0, r * 1.05)
    _lymphocytes(rng, stains, y + dy, x + dx)


def _paint_hole(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """A white tear or a pool of mucin of a lumen's size and shape, with no epithelium round it."""
    window, depth = _depth(rng, stains, y, x, r * 0.85, 0.22)
    mucin = rng.uniform(0.05, 0.2) if rng.random() < 0.4 else 0.0
    strands = np.clip(1 + smooth_noise(rng, depth.shape, 6), 0, 2)
    _fill(stains, window, np.clip(depth / 1.5 + 0.5, 0, 1), mucin * strands, 0.3 * mucin * strands)


def _paint_cuffed_vessel(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """A vessel in a mantle of lymphocytes: a pale lumen in a dark ring, as a crypt has."""
    dy, dx, _ = _ring(rng, int(r * r * rng.uniform(0.07, 0.12)), 0.5 * r, r * 1.05)
    _lymphocytes(rng, stains, y + dy, x + dx)
    _paint_vessel(rng, stains, y, x, r * rng.uniform(0.5, 0.65))



def _paint_lymphatic(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """A wide thin-walled channel with pale content: a dilated gland but for its flat, sparse nuclei."""
    window, depth = _depth(rng, stains, y, x, r, 0.12)
    _fill(stains, window, np.clip(depth + 0.5, 0, 1), 0.15, rng.uniform(0.4, 0.8))
    pink = rng.uniform(0, 0.3) * np.clip(0.7 + 0.5 * smooth_noise(rng, depth.shape, 12), 0, 1)
    _fill(stains, window, np.clip(depth - rng.uniform(1.5, 3), 0, 1), 0.0, pink)
    _edge_nuclei(rng, stains, window, depth, 1.5, rng.uniform(9, 16))


def _edge_nuclei(rng: np.random.Generator, stains: Stains, window: Window, depth: Array, level_px: float,
                 spacing_px: float) -> None:
    """Flat nuclei along the line at `level_px` below the border."""
    py, px = points_at_depth(rng, depth, level_px, spacing_px)
    slope_y, slope_x = np.gradient(depth)
    angle = np.arctan2(value_at(slope_y, py, px), value_at(slope_x, py, px)) + np.pi / 2
    n = len(py)
    stamp(stains.hema, py + window[0].start, px + window[1].start, rng.uniform(3.5, 7, n),
          rng.uniform(1.3, 2.3, n), angle, rng.uniform(0.65, 1.1, n))


def _paint_bundle(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """A nerve or muscle bundle: a gland's outline and cleft, but parallel spindle nuclei and no lumen."""
    window, depth = _depth(rng, stains, y, x, r, 0.1)
    _fill(stains, window, np.clip(depth + rng.uniform(2, 6), 0, 1) * 0.9, 0.0, 0.05)
    grain = smooth_noise(rng, depth.shape, 3)
    _fill(stains, window, np.clip(depth + 0.5, 0, 1), 0.14 + 0.04 * grain,
          rng.uniform(0.35, 0.75) * (1 + 0.12 * grain))
    dy, dx, _ = _ring(rng, int(r * r * rng.uniform(0.02, 0.05)), 0, 0.92 * r)
    n = len(dy)
    stamp(stains.hema, y + dy, x + dx, rng.uniform(4, 8, n), rng.uniform(1.5, 2.8, n),
          rng.uniform(0, np.pi) + rng.normal(0, 0.3, n), rng.uniform(0.6, 1.05, n), rng.uniform(0, 0.5, n))


def _paint_granuloma(rng: np.random.Generator, stains: Stains, y: float, x: float, r: float) -> None:
    """Plump pale cells in a heap: nuclei as large as a malignant gland's, without its border or order."""
    window, depth = _depth(rng, stains, y, x, r, 0.15)
    grain = smooth_noise(rng, depth.shape, 3)
    _fill(stains, window, np.clip(depth / 8 + 0.5, 0, 1) * 0.85, 0.2 + 0.04 * grain,
          rng.uniform(0.35, 0.65) * (1 + 0.12 * grain))
    dy, dx, angle = _ring(rng, int(r * r * rng.uniform(0.03, 0.05)), 0, r)
    n = len(dy)
    stamp(stains.hema, y + dy, x + dx, rng.uniform(4.5, 7.5, n), rng.uniform(2.6, 3.9, n),
          angle + rng.normal(np.pi / 2, 0.9, n), rng.uniform(0.55, 1.0, n), rng.uniform(0.1, 0.65, n))


LOOKALIKES: dict[str, Lookalike] = {
    "vessel": Lookalike(_paint_vessel, (12, 30), 2),
    "artery": Lookalike(_paint_artery, (18, 44), 3),
    "lymphatic": Lookalike(_paint_lymphatic, (18, 48), 3),
    "cuffed_vessel": Lookalike(_paint_cuffed_vessel, (20, 40), 3),
    "follicle": Lookalike(_paint_follicle, (24, 60), 3),
    "granuloma": Lookalike(_paint_granuloma, (22, 50), 3),
    "bundle": Lookalike(_paint_bundle, (18, 46), 3),
    "fat": Lookalike(_paint_fat, (16, 40), 2),
    "hole": Lookalike(_paint_hole, (14, 44), 3),
}
