"""What every pixel of a synthetic field absorbs: stroma first, then the look-alikes and the glands.

Painting happens on a canvas larger than the image, so that the border cuts structures as it does in a real
field of view.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hf_gland.data.sources.synthetic.epithelium import paint_gland
from hf_gland.data.sources.synthetic.layout import Architecture, place
from hf_gland.data.sources.synthetic.lookalikes import LOOKALIKES, Stains
from hf_gland.data.sources.synthetic.shapes import Array, smooth_noise, stamp

MARGIN_PX = 48


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
                 glands: bool = True) -> tuple[Stains, Array, Array]:
    """Draw one field of `size_px` (height, width); without `glands`, stroma and look-alikes only.

    Returns the stains, the gland ids int32 [H, W] (0 = none) and the gland classes uint8 [H, W].
    """
    shape = (size_px[0] + 2 * MARGIN_PX, size_px[1] + 2 * MARGIN_PX)
    layout = place(rng, shape, plan, glands)
    stains = Stains(*(np.zeros(shape, np.float32) for _ in range(3)))
    _paint_stroma(rng, stains, layout.ids, plan)
    for kind, y, x, r in layout.lookalikes:
        LOOKALIKES[kind].paint(rng, stains, y, x, r)
    for gland_id, (rows, columns) in enumerate(ndimage.find_objects(layout.ids), 1):
        box = (slice(max(rows.start - 4, 0), rows.stop + 4),
               slice(max(columns.start - 4, 0), columns.stop + 4))
        domain = layout.ids[box] == gland_id
        gland_class = int(layout.classes[box][domain][0])
        paint_gland(rng, stains.hema[box], stains.eosin[box], domain, gland_class, plan)
    inner = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    hema, eosin, blood, ids, classes = (np.ascontiguousarray(a[inner]) for a in (
        stains.hema, stains.eosin, stains.blood, layout.ids, layout.classes))
    return Stains(hema, eosin, blood), ids, classes


def _paint_stroma(rng: np.random.Generator, stains: Stains, ids: Array, plan: Architecture) -> None:
    """Two kinds of stroma that pass into one another, with fibres along the level lines of a smooth field."""
    shape = stains.hema.shape
    kinds = (LAMINA_PROPRIA, DESMOPLASTIC, MUSCLE, SUBMUCOSA, INFLAMED)
    likely = [0.15, 0.45, 0.15, 0.1, 0.15] if plan.malignant else [0.45, 0.1, 0.15, 0.15, 0.15]
    one, two = (kinds[i] for i in rng.choice(len(kinds), 2, replace=False, p=likely))
    share = 1 / (1 + np.exp(-4 * smooth_noise(rng, shape, 110) - rng.normal(0, 1.5)))

    def mixed(name: str) -> Array:
        field: Array = getattr(one, name) * share + getattr(two, name) * (1 - share)
        return field

    outside = (ndimage.distance_transform_edt(ids == 0) if ids.any() else np.full(shape, 99.0))
    outside = outside.astype(np.float32)
    across = _fibre_field(rng, shape, outside, float(mixed("wrap").mean()))
    fibrils, bundles = _fibres(rng, across, (1.8,)), _fibres(rng, across, (4.5, 11.0))
    fibre = 0.6 * fibrils + 0.6 * bundles
    fine = smooth_noise(rng, shape, 2.2)
    patchy = smooth_noise(rng, shape, 50)
    solid = 1 + 0.2 * fibre + 0.13 * fine + 0.12 * patchy
    strands = 1.25 * np.exp(-(((0.6 * bundles + 0.15 * fibrils) / 0.25) ** 2)) * np.clip(0.8 + 0.4 * patchy, 0, 1) + 0.12
    loose = np.clip(mixed("loose") + 0.25 * smooth_noise(rng, shape, 35), 0, 1)
    white = np.clip(1.5 * (-fibre - 1.15 + 0.35 * smooth_noise(rng, shape, 30) + 0.4 * loose), 0, 1)
    if plan.halo_px:
        halo_px = plan.halo_px * (1 + 0.6 * smooth_noise(rng, shape, 40)) + 0.8 * fine
        white = np.maximum(white, 0.95 * np.clip(halo_px - outside + 0.5, 0, 1))
    eosin = mixed("eosin") * rng.uniform(0.8, 1.2) * (solid * (1 - loose) + strands * loose)
    stains.eosin[:] = np.clip(eosin, 0.02, 2) * (1 - white)
    haze = np.clip(0.07 + 0.03 * patchy + 0.02 * fibre + 0.03 * fine, 0, 1)
    stains.hema[:] = haze * (1 - white) * (1 - 0.6 * loose)

    slope_y, slope_x = np.gradient(across)
    along = np.arctan2(slope_y, slope_x) + np.pi / 2
    _scatter_cells(rng, stains, mixed("cells"), mixed("spindle"), outside, along)


def _fibre_field(rng: np.random.Generator, shape: tuple[int, int], outside: Array, wrap: float) -> Array:
    """A coordinate (px) that grows across the fibres: a tilted plane, bent, and bulging round the glands."""
    turn = rng.uniform(0, np.pi)
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    x = np.arange(shape[1], dtype=np.float32)[None, :]
    field = (y * np.cos(turn) + x * np.sin(turn)).astype(np.float32)
    field += 14 * smooth_noise(rng, shape, 80) + 3.5 * smooth_noise(rng, shape, 22)
    return field + np.float32(40 * wrap) * np.exp(-outside / 15)


def _fibres(rng: np.random.Generator, across: Array, periods_px: tuple[float, ...]) -> Array:
    """Sum of streaks [H, W], one set per width, nearly constant along the level lines of `across`."""
    total = np.zeros_like(across)
    for period_px in periods_px:
        table = rng.standard_normal(2049).astype(np.float32)
        where = (across / period_px + 2.5 * smooth_noise(rng, across.shape, 9 * period_px)) % 2047
        low = where.astype(np.int64)
        part = where - low
        total += table[low] * (1 - part) + table[low + 1] * part
    return total


def _scatter_cells(rng: np.random.Generator, stains: Stains, per_1000_px: Array, spindle_share: Array,
                   outside: Array, along: Array) -> None:
    shape = stains.hema.shape
    chance = np.maximum(per_1000_px / 1000 * np.exp(0.7 * smooth_noise(rng, shape, 40)), 0)
    iy, ix = np.nonzero((rng.random(shape, dtype=np.float32) < chance) & (outside > 3))
    n = len(iy)
    spindle = rng.random(n) < spindle_share[iy, ix]
    long_px = np.where(spindle, rng.uniform(4.5, 10, n), rng.uniform(2.8, 4.6, n))
    short_px = np.where(spindle, rng.uniform(1.4, 2.7, n), long_px * rng.uniform(0.8, 1.0, n))
    angle = along[iy, ix] + rng.normal(0, 0.25, n)
    stamp(stains.eosin, iy[~spindle], ix[~spindle] + 1.5, long_px[~spindle] + 1.8, short_px[~spindle] + 1.4,
          angle[~spindle], rng.uniform(0.1, 0.5, int(np.sum(~spindle))))
    stamp(stains.hema, iy, ix, long_px, short_px, angle, rng.uniform(0.55, 1.2, n), rng.uniform(0, 0.35, n))
