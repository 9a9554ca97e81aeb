"""Where the glands and their look-alikes of one synthetic field lie, before anything is painted.

Lengths are in px at `MPP` µm per pixel, at which a crypt cut across is about 40 to 65 µm wide.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hf_gland.data.sources.synthetic.lookalikes import LOOKALIKES
from hf_gland.data.sources.synthetic.shapes import Array, outline, skeleton

MPP = 0.62
BENIGN, MALIGNANT = 1, 2
MIN_BODY_PX = 500  # area under which a gland is not drawn
SLIVER_PX = 8  # parts of a gland narrower than this are cut off where it meets another


@dataclass(frozen=True)
class Architecture:
    """What distinguishes one field from another; lengths in px, shares 0..1."""

    malignant: bool
    fill: float  # share of the field that glands should cover
    gap_px: float  # least distance between glands; 0: they may press against each other
    radius_px: float
    halo_px: float  # width of the white cleft round shrunken glands; 0: none
    goblets: float  # share of the sites that hold a goblet cell
    cytoplasm_hema: float
    cytoplasm_eosin: float
    nuclear_hema: float


@dataclass(frozen=True)
class Layout:
    """ids int32 [H, W] (0 = no gland), classes uint8 [H, W], and look-alikes as (kind, y, x, radius)."""

    ids: Array
    classes: Array
    lookalikes: list[tuple[str, float, float, float]]


def draw_architecture(rng: np.random.Generator, malignant: bool) -> Architecture:
    """A random architecture of the given grade."""
    return Architecture(
        malignant=malignant,
        fill=rng.uniform(0.3, 0.6),
        gap_px=float(rng.choice([0, 0, 5, 12])),
        radius_px=rng.uniform(32, 50) if malignant else rng.uniform(32, 46),
        halo_px=float(rng.choice([0, 0, 4, 9])),
        goblets=rng.uniform(0, 0.4) if malignant else rng.uniform(0.35, 1.0),
        cytoplasm_hema=rng.uniform(0.10, 0.40) if malignant else rng.uniform(0.06, 0.28),
        cytoplasm_eosin=rng.uniform(0.25, 0.80),
        nuclear_hema=rng.uniform(0.70, 1.15),
    )


def place(rng: np.random.Generator, shape: tuple[int, int], plan: Architecture, glands: bool) -> Layout:
    """Lay out a field: look-alikes are given room first, then glands fill what `plan.fill` asks for.

    The first gland lies in the middle, so a field with `glands` always shows one. A gland that meets another
    keeps the free part of its shape: with `plan.gap_px` 0 the two then touch.
    """
    ids, classes = np.zeros(shape, np.int32), np.zeros(shape, np.uint8)
    blocked = np.zeros(shape, bool)
    lookalikes: list[tuple[str, float, float, float]] = []
    middle = np.zeros(shape, bool)
    while glands and not ids.any():  # a gland too small to show is drawn again
        _add_gland(rng, plan, (shape[0] // 2, shape[1] // 2), ids, classes, blocked, crowding=1.0)
        middle = ids > 0
    per_mpx = rng.uniform(25, 70) if glands else 100
    for _ in range(round(per_mpx * 1e-6 * ids.size)):
        _add_lookalike(rng, lookalikes, blocked, middle)
    for _ in range(int(shape[0] * shape[1] / 3500) if glands else 0):
        if np.count_nonzero(ids) > plan.fill * ids.size:
            break
        centre = (int(rng.integers(shape[0])), int(rng.integers(shape[1])))
        _add_gland(rng, plan, centre, ids, classes, blocked, crowding=0.15 if plan.gap_px == 0 else 0.05)
    return Layout(ids, classes, lookalikes)


def _add_lookalike(rng: np.random.Generator, lookalikes: list[tuple[str, float, float, float]],
                   blocked: Array, middle: Array) -> None:
    """Add one look-alike at random, unless its disc is blocked or meets the gland in the `middle`."""
    weights = np.array([kind.frequency for kind in LOOKALIKES.values()])
    kind = str(rng.choice(list(LOOKALIKES), p=weights / weights.sum()))
    r = float(rng.uniform(*LOOKALIKES[kind].radius_px))
    y, x = (float(rng.uniform(0, n)) for n in blocked.shape)
    yy, xx = np.ogrid[: blocked.shape[0], : blocked.shape[1]]
    room = (yy - y) ** 2 + (xx - x) ** 2 < (r + 6) ** 2
    if not (room & (blocked | middle)).any():
        blocked |= room
        lookalikes.append((kind, y, x, r))


def _add_gland(rng: np.random.Generator, plan: Architecture, centre: tuple[int, int], ids: Array,
               classes: Array, blocked: Array, crowding: float) -> None:
    """Add one gland at `centre`, unless more than the share `crowding` of its shape is blocked already."""
    malignant = plan.malignant and rng.random() > 0.12
    filled, y0, x0 = _gland_shape(rng, plan.radius_px, malignant)
    top, left = centre[0] + y0, centre[1] + x0
    box = (slice(max(top, 0), max(min(top + filled.shape[0], ids.shape[0]), 0)),
           slice(max(left, 0), max(min(left + filled.shape[1], ids.shape[1]), 0)))
    filled = filled[box[0].start - top:box[0].stop - top, box[1].start - left:box[1].stop - left]
    if np.count_nonzero(filled & blocked[box]) > crowding * np.count_nonzero(filled):
        return
    core = ndimage.distance_transform_edt(filled & ~blocked[box]) > SLIVER_PX / 2
    if not core.any():
        return
    free = ndimage.distance_transform_edt(~core) <= SLIVER_PX / 2
    parts, _ = ndimage.label(free)
    body = parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])
    if np.count_nonzero(body) < MIN_BODY_PX:
        return
    ids[box][body] = ids.max() + 1
    classes[box][body] = MALIGNANT if malignant else BENIGN
    reach = int(plan.gap_px) + 1
    wide = (slice(max(box[0].start - reach, 0), box[0].stop + reach),
            slice(max(box[1].start - reach, 0), box[1].stop + reach))
    near = ndimage.distance_transform_edt(ids[wide] != ids.max()) <= plan.gap_px
    blocked[wide] |= near


def _gland_shape(rng: np.random.Generator, radius_px: float, malignant: bool) -> tuple[Array, int, int]:
    if malignant:
        r = radius_px * rng.uniform(0.4, 1.25)
        axis = skeleton(rng, r * rng.uniform(0.2, 3.0), r * rng.uniform(0.6, 0.95), rng.uniform(-2.5, 2.5),
                        waist=0.3, branches=int(rng.integers(0, 4)))
        return outline(rng, axis, rng.uniform(2, 6), rng.uniform(10, 30))
    r = radius_px * rng.uniform(0.65, 1.25)
    if rng.random() < 0.6:  # cut across
        axis = skeleton(rng, r * rng.uniform(0, 0.6), r, 0, 0.05)
    else:  # cut lengthwise
        axis = skeleton(rng, r * rng.uniform(1.5, 4.0), r * rng.uniform(0.6, 0.8), rng.uniform(-1.2, 1.2),
                        waist=0.12)
    return outline(rng, axis, rng.uniform(0.8, 2.5), 30)
