"""From a dense mask to what a busy pathologist would have drawn. Pure and seeded, for any number of classes.

Whatever the style, a labelled pixel carries the dense mask's own value, and a pixel that the dense mask leaves
unlabelled (255) stays unlabelled.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from hf_gland.data.strokes import depth_inside, dot, free_path, skeleton_path, thicken
from hf_gland.instances import gland_instances
from hf_gland.labels import BACKGROUND, IGNORE_INDEX

STYLES = ("glands", "points", "scribbles", "roi", "images", "full")
BACKGROUNDS = ("rim+scribble", "rim", "scribble", "none")
ROI_ATTEMPTS = 64
SPREAD = 6  # stroke widths between one stroma stroke and the next, where there is room


@dataclass(frozen=True)
class SparsifyConfig:
    """How much is annotated, and how. Lengths are px of the image; the defaults suit about 0.6 µm per pixel.

    style       glands: whole glands, pixel-exact; points: a dot in each chosen gland; scribbles: a stroke along the
                middle of each chosen gland; roi: one fully labelled rectangle; images: some images
                wholly, which ones `outlined_images` says, and nothing of the others; full: everything.
    budget      a float in (0, 1] is the share of each image's glands that is chosen, rounded up; an int >= 1 their
                number. For `roi` a float: the rectangle's share of the image area. For `images` the share of a split's
                images, rounded up, or their number. Not used by `full`.
    background  how stroma is labelled. `glands`: `rim`, the stroma within rim_px of a chosen gland, and `scribble`,
                `strokes` free strokes; an image without a gland gets strokes whichever is asked for. `points` and
                `scribbles`: anything but `none` gives as many dots as glands (at least one), or `strokes` strokes.
                `none`: no stroma at all. Not used by `roi`, `images` and `full`.
    stroke_px, point_px   width of strokes, diameter of dots.
    stroke_length         of a stroma stroke, as a share of the image's shorter side.
    min_gland_px          smaller instances are specks left by an annotation tool: never drawn, never counted.
    """

    style: str = "glands"
    budget: float | int = 0.2
    background: str = "rim+scribble"
    rim_px: float = 10.0
    stroke_px: float = 7.0
    strokes: int = 3
    stroke_length: float = 0.25
    point_px: float = 9.0
    min_gland_px: int = 30

    def __post_init__(self) -> None:
        if self.style not in STYLES:
            raise ValueError(f"style must be one of {', '.join(STYLES)}; got '{self.style}'")
        if self.background not in BACKGROUNDS:
            raise ValueError(f"background must be one of {', '.join(BACKGROUNDS)}; got '{self.background}'")
        count = isinstance(self.budget, int) and not isinstance(self.budget, bool) and self.budget >= 1
        share = isinstance(self.budget, float) and 0 < self.budget <= 1
        if not (count or share):
            raise ValueError("budget must be a share in (0, 1] such as 0.2 or 1.0, or a whole number of glands >= 1; "
                             f"got {self.budget!r}")
        if self.style == "roi" and not share:
            raise ValueError(f"budget of style roi is a share of the image area in (0, 1]; got {self.budget!r}")
        for name, low, high in (("rim_px", 1, 1000), ("stroke_px", 1, 1000), ("point_px", 1, 1000),
                                ("strokes", 1, 1000), ("stroke_length", 0.01, 10), ("min_gland_px", 1, 10**9)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"{name} must lie between {low} and {high}; got {getattr(self, name)}")


@dataclass(frozen=True)
class SparseAnnotation:
    """What was drawn. mask uint8 [H, W]: the dense truth where labelled, 255 elsewhere.

    annotated_glands: glands with a labelled pixel, of total_glands (None: unknown); labelled_fraction: share of all
    pixels, 0-1; marks: outlines, strokes, dots and rectangles drawn, the annotator's effort (a rim follows from its
    outline), None: unknown.
    """

    mask: np.ndarray
    annotated_glands: int
    total_glands: int | None
    labelled_fraction: float
    marks: int | None


def annotation_rng(seed: int, image_id: str) -> np.random.Generator:
    """The random stream of one image: a function of (seed, image_id) alone, whatever the order of images."""
    words = np.frombuffer(hashlib.sha256(image_id.encode()).digest(), "<u4")
    return np.random.default_rng([seed, *words.tolist()])


def outlined_images(patients: Mapping[str, str], budget: float | int, seed: int) -> frozenset[str]:
    """The images that style `images` outlines: of all (image id: patient, "" where unknown) the share or number `budget`.

    Spread over the patients: each gets one before any gets a second. A function of (seed, ids), whatever their order; a
    larger budget keeps the images of a smaller one.
    """
    count = budget if isinstance(budget, int) else math.ceil(budget * len(patients) - 1e-9)

    def lot(kind: str, name: str) -> bytes:
        return hashlib.sha256(f"{seed} {kind} {name}".encode()).digest()

    turns: Counter[str] = Counter()
    order = []
    for image_id in sorted(patients, key=lambda image_id: lot("image", image_id)):
        patient = patients[image_id] or f"of image {image_id}"
        order.append((turns[patient], lot("patient", patient), image_id))
        turns[patient] += 1
    return frozenset(image_id for *_, image_id in sorted(order)[:count])


def left_unlabelled(annotation: "SparseAnnotation") -> "SparseAnnotation":
    """The same image with its glands counted and nothing of it labelled."""
    return replace(annotation, mask=np.full_like(annotation.mask, IGNORE_INDEX), annotated_glands=0, labelled_fraction=0.0,
                   marks=0)


def sparsify(mask: np.ndarray, instances: np.ndarray | None, config: SparsifyConfig,
             rng: np.random.Generator, chosen: Collection[int] | None = None) -> SparseAnnotation:
    """Annotate an image sparsely. `mask` uint8 [H, W] of 0..C-1 and 255; `instances` integers [H, W], 0 = none.

    Without `instances`, connected regions of one class are the glands. Budgets are nested: with the same
    generator state, a larger one labels everything that a smaller one does (styles glands and scribbles). Style `images`
    gives what an image gets that is outlined. `chosen`: ids of the glands that are drawn, whatever the budget says.
    """
    tissue = (mask != BACKGROUND) & (mask != IGNORE_INDEX)
    ids = np.where(tissue, gland_instances(mask) if instances is None else instances, 0)
    areas = np.bincount(ids.ravel())
    glands = np.flatnonzero(areas >= config.min_gland_px)
    glands = glands[glands > 0]
    if chosen is not None:
        config = replace(config, budget=max(len(chosen), 1))
    drawn, marks = _draw(mask == BACKGROUND, ids, glands if chosen is None else np.array(sorted(chosen), int), config, rng)
    labelled = drawn & (mask != IGNORE_INDEX)
    sparse = np.where(labelled, mask, IGNORE_INDEX).astype(np.uint8)
    annotated = int(np.isin(glands, ids[labelled]).sum())
    return SparseAnnotation(sparse, annotated, len(glands), float(labelled.mean()), marks)


def as_drawn(sparse_mask: np.ndarray, mask: np.ndarray | None, instances: np.ndarray | None) -> SparseAnnotation:
    """What somebody really drew, counted: `sparse_mask` uint8 [H, W], 255 = unlabelled.

    Glands are those of the dense `mask` and `instances` as far as they are known, else the connected regions drawn.
    """
    drawn = (sparse_mask != BACKGROUND) & (sparse_mask != IGNORE_INDEX)
    truth = instances if instances is not None else gland_instances(sparse_mask if mask is None else mask)
    total = None if mask is None and instances is None else len(np.setdiff1d(truth, 0))
    return SparseAnnotation(sparse_mask, len(np.setdiff1d(truth[drawn], 0)), total,
                            float((sparse_mask != IGNORE_INDEX).mean()), None)


def _draw(stroma: np.ndarray, ids: np.ndarray, glands: np.ndarray, config: SparsifyConfig,
          rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """bool [H, W] of what the annotator covers, and the number of marks."""
    if config.style in ("images", "full"):
        return np.ones(ids.shape, bool), len(glands)
    if config.style == "roi":
        return _rectangle(stroma, np.isin(ids, glands), config.budget, rng), 1
    count = config.budget if isinstance(config.budget, int) else math.ceil(config.budget * len(glands) - 1e-9)
    order = rng.permutation(glands)
    chosen = order[:count]
    # The stroma comes before the dots, so that its strokes do not depend on how many glands are chosen.
    background, background_marks = _stroma_marks(stroma, ids, chosen, config, rng)
    if config.style == "glands":
        return background | np.isin(ids, chosen), background_marks + len(chosen)
    drawn = background
    boxes = ndimage.find_objects(ids, max_label=int(ids.max(initial=0)))
    for gland in chosen:
        box = boxes[gland - 1]
        region = ids[box] == gland
        if config.style == "scribbles":
            drawn[box] |= thicken(skeleton_path(region, rng), region, config.stroke_px)
        else:
            drawn[box] |= thicken(dot(depth_inside(region), math.inf, rng), region, config.point_px)
    return drawn, background_marks + len(chosen)


def _stroma_marks(stroma: np.ndarray, ids: np.ndarray, chosen: np.ndarray, config: SparsifyConfig,
                  rng: np.random.Generator) -> tuple[np.ndarray, int]:
    drawn, marks = np.zeros(stroma.shape, bool), 0
    if config.background == "none" or not stroma.any():
        return drawn, marks
    if config.style == "glands" and "rim" in config.background and len(chosen):
        drawn |= stroma & _within(config.rim_px, np.isin(ids, chosen))
        if "scribble" not in config.background:
            return drawn, marks
    room = _room(stroma)
    if config.style == "points":
        marks = max(len(chosen), 1)
        for _ in range(marks):
            drawn |= thicken(dot(room, config.point_px, rng), stroma, config.point_px)
        return drawn, marks
    strokes = np.zeros(stroma.shape, bool)
    for _ in range(config.strokes):
        # An annotator spreads strokes out: keep clear of those drawn, while that leaves anywhere to go.
        free = np.where(_within(SPREAD * config.stroke_px, strokes), 0, room)
        if free.max() < min(config.stroke_px, room.max()):
            free = room
        path = free_path(free, config.stroke_px, config.stroke_length * min(stroma.shape), rng)
        strokes |= thicken(path, stroma, config.stroke_px)
    return drawn | strokes, config.strokes


def _within(reach_px: float, marks: np.ndarray) -> np.ndarray:
    """bool [H, W]: the pixels within `reach_px` of a marked one. Only the box around the marks is gone through."""
    near = np.zeros(marks.shape, bool)
    if marks.any():
        margin = math.ceil(reach_px)
        box = tuple(slice(max(int(found.min()) - margin, 0), int(found.max()) + margin + 1) for found in marks.nonzero())
        near[box] = ndimage.distance_transform_edt(~marks[box]) <= reach_px
    return near


def _room(region: np.ndarray) -> np.ndarray:
    """Distance of each pixel of a region to its outside, in px; the image border counts as inside."""
    if region.all():
        return np.full(region.shape, float(max(region.shape)))
    return ndimage.distance_transform_edt(region)


def _rectangle(stroma: np.ndarray, gland: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """bool [H, W]: one rectangle of `share` of the area, holding gland and stroma both if chance finds such a place.

    Both sides are √share of the image's, made up to a quarter longer or shorter, as far as the image allows.
    """
    height, width = stroma.shape
    best, best_kinds = np.zeros(stroma.shape, bool), -1
    for _ in range(ROI_ATTEMPTS):
        stretch = math.exp(rng.uniform(-0.22, 0.22))
        rows = min(max(round(height * math.sqrt(share) * stretch), 1), height)
        columns = min(max(round(share * height * width / rows), 1), width)
        rows = min(max(round(share * height * width / columns), 1), height)
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        window = slice(top, top + rows), slice(left, left + columns)
        kinds = int(gland[window].any()) + int(stroma[window].any())
        if kinds > best_kinds:
            best, best_kinds = np.zeros(stroma.shape, bool), kinds
            best[window] = True
        if kinds == 2:
            break
    return best
