"""From a dense mask to what a busy pathologist would have drawn. Pure and seeded, for any number of classes."""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hf_gland.instances import gland_instances
from hf_gland.labels import BACKGROUND, IGNORE_INDEX

STYLES = ("glands", "full")
BACKGROUNDS = ("rim+scribble", "rim", "scribble", "none")


@dataclass(frozen=True)
class SparsifyConfig:
    """How much is annotated, and how. Lengths are in px of the image; defaults suit about 0.6 µm per pixel.

    `budget`: a float in (0, 1] is a share of the glands of each image (rounded up), an int >= 1 a number of glands.
    """

    style: str = "glands"
    budget: float | int = 0.2
    background: str = "rim+scribble"
    rim_px: float = 10.0
    scribble_px: float = 7.0
    strokes: int = 3
    stroke_length: float = 0.25
    min_gland_px: int = 30

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}; got '{self.style}'")
        if self.background not in BACKGROUNDS:
            raise ValueError(f"background must be one of {', '.join(BACKGROUNDS)}; got '{self.background}'")
        if isinstance(self.budget, bool) or not (
                self.budget >= 1 if isinstance(self.budget, int) else 0 < self.budget <= 1):
            raise ValueError(f"budget must be a share in (0, 1] or a whole number of glands >= 1; got {self.budget}")


@dataclass(frozen=True)
class SparseAnnotation:
    """What was drawn. mask uint8 [H, W]: the dense truth where labelled, 255 elsewhere.

    annotated_glands: glands with at least one labelled pixel, of total_glands; labelled_fraction: share of all
    pixels, 0-1.
    """

    mask: np.ndarray
    annotated_glands: int
    total_glands: int
    labelled_fraction: float


def annotation_rng(seed: int, image_id: str) -> np.random.Generator:
    """The random stream of one image: a function of (seed, image_id) alone, so that order does not matter."""
    words = np.frombuffer(hashlib.sha256(image_id.encode()).digest(), "<u4")
    return np.random.default_rng([seed, *words.tolist()])


def sparsify(mask: np.ndarray, instances: np.ndarray | None, config: SparsifyConfig,
             rng: np.random.Generator) -> SparseAnnotation:
    """Annotate an image sparsely. `mask` uint8 [H, W] of 0..C-1 and 255; `instances` integers [H, W] or None."""
    glands_mask = (mask != BACKGROUND) & (mask != IGNORE_INDEX)
    ids = np.where(glands_mask, gland_instances(mask) if instances is None else instances, 0)
    areas = np.bincount(ids.ravel())
    glands = [int(i) for i in np.flatnonzero(areas >= config.min_gland_px) if i]
    drawn = np.zeros(mask.shape, bool)
    if config.style == "full":
        drawn[:] = True
    else:
        count = config.budget if isinstance(config.budget, int) else math.ceil(config.budget * len(glands) - 1e-9)
        chosen = rng.permutation(glands)[:count].astype(int)
        drawn |= np.isin(ids, chosen)
        stroma = mask == BACKGROUND
        if "rim" in config.background and len(chosen):
            drawn |= stroma & (ndimage.distance_transform_edt(~drawn) <= config.rim_px)
        if "scribble" in config.background or (config.background == "rim" and not len(chosen)):
            drawn |= stroma & stroma_strokes(stroma, config, rng)
    sparse = np.where(drawn, mask, IGNORE_INDEX).astype(np.uint8)
    labelled = sparse != IGNORE_INDEX
    annotated = len(np.intersect1d(np.unique(ids[labelled]), glands))
    return SparseAnnotation(sparse, annotated, len(glands), float(labelled.mean()))


def stroma_strokes(stroma: np.ndarray, config: SparsifyConfig, rng: np.random.Generator) -> np.ndarray:
    """bool [H, W]: a few smooth strokes through stroma, kept a stroke's width off the glands where there is room."""
    room = ndimage.distance_transform_edt(stroma)
    line = np.zeros(stroma.shape, bool)
    length_px = config.stroke_length * min(stroma.shape)
    for _ in range(config.strokes):
        tries = [_walk(room, config.scribble_px, length_px, rng) for _ in range(8)]
        path = max(tries, key=len)
        line[path[:, 0], path[:, 1]] = True
    return ndimage.distance_transform_edt(~line) <= config.scribble_px / 2 if line.any() else line


def _walk(room: np.ndarray, width_px: float, length_px: float, rng: np.random.Generator) -> np.ndarray:
    """Pixels int [n, 2] of one smooth path whose every step keeps `width_px` from the nearest gland, if it can."""
    clear = min(width_px, 0.8 * float(room.max(initial=0)))
    starts = np.flatnonzero(room > clear)
    if not len(starts):
        return np.zeros((0, 2), int)
    position = np.array(divmod(int(rng.choice(starts)), room.shape[1]), float)
    heading = rng.uniform(0, 2 * math.pi)
    turn, path = 0.0, [position]
    for _ in range(int(length_px)):
        turn = 0.95 * turn + rng.normal(0, 0.01)
        for swerve in (0.0, 0.15, -0.15, 0.35, -0.35):
            angle = heading + turn + swerve
            ahead = position + (math.sin(angle), math.cos(angle))
            row, column = np.rint(ahead).astype(int)
            if 0 <= row < room.shape[0] and 0 <= column < room.shape[1] and room[row, column] > clear:
                break
        else:
            break
        position, heading = ahead, angle
        path.append(position)
    return np.rint(np.array(path)).astype(int)
