"""Synthetic colorectal tissue as amounts of stain: where the glands are, and what every pixel absorbs.

A piece of tissue is drawn on a canvas larger than the image, so that glands are cut by the border as in a real
field of view. Lengths are in px at `MPP` µm per pixel.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hf_gland.data.synthetic_shapes import Array, outline, skeleton, smooth_noise, stamp

MPP = 0.62
MARGIN_PX = 48
BENIGN, MALIGNANT = 1, 2


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one image's tissue from another's (lengths in px, shares 0..1)."""

    malignant: bool
    fill: float  # share of the canvas that glands should cover
    gap_px: float  # least distance between glands; negative: they may press against each other
    radius_px: float
    cellularity: float  # stroma nuclei per 1000 px
    fibre_contrast: float
    loose: float  # how much of the stroma is torn into white clefts
    goblets: float
    cytoplasm_hema: float
    cytoplasm_eosin: float
    stroma_eosin: float


@dataclass
class Tissue:
    """Amounts of each absorber on the canvas, float32 [H, W], and the glands: ids int32, classes uint8."""

    hema: Array
    eosin: Array
    blood: Array
    instances: Array
    classes: Array


def draw_architecture(rng: np.random.Generator, malignant: bool) -> Architecture:
    """A random architecture of the given grade."""
    return Architecture(
        malignant=malignant,
        fill=rng.uniform(0.25, 0.55),
        gap_px=rng.choice([-6.0, 0.0, 6.0, 14.0]),
        radius_px=rng.uniform(28, 42) if malignant else rng.uniform(26, 38),
        cellularity=rng.uniform(2.0, 5.5),
        fibre_contrast=rng.uniform(0.3, 1.0),
        loose=rng.uniform(0, 1) ** 2,
        goblets=rng.uniform(0, 0.35) if malignant else rng.uniform(0.4, 1.0),
        cytoplasm_hema=rng.uniform(0.18, 0.42) if malignant else rng.uniform(0.10, 0.30),
        cytoplasm_eosin=rng.uniform(0.35, 0.75),
        stroma_eosin=rng.uniform(0.35, 0.75),
    )


def paint_tissue(rng: np.random.Generator, size_px: tuple[int, int], plan: Architecture, *,
                 glands: bool = True) -> Tissue:
    """Draw one field of tissue of `size_px` (height, width); without `glands`, stroma and look-alikes only."""
    shape = (size_px[0] + 2 * MARGIN_PX, size_px[1] + 2 * MARGIN_PX)
    ids, classes, reserved = _place(rng, shape, plan, glands)
    tissue = Tissue(*(np.zeros(shape, np.float32) for _ in range(3)), instances=ids, classes=classes)
    fibres, slope_angle = _paint_stroma(rng, tissue, plan)
    for kind, y, x, r in reserved:
        _LOOKALIKES[kind](rng, tissue, y, x, r)
    for box, gland_id in _boxes(ids):
        _paint_gland(rng, tissue, box, gland_id, plan)
    return _crop(tissue)


# --- where things are ------------------------------------------------------------------------------------------

def _gland_shape(rng: np.random.Generator, plan: Architecture, malignant: bool) -> tuple[Array, int, int]:
    r = plan.radius_px * rng.uniform(0.75, 1.2)
    if malignant:
        branches = int(rng.integers(0, 4))
        discs = skeleton(rng, r * rng.uniform(0.3, 3.0), r * rng.uniform(0.7, 1.0), rng.uniform(-2.5, 2.5), 0.3, branches)
        return outline(rng, discs, rng.uniform(2, 5), rng.uniform(14, 30))
    if rng.random() < 0.55:  # cut across
        return outline(rng, skeleton(rng, r * rng.uniform(0, 0.6), r, 0, 0.05), rng.uniform(0.8, 2.2), 30)
    discs = skeleton(rng, r * rng.uniform(1.5, 4.0), r * rng.uniform(0.65, 0.85), rng.uniform(-1, 1), 0.1)
    return outline(rng, discs, rng.uniform(0.8, 2.2), 30)


def _place(rng: np.random.Generator, shape: tuple[int, int], plan: Architecture,
           glands: bool) -> tuple[Array, Array, list[tuple[str, float, float, float]]]:
    """Ids, classes, and the look-alikes that were given room first: (kind, y, x, radius)."""
    ids, classes = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    taken = np.zeros(shape, bool)
    reserved = []
    yy, xx = np.ogrid[: shape[0], : shape[1]]
    for _ in range(int(rng.integers(2, 6)) + (0 if glands else 5)):
        kind = str(rng.choice(list(_LOOKALIKES)))
        r = rng.uniform(12, 30)
        y, x = rng.uniform(0, shape[0]), rng.uniform(0, shape[1])
        disc = (yy - y) ** 2 + (xx - x) ** 2 < (r + 10) ** 2
        if not (taken & disc).any():
            taken |= disc
            reserved.append((kind, float(y), float(x), float(r)))
    if not glands:
        return ids, classes, reserved
    next_id = 1
    for attempt in range(90):
        if (ids > 0).mean() > plan.fill:
            break
        malignant = plan.malignant and rng.random() > 0.12
        filled, y0, x0 = _gland_shape(rng, plan, malignant)
        cy, cx = ((shape[0] / 2, shape[1] / 2) if attempt == 0 else
                  (rng.uniform(0, shape[0]), rng.uniform(0, shape[1])))
        top, left = int(cy) + y0, int(cx) + x0
        a0, a1 = max(top, 0), min(top + filled.shape[0], shape[0])
        b0, b1 = max(left, 0), min(left + filled.shape[1], shape[1])
        if a1 - a0 < 8 or b1 - b0 < 8:
            continue
        window = np.s_[a0:a1, b0:b1]
        local = filled[a0 - top:a1 - top, b0 - left:b1 - left]
        blocked = taken[window] | (ids[window] > 0)
        if attempt and (local & taken[window]).any():
            continue
        if plan.gap_px > 0:
            blocked = ndimage.distance_transform_edt(~blocked) < plan.gap_px if blocked.any() else blocked
        if (local & blocked).sum() > (0.12 if plan.gap_px <= 0 else 0.03) * local.sum() and attempt:
            continue
        room = local & ~blocked
        room = ndimage.binary_opening(room, iterations=5)
        parts, count = ndimage.label(room)
        if not count:
            continue
        room = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
        if room.sum() < 900:
            continue
        ids[window][room] = next_id
        classes[window][room] = MALIGNANT if malignant else BENIGN
        next_id += 1
    return ids, classes, reserved


def _boxes(ids: Array) -> list[tuple[tuple[slice, slice], int]]:
    """Each gland's bounding box, grown by 6 px, with its id."""
    found = []
    for gland_id, box in enumerate(ndimage.find_objects(ids), 1):
        if box is not None:
            y, x = box
            found.append(((slice(max(y.start - 6, 0), y.stop + 6), slice(max(x.start - 6, 0), x.stop + 6)), gland_id))
    return found


# --- stroma ----------------------------------------------------------------------------------------------------

def _paint_stroma(rng: np.random.Generator, tissue: Tissue, plan: Architecture) -> tuple[Array, Array]:
    shape = tissue.hema.shape
    outside = ndimage.distance_transform_edt(tissue.instances == 0).astype(np.float32) if (
        tissue.instances.any()) else np.full(shape, 99, np.float32)
    yy, xx = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    turn = rng.uniform(0, np.pi)
    across = yy * np.cos(turn) + xx * np.sin(turn)
    across += 14 * smooth_noise(rng, shape, 70) + 4 * smooth_noise(rng, shape, 25)
    across += 30 * np.exp(-outside / 18)  # fibres wrap round the glands
    gy, gx = np.gradient(across)
    along = np.arctan2(gy, gx) + np.pi / 2

    fibre = np.zeros(shape, np.float32)
    for period, weight in ((2.5, 0.5), (6.0, 0.8), (16.0, 0.6)):
        table = rng.standard_normal(4096).astype(np.float32)
        table = ndimage.gaussian_filter1d(table, 0.8, mode="wrap") * 1.7
        where = (across / period + 1.5 * smooth_noise(rng, shape, 40)) % 4095
        low = where.astype(np.int64)
        fibre += weight * (table[low] * (1 - (where - low)) + table[low + 1] * (where - low))
    patchy = smooth_noise(rng, shape, 60)
    eosin = plan.stroma_eosin * (1 + 0.28 * plan.fibre_contrast * fibre + 0.18 * patchy)
    hema = 0.08 + 0.03 * smooth_noise(rng, shape, 20) + 0.02 * fibre
    cleft = np.clip(plan.loose * 1.4 + 0.55 * (-fibre) + 0.5 * smooth_noise(rng, shape, 45) - 1.7, 0, 0.5) * 2
    tissue.eosin[:] = np.clip(eosin, 0.08, 2) * (1 - cleft)
    tissue.hema[:] = np.clip(hema, 0, 1) * (1 - cleft)

    count = int(plan.cellularity * shape[0] * shape[1] / 1000)
    crowd = np.exp(0.8 * smooth_noise(rng, shape, 50))
    y, x = rng.uniform(0, shape[0], 3 * count), rng.uniform(0, shape[1], 3 * count)
    iy, ix = y.astype(int), x.astype(int)
    kept = (rng.random(3 * count) < crowd[iy, ix] / 3) & (outside[iy, ix] > 3)
    y, x, iy, ix = y[kept], x[kept], iy[kept], ix[kept]
    n = len(y)
    spindle = rng.random(n) < np.clip(0.6 + 0.25 * smooth_noise(rng, shape, 60)[iy, ix], 0.1, 0.95)
    long_px = np.where(spindle, rng.uniform(5, 10, n), rng.uniform(3, 4.6, n))
    short_px = np.where(spindle, rng.uniform(1.5, 2.6, n), rng.uniform(2.8, 4.2, n))
    stamp(tissue.hema, y, x, long_px, short_px, along[iy, ix] + rng.normal(0, 0.25, n),
          rng.uniform(0.6, 1.15, n), rng.uniform(0, 0.3, n))
    return fibre, along


# --- look-alikes: background that resembles a part of a gland ------------------------------------------------------

def _disc(tissue: Tissue, y: float, x: float, r: float, rng: np.random.Generator,
          rough: float = 0.1) -> tuple[tuple[slice, slice], Array]:
    """The window round (y, x) and, in it, the depth below a wobbly circle of radius r (px, negative outside)."""
    reach = int(r * 1.5 + 12)
    shape = tissue.hema.shape
    window = (slice(max(int(y) - reach, 0), min(int(y) + reach, shape[0])),
              slice(max(int(x) - reach, 0), min(int(x) + reach, shape[1])))
    yy, xx = np.mgrid[window].astype(np.float32)
    stretch, turn = rng.uniform(1, 1.35), rng.uniform(0, np.pi)
    u = (xx - x) * np.cos(turn) + (yy - y) * np.sin(turn)
    v = (yy - y) * np.cos(turn) - (xx - x) * np.sin(turn)
    wobble = rough * r * smooth_noise(rng, yy.shape, max(r * 0.6, 5))
    return window, r - np.sqrt((u / stretch) ** 2 + (v * stretch) ** 2) + wobble


def _vessel(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    window, depth = _disc(tissue, y, x, r, rng, 0.06)
    wall = rng.uniform(3, 8)
    inside = np.clip(depth - wall + 0.5, 0, 1)
    ring = np.clip(depth + 0.5, 0, 1) - inside
    for stain, amount in ((tissue.eosin, 0.7), (tissue.hema, 0.15)):
        stain[window] = stain[window] * (1 - ring - inside) + ring * amount
    n = int(2 * np.pi * r / 14)
    theta = rng.uniform(0, 2 * np.pi, n)
    stamp(tissue.hema, y + (r - wall) * np.sin(theta), x + (r - wall) * np.cos(theta), rng.uniform(4, 7, n),
          rng.uniform(1.3, 2, n), theta + np.pi / 2, rng.uniform(0.7, 1.1, n))
    if rng.random() < 0.7:
        n = int(r * r * rng.uniform(0.01, 0.1))
        rho, theta = (r - wall - 4) * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
        stamp(tissue.blood, y + rho * np.sin(theta), x + rho * np.cos(theta), 3.4, 3.0, theta,
              rng.uniform(0.5, 0.9, n), 0.3)


def _fat(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    window, depth = _disc(tissue, y, x, r, rng, 0.08)
    inside = np.clip(depth - 1.5, 0, 1)
    rim = np.clip(depth + 0.5, 0, 1) - inside
    for stain, amount in ((tissue.eosin, 0.5), (tissue.hema, 0.1)):
        stain[window] = stain[window] * (1 - inside - rim) + rim * amount


def _follicle(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    r = r * 1.25
    n = int(r * r * 0.085)
    rho, theta = r * np.sqrt(rng.random(n)), rng.uniform(0, 2 * np.pi, n)
    stamp(tissue.hema, y + rho * np.sin(theta), x + rho * np.cos(theta), rng.uniform(3, 4.4, n),
          rng.uniform(2.8, 3.8, n), theta, rng.uniform(0.7, 1.2, n), rng.uniform(0, 0.3, n))


def _hole(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    window, depth = _disc(tissue, y, x, r * 0.8, rng, 0.25)
    inside = np.clip(depth / 2 + 0.5, 0, 1)
    tissue.eosin[window] *= 1 - inside
    tissue.hema[window] *= 1 - inside


def _cuffed_vessel(rng: np.random.Generator, tissue: Tissue, y: float, x: float, r: float) -> None:
    """A vessel in a mantle of lymphocytes: a pale lumen inside a dark ring, as a crypt has."""
    n = int(r * r * 0.10)
    rho, theta = r * np.sqrt(rng.uniform(0.3, 1.4, n)), rng.uniform(0, 2 * np.pi, n)
    stamp(tissue.hema, y + rho * np.sin(theta), x + rho * np.cos(theta), rng.uniform(3, 4.4, n),
          rng.uniform(2.8, 3.8, n), theta, rng.uniform(0.7, 1.2, n), rng.uniform(0, 0.3, n))
    _vessel(rng, tissue, y, x, r * 0.55)


_LOOKALIKES = {"vessel": _vessel, "fat": _fat, "follicle": _follicle, "hole": _hole, "cuffed_vessel": _cuffed_vessel}


# --- glands ----------------------------------------------------------------------------------------------------

def _row(depth: Array, level: float, spacing: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Points about `spacing` px apart on the contour of `depth` at `level` px."""
    from skimage.measure import find_contours
    points = []
    for line in find_contours(depth, level):
        arc = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        at = np.arange(rng.uniform(0, spacing), arc[-1], spacing)
        at = at + rng.normal(0, 0.12 * spacing, len(at))
        points.append(np.stack([np.interp(at, arc, line[:, 0]), np.interp(at, arc, line[:, 1])], 1))
    both = np.concatenate(points) if points else np.zeros((0, 2))
    return both[:, 0], both[:, 1]


def _paint_gland(rng: np.random.Generator, tissue: Tissue, box: tuple[slice, slice], gland_id: int,
                 plan: Architecture) -> None:
    domain = tissue.instances[box] == gland_id
    malignant = bool((tissue.classes[box][domain] == MALIGNANT).any())
    depth = ndimage.distance_transform_edt(domain).astype(np.float32)
    soft = ndimage.gaussian_filter(depth, 2.0)
    gy, gx = np.gradient(soft)
    inward = np.arctan2(gy, gx)
    thickness = rng.uniform(16, 27) if malignant else rng.uniform(15, 24)
    wavy = soft + rng.uniform(1, 2.5) * smooth_noise(rng, depth.shape, 9)
    lumen = np.clip(wavy - thickness + 0.5, 0, 1) * (depth > 6)
    if malignant and rng.random() < 0.5:  # cribriform: further small lumina
        lumen = np.maximum(lumen, _punched(rng, depth))
    edge = np.clip(depth - 0.2, 0, 1)

    grain = smooth_noise(rng, depth.shape, 3)
    eosin = plan.cytoplasm_eosin * (1 + 0.12 * grain) * rng.uniform(0.9, 1.1)
    hema = plan.cytoplasm_hema * (1 + 0.15 * grain)
    secretion = rng.random()
    content_e = np.clip(0.25 * smooth_noise(rng, depth.shape, 5) - 0.05, 0, 1) * (secretion < 0.5)
    content_h = np.full_like(depth, 0.12 if secretion > 0.75 else 0.0)
    vacuole = np.zeros_like(depth)
    if rng.random() < plan.goblets + 0.1:
        for level in (thickness * 0.62, thickness * 0.85):
            y, x = _row(soft, level, rng.uniform(9, 14), rng)
            keep = rng.random(len(y)) < plan.goblets
            y, x = y[keep], x[keep]
            if len(y):
                stamp(vacuole, y, x, rng.uniform(4, 7, len(y)), rng.uniform(3, 4.6, len(y)),
                      inward[y.astype(int), x.astype(int)], 0.9)
    eosin = eosin * (1 - lumen) + content_e * lumen
    hema = hema * (1 - lumen) + content_h * lumen
    eosin = eosin * (1 - 0.85 * vacuole) + 0.03 * vacuole
    hema = hema * (1 - 0.7 * vacuole) + 0.05 * vacuole

    rows = [(rng.uniform(5, 7), 5.6)]
    if malignant:
        rows += [(level, rng.uniform(6.5, 10)) for level in np.arange(12, thickness * rng.uniform(0.5, 0.95), 6)]
    if soft.max() < thickness:  # cut tangentially: nuclei everywhere
        rows += [(level, 8.0) for level in np.arange(12, soft.max(), 7)]
    nuclei = np.zeros_like(depth)
    for level, spacing in rows:
        y, x = _row(soft, level, spacing, rng)
        n = len(y)
        if not n:
            continue
        y, x = y + rng.normal(0, 1, n), x + rng.normal(0, 1, n)
        iy, ix = np.clip(y.astype(int), 0, depth.shape[0] - 1), np.clip(x.astype(int), 0, depth.shape[1] - 1)
        big = rng.uniform(0.9, 1.35) if malignant else 1.0
        keep = lumen[iy, ix] < 0.5
        stamp(nuclei, y[keep], x[keep], rng.uniform(4.6, 7, n)[keep] * big, rng.uniform(2.3, 3.1, n)[keep] * big,
              (inward[iy, ix] + rng.normal(0, 0.5 if malignant else 0.15, n))[keep],
              rng.uniform(0.65, 1.15, n)[keep], rng.uniform(0, 0.45 if malignant else 0.2, n)[keep])
    hema = np.maximum(hema, nuclei * edge)
    eosin = eosin * (1 - 0.4 * np.clip(nuclei, 0, 1))
    for stain, amount in ((tissue.hema, hema), (tissue.eosin, eosin)):
        stain[box] = np.where(domain, stain[box] * (1 - edge) + amount * edge, stain[box])


def _punched(rng: np.random.Generator, depth: Array) -> Array:
    """Round secondary lumina (0..1) well inside the gland."""
    holes = np.zeros_like(depth)
    y, x = np.nonzero(depth > 14)
    if len(y):
        pick = rng.integers(0, len(y), int(rng.integers(2, 7)))
        n = len(pick)
        stamp(holes, y[pick], x[pick], rng.uniform(4, 10, n), rng.uniform(4, 8, n), rng.uniform(0, 3, n), 1.0)
    return holes


def _crop(tissue: Tissue) -> Tissue:
    window = np.s_[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
    return Tissue(*(np.ascontiguousarray(a[window]) for a in
                    (tissue.hema, tissue.eosin, tissue.blood, tissue.instances, tissue.classes)))
