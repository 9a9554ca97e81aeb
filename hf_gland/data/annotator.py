"""A simulated annotator, who knows the truth and outlines what is asked for: to compare ways of choosing what to outline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hf_gland.data.sparsify import SparseAnnotation, SparsifyConfig, annotation_rng, left_unlabelled, sparsify
from hf_gland.labels import BACKGROUND, IGNORE_INDEX

Gland = tuple[str, int]  # image id, number of the gland in its `instances`


@dataclass
class Drawn:
    """What was drawn so far: glands in order, and places (image id, left, top, right, bottom) that were no gland and are
    labelled as the stroma they are. Each counts as one mark."""

    glands: list[Gland] = field(default_factory=list)
    stroma: list[tuple[str, int, int, int, int]] = field(default_factory=list)

    @property
    def marks(self) -> int:
        """What it cost."""
        return len(self.glands) + len(self.stroma)


def glands_of(instances: np.ndarray, image_id: str, least_px: int = SparsifyConfig.min_gland_px) -> list[Gland]:
    """The glands of one image that are worth an outline; `instances` [H, W], 0 = none."""
    areas = np.bincount(instances.ravel())
    areas[0] = 0
    return [(image_id, int(number)) for number in np.flatnonzero(areas >= least_px)]


def random_order(glands: Sequence[Gland], seed: int) -> list[Gland]:
    """All glands, shuffled."""
    return [glands[index] for index in np.random.default_rng(seed).permutation(len(glands))]


def spread_order(glands: Sequence[Gland], seed: int) -> list[Gland]:
    """All glands, shuffled so that each image gets one before any gets a second."""
    turns: dict[str, int] = {}
    turned = []
    for place, (image_id, number) in enumerate(random_order(glands, seed)):
        turns[image_id] = turns.get(image_id, 0) + 1
        turned.append((turns[image_id], place, (image_id, number)))
    return [gland for *_, gland in sorted(turned)]


def answer(drawn: Drawn, image_id: str, left: int, top: int, region: np.ndarray, instances: np.ndarray) -> None:
    """Draw what is asked for: the gland that covers most of a place, bool [h, w] with its corner at `left`, `top`, or, where
    there is none that is not outlined, its stroma."""
    height, width = region.shape
    here = np.where(region, instances[top:top + height, left:left + width], 0)
    covered = np.bincount(here.ravel())
    covered[0] = 0
    done = {number for image, number in drawn.glands if image == image_id}
    worth = {number for _, number in glands_of(instances, image_id)}
    found = [number for number in np.argsort(-covered) if covered[number] and number in worth - done]
    if found:
        drawn.glands.append((image_id, int(found[0])))
    else:
        drawn.stroma.append((image_id, left, top, left + width, top + height))


def annotation_of(drawn: Drawn, image_id: str, mask: np.ndarray, instances: np.ndarray, config: SparsifyConfig,
                  seed: int) -> SparseAnnotation:
    """The labels of one image: its outlined glands with the stroma that `config` adds to them, and the places of stroma.

    An image that nothing was drawn on is unlabelled.
    """
    chosen = [number for image, number in drawn.glands if image == image_id]
    places = [box for image, *box in drawn.stroma if image == image_id]
    annotation = sparsify(mask, instances, config, annotation_rng(seed, image_id), chosen)
    if not chosen:
        annotation = left_unlabelled(annotation)
    for left, top, right, bottom in places:
        part = np.s_[top:bottom, left:right]
        annotation.mask[part] = np.where(mask[part] == BACKGROUND, BACKGROUND, annotation.mask[part])
    labelled = float((annotation.mask != IGNORE_INDEX).mean())
    return SparseAnnotation(annotation.mask, annotation.annotated_glands, annotation.total_glands, labelled,
                            (annotation.marks or 0) + len(places))


def curve_area(budgets: Sequence[float], scores: Sequence[float]) -> float:
    """Mean height of the curve through (log budget, score): each doubling of the budget counts the same."""
    x = np.log(budgets)
    return float(np.trapezoid(scores, x) / (x[-1] - x[0])) if len(x) > 1 else float(scores[0])


def budget_marks(budgets: Iterable[float], glands: int) -> list[int]:
    """How many marks each share of all glands is, at least one."""
    return [max(round(share * glands), 1) for share in budgets]


def spread_of(rows: Mapping[str, Sequence[Sequence[float]]],
              budgets: Sequence[float]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over seeds (None: one seed has none) of the area under each curve."""
    areas = {name: [curve_area(budgets, row) for row in seeds] for name, seeds in rows.items()}
    return {name: {"mean": round(float(np.mean(found)), 3),
                   "sd": round(float(np.std(found, ddof=1)), 3) if len(found) > 1 else None}
            for name, found in areas.items()}
