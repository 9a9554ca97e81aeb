"""What every pixel of a synthetic field absorbs: stroma, and the background structures that resemble glands.

Painting happens on a canvas larger than the image, so that the border cuts structures as it does in a real
field of view.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hf_gland.data.synthetic_epithelium import paint_gland
from hf_gland.data.synthetic_layout import LOOKALIKES, Architecture, place
from hf_gland.data.synthetic_shapes import Array, smooth_noise, stamp

MARGIN_PX = 48


@dataclass
class Tissue:
    """Amounts of each absorber, float32 [H, W], and the glands: ids int32 [H, W], classes uint8 [H, W]."""

    hema: Array
    eosin: Array
    blood: Array
    ids: Array
    classes: Array


@dataclass(frozen=True)
class Stroma:
    """One kind of connective tissue; shares 0..1."""

    eosin: float
    cells: float  # nuclei per 1000 px
    spindle: float  # share of elongated nuclei
    loose: float  # how far it is thin strands in white rather than solid
    wrap: float  # how far fibres run round the glands


LAMINA_PROPRIA = Stroma(eosin=0.40, cells=8.0, spindle=0.15, loose=0.45, wrap=0.6)
DESMOPLASTIC = Stroma(eosin=0.55, cells=4.5, spindle=0.75, loose=0.15, wrap=1.0)
MUSCLE = Stroma(eosin=0.70, cells=2.2, spindle=0.95, loose=0.05, wrap=0.0)
SUBMUCOSA = Stroma(eosin=0.50, cells=1.6, spindle=0.7, loose=0.95, wrap=0.3)
INFLAMED = Stroma(eosin=0.45, cells=11.0, spindle=0.1, loose=0.2, wrap=0.3)


def paint_tissue(rng: np.random.Generator, size_px: tuple[int, int], plan: Architecture, *,
                 glands: bool = True) -> Tissue:
    """Draw one field of `size_px` (height, width); without `glands`, stroma and look-alikes only."""
    shape = (size_px[0] + 2 * MARGIN_PX, size_px[1] + 2 * MARGIN_PX)
    layout = place(rng, shape, plan, glands)
    hema, eosin, blood = (np.zeros(shape, np.float32) for _ in range(3))
    tissue = Tissue(hema, eosin, blood, layout.ids, layout.classes)
    _paint_stroma(rng, tissue, plan)
    for kind, y, x, r in layout.lookalikes:
        _PAINTERS[kind](rng, tissue, y, x, r)
    for gland_id, box in enumerate(ndimage.find_objects(layout.ids), 1):
        if box is not None:
            grown = (slice(max(box[0].start - 4, 0), box[0].stop + 4),
                     slice(max(box[1].start - 4, 0), box[1].stop + 4))
            paint_gland(rng, hema[grown], eosin[grown], layout.ids[grown] == gland_id,
                        int(layout.classes[layout.ids == gland_id][0]), plan)
    inner = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return Tissue(*(np.ascontiguousarray(a[inner]) for a in (hema, eosin, blood, layout.ids, layout.classes)))


def _paint_stroma(rng: np.random.Generator, tissue: Tissue, plan: Architecture) -> None:
    """Two kinds of stroma that pass into one another, with fibres along the level lines of a smooth field."""
    shape = tissue.hema.shape
    kinds = (LAMINA_PROPRIA, DESMOPLASTIC, MUSCLE, SUBMUCOSA, INFLAMED)
    likely = [0.15, 0.45, 0.15, 0.1, 0.15] if plan.malignant else [0.45, 0.1, 0.15, 0.15, 0.15]
    one, two = (kinds[i] for i in rng.choice(len(kinds), 2, replace=False, p=likely))
    share = 1 / (1 + np.exp(-4 * smooth_noise(rng, shape, 110) - rng.normal(0, 1.5)))

    def mixed(name: str) -> Array:
        field: Array = getattr(one, name) * share + getattr(two, name) * (1 - share)
        return field

    outside = (ndimage.distance_transform_edt(tissue.ids == 0) if tissue.ids.any() else np.full(shape, 99.0))
    outside = outside.astype(np.float32)
    across = _fibre_field(rng, shape, outside, float(mixed("wrap").mean()))
    fibre = _fibres(rng, shape, across)
    fine = smooth_noise(rng, shape, 2.2)
    patchy = smooth_noise(rng, shape, 50)
    solid = 1 + 0.2 * fibre + 0.13 * fine + 0.12 * patchy
    strands = 1.25 * np.exp(-((fibre / 0.3) ** 2)) * np.clip(0.8 + 0.4 * patchy, 0, 1) + 0.12
    loose = np.clip(mixed("loose") + 0.25 * smooth_noise(rng, shape, 35), 0, 1)
    white = np.clip(1.5 * (-fibre - 1.15 + 0.35 * smooth_noise(rng, shape, 30) + 0.4 * loose), 0, 1)
    if plan.halo_px:
        halo_px = plan.halo_px * (1 + 0.6 * smooth_noise(rng, shape, 40)) + 0.8 * fine
        white = np.maximum(white, 0.95 * np.clip(halo_px - outside + 0.5, 0, 1))
    eosin = mixed("eosin") * rng.uniform(0.8, 1.2) * (solid * (1 - loose) + strands * loose)
    tissue.eosin[:] = np.clip(eosin, 0.02, 2) * (1 - white)
    tissue.hema[:] = np.clip(0.07 + 0.03 * patchy + 0.02 * fibre + 0.03 * fine, 0, 1) * (1 - white) * (1 - 0.6 * loose)

    slope_y, slope_x = np.gradient(across)
    _scatter_cells(rng, tissue, mixed("cells"), mixed("spindle"), outside, np.arctan2(slope_y, slope_x) + np.pi / 2)


def _fibre_field(rng: np.random.Generator, shape: tuple[int, int], outside: Array, wrap: float) -> Array:
    """A coordinate (px) that grows across the fibres: a tilted plane, bent, and bulging round the glands."""
    turn = rng.uniform(0, np.pi)
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    x = np.arange(shape[1], dtype=np.float32)[None, :]
    field = (y * np.cos(turn) + x * np.sin(turn)).astype(np.float32)
    field += 14 * smooth_noise(rng, shape, 80) + 3.5 * smooth_noise(rng, shape, 22)
    return field + np.float32(40 * wrap) * np.exp(-outside / 15)


def _fibres(rng: np.random.Generator, shape: tuple[int, int], across: Array) -> Array:
    """Streaks of about unit variance that are nearly constant along the level lines of `across`."""
    total = np.zeros(shape, np.float32)
    for period_px, weight in ((1.8, 0.6), (4.5, 0.7), (11.0, 0.4)):
        table = rng.standard_normal(2049).astype(np.float32)
        where = (across + 2.5 * period_px * smooth_noise(rng, shape, 9 * period_px)) / period_px % 2047
        low = where.astype(np.int64)
        part = where - low
        total += weight * (table[low] * (1 - part) + table[low + 1] * part)
    return total


def _scatter_cells(rng: np.random.Generator, tissue: Tissue, per_1000_px: Array, spindle_share: Array,
                   outside: Array, along: Array) -> None:
    shape = tissue.hema.shape
    chance = np.maximum(per_1000_px / 1000 * np.exp(0.7 * smooth_noise(rng, shape, 40)), 0)
    iy, ix = np.nonzero((rng.random(shape, dtype=np.float32) < chance) & (outside > 3))
    n = len(iy)
    spindle = rng.random(n) < spindle_share[iy, ix]
    long_px = np.where(spindle, rng.uniform(4.5, 10, n), rng.uniform(2.8, 4.6, n))
    short_px = np.where(spindle, rng.uniform(1.4, 2.7, n), long_px * rng.uniform(0.8, 1.0, n))
    angle = along[iy, ix] + rng.normal(0, 0.25, n)
    stamp(tissue.eosin, iy[~spindle], ix[~spindle] + 1.5, long_px[~spindle] + 1.8, short_px[~spindle] + 1.4,
          angle[~spindle], rng.uniform(0.1, 0.5, int(np.sum(~spindle))))
    stamp(tissue.hema, iy, ix, long_px, short_px, angle, rng.uniform(0.55, 1.2, n), rng.uniform(0, 0.35, n))


# Look-alikes: background that resembles a part of a gland. Each is painted round (y, x) with radius r in px.

def _depth(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float,
           rough: float) -> tuple[tuple[slice, slice], Array]:
    """The window round (y, x) and, in it, the depth in px below a wobbly ellipse (negative outside)."""
    reach = int(r * 1.5 + 12)
    window = (slice(max(int(y) - reach, 0), int(y) + reach), slice(max(int(x) - reach, 0), int(x) + reach))
    h, w = tissue.hema[window].shape
    dy = (np.arange(h, dtype=np.float32) + window[0].start - y)[:, None]
    dx = (np.arange(w, dtype=np.float32) + window[1].start - x)[None, :]
    stretch, turn = rng.uniform(1, 1.3), rng.uniform(0, np.pi)
    u, v = dx * np.cos(turn) + dy * np.sin(turn), dy * np.cos(turn) - dx * np.sin(turn)
    wobble = rough * r * smooth_noise(rng, (h, w), max(r * 0.6, 5))
    return window, r - np.sqrt((u / stretch) ** 2 + (v * stretch) ** 2) + wobble


def _fill(tissue: Tissue, window: tuple[slice, slice], cover: Array, hema: float | Array, eosin: float | Array) -> None:
    tissue.hema[window] += cover * (hema - tissue.hema[window])
    tissue.eosin[window] += cover * (eosin - tissue.eosin[window])


def _lymphocytes(rng: np.random.Generator, tissue: Tissue, y: Array, x: Array) -> None:
    n = len(y)
    size = rng.uniform(2.8, 4.4, n)
    stamp(tissue.hema, y, x, size, size * rng.uniform(0.8, 1, n), rng.uniform(0, np.pi, n),
          rng.uniform(0.6, 1.2, n), rng.uniform(0, 0.4, n))


def _ring(rng: np.random.Generator, n: int, low: float, high: float) -> tuple[Array, Array, Array]:
    """n random (dy, dx, angle) with distances low..high px from the centre, evenly by area."""
    distance = np.sqrt(rng.uniform(low**2, high**2, n))
    angle = rng.uniform(0, 2 * np.pi, n)
    return distance * np.sin(angle), distance * np.cos(angle), angle


def _paint_vessel(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    """A vein or capillary: thin wall, a few flat nuclei along it, often red cells."""
    window, depth = _depth(rng, tissue, y, x, r, 0.05)
    wall = rng.uniform(2.5, 6)
    _fill(tissue, window, np.clip(depth + 0.5, 0, 1), 0.12, rng.uniform(0.5, 0.9))
    _fill(tissue, window, np.clip(depth - wall + 0.5, 0, 1), 0.0, rng.uniform(0, 0.15))
    dy, dx, angle = _ring(rng, int(r * 0.5), r - wall, r)
    stamp(tissue.hema, y + dy, x + dx, rng.uniform(3.5, 7, len(dy)), rng.uniform(1.3, 2.2, len(dy)),
          angle + np.pi / 2, rng.uniform(0.7, 1.1, len(dy)))
    if rng.random() < 0.7:
        dy, dx, angle = _ring(rng, int(r * r * rng.uniform(0.01, 0.09)), 0, max(r - wall - 4, 1))
        stamp(tissue.blood, y + dy, x + dx, 3.4, 3.0, angle, rng.uniform(0.5, 0.9, len(dy)), 0.35)


def _paint_artery(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    """A thick muscular wall of concentric nuclei round a small lumen: a crypt but for the nuclei's direction."""
    window, depth = _depth(rng, tissue, y, x, r, 0.04)
    grain = smooth_noise(rng, depth.shape, 3)
    _fill(tissue, window, np.clip(depth + 0.5, 0, 1), 0.15 + 0.04 * grain, rng.uniform(0.4, 0.8) * (1 + 0.15 * grain))
    dy, dx, angle = _ring(rng, int(r * r * 0.045), 0.4 * r, 0.98 * r)
    stamp(tissue.hema, y + dy, x + dx, rng.uniform(4, 7.5, len(dy)), rng.uniform(1.6, 2.9, len(dy)),
          angle + np.pi / 2 + rng.normal(0, 0.2, len(dy)), rng.uniform(0.6, 1.1, len(dy)), rng.uniform(0, 0.3, len(dy)))
    window, depth = _depth(rng, tissue, y, x, r * rng.uniform(0.2, 0.45), 0.15)
    _fill(tissue, window, np.clip(depth + 0.5, 0, 1), 0.0, 0.05)


def _paint_fat(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    """Two to five fat cells side by side: white discs with a thin rim."""
    for _ in range(int(rng.integers(2, 6))):
        size = r * rng.uniform(0.35, 0.65)
        dy, dx, _ = _ring(rng, 1, 0, r - size)
        window, depth = _depth(rng, tissue, y + float(dy[0]), x + float(dx[0]), size, 0.06)
        _fill(tissue, window, np.clip(depth + 0.5, 0, 1), 0.1, 0.45)
        _fill(tissue, window, np.clip(depth - 1.2, 0, 1), 0.0, 0.0)


def _paint_follicle(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    """A lymphoid aggregate: as dark as a tangentially cut gland, but its nuclei are small, round and aimless."""
    window, depth = _depth(rng, tissue, y, x, r, 0.1)
    _fill(tissue, window, np.clip(depth / 6 + 0.5, 0, 1) * 0.8, 0.2, 0.3)
    dy, dx, _ = _ring(rng, int(r * r * rng.uniform(0.06, 0.1)), 0, r * 1.05)
    _lymphocytes(rng, tissue, y + dy, x + dx)


def _paint_hole(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    """A white tear or a pool of mucin of a lumen's size and shape, with no epithelium round it."""
    window, depth = _depth(rng, tissue, y, x, r * 0.85, 0.22)
    mucin = rng.uniform(0.05, 0.2) if rng.random() < 0.4 else 0.0
    strands = np.clip(1 + smooth_noise(rng, depth.shape, 6), 0, 2)
    _fill(tissue, window, np.clip(depth / 1.5 + 0.5, 0, 1), mucin * strands, 0.3 * mucin * strands)


def _paint_cuffed_vessel(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    """A vessel in a mantle of lymphocytes: a pale lumen in a dark ring, as a crypt has."""
    dy, dx, _ = _ring(rng, int(r * r * rng.uniform(0.07, 0.12)), 0.5 * r, r * 1.05)
    _lymphocytes(rng, tissue, y + dy, x + dx)
    _paint_vessel(rng, tissue, y, x, r * rng.uniform(0.5, 0.65))


_PAINTERS: dict[str, Callable[[np.random.Generator, Tissue, float, float, float], None]] = {
    "vessel": _paint_vessel, "artery": _paint_artery, "fat": _paint_fat,
    "follicle": _paint_follicle, "hole": _paint_hole, "cuffed_vessel": _paint_cuffed_vessel,
}
assert _PAINTERS.keys() == LOOKALIKES.keys()
