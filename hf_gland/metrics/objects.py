"""Object metrics of the GlaS challenge: F1 of detection, object Dice, object Hausdorff distance.

Definitions: Sirinukunwattana et al., "Gland segmentation in colon histology images: The GlaS challenge
contest", Medical Image Analysis 35 (2017), and the challenge's own MATLAB code (F1score.m, ObjectDice.m,
ObjectHausdorff.m), which settles what the text leaves open:
- the counterpart of an object is the object of the other map with which it shares the most pixels (of
  several, the one with the lowest id);
- a predicted object is a true positive if it covers more than half of its counterpart's area (the text says
  "at least 50 %", the code `> 0.5`, which leaves at most one true positive per gland);
- an object that overlaps nothing has Dice 0, and its Hausdorff distance is that to the nearest object of the
  other map, nearest by Hausdorff distance;
- the Hausdorff distance is taken over all pixels of the two objects, not over their outlines.

Objects are compared whatever their classes: the challenge knows one, and a benign gland found and called malignant is a
gland found. What the classes are worth, the figures of pixels by class tell.

Over a split the challenge pools: F1 from the counts of all images, object Dice and Hausdorff with each object
weighted by its area among the objects of all images. (Many papers average per-image scores instead; those
are `SplitEvaluator.per_image`.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hf_gland.metrics.bootstrap import bootstrap_intervals
from hf_gland.metrics.hausdorff import ObjectMap, hausdorff_px, nearest_hausdorff_px

INTERVAL_KEYS = ("object_f1", "object_dice", "object_hausdorff")
COUNT_KEYS = ("object_true_positives", "predicted_objects", "true_objects", "object_hausdorff_capped")


@dataclass(frozen=True)
class ObjectMatches:
    """How the objects of one image compare with their counterparts; S predicted objects, G true ones.

    Areas in pixels, int64 [S] and [G]; Dice 0..1 and Hausdorff distances in pixels, float64 [S] and [G]. If
    one map of the image has no object, the distance does not exist and the image's diagonal, the largest
    distance there can be, stands for it: `capped` counts these objects.
    """

    true_positives: int
    predicted_area: np.ndarray
    predicted_dice: np.ndarray
    predicted_hausdorff: np.ndarray
    true_area: np.ndarray
    true_dice: np.ndarray
    true_hausdorff: np.ndarray
    capped: int

    def sums(self) -> np.ndarray:
        """What adds up over images, for `object_scores`: the `COUNT_KEYS`, then area-weighted sums; [10]."""
        s, g = self.predicted_area, self.true_area
        return np.array([self.true_positives, len(s), len(g), self.capped,
                         s.sum(), s @ self.predicted_dice, s @ self.predicted_hausdorff,
                         g.sum(), g @ self.true_dice, g @ self.true_hausdorff], np.float64)


def match_objects(predicted: np.ndarray, truth: np.ndarray) -> ObjectMatches:
    """Compare two maps of object ids, integers [H, W] with 0 = none (ids may have gaps)."""
    if predicted.shape != truth.shape:
        raise ValueError(f"object maps differ in size: {predicted.shape} and {truth.shape}")
    seg, gt = ObjectMap(predicted), ObjectMap(truth)
    width = len(gt) + 1
    shared = np.bincount(seg.labels.ravel() * width + gt.labels.ravel(), minlength=(len(seg) + 1) * width)
    shared = shared.reshape(-1, width)[1:, 1:]  # pixels in common, [S, G]
    diagonal_px = float(np.hypot(*(side - 1 for side in predicted.shape)))
    return ObjectMatches(
        true_positives=int((shared.max(1) > gt.areas[shared.argmax(1)] / 2).sum()) if shared.size else 0,
        predicted_area=seg.areas,
        predicted_dice=_dice(shared, seg.areas, gt.areas),
        predicted_hausdorff=_hausdorff(shared, seg, gt, diagonal_px),
        true_area=gt.areas,
        true_dice=_dice(shared.T, gt.areas, seg.areas),
        true_hausdorff=_hausdorff(shared.T, gt, seg, diagonal_px),
        capped=0 if shared.size else len(seg) + len(gt),
    )


def object_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """The pooled scores of summed `ObjectMatches.sums`, [..., 10]; NaN where undefined.

    object_precision = TP / S, object_recall = TP / G, object_f1 = 2 TP / (S + G), in percent. object_dice
    (percent) and object_hausdorff (pixels) are the mean of two sides, the predicted objects against their
    counterparts and the true ones against theirs, each side the mean over its objects weighted by area.
    Without any object on either side all are undefined. With none on one side, F1 and Dice are 0 and the
    distance is that of the other side alone.
    """
    hits, s, g, _, s_area, s_dice, s_far, g_area, g_dice, g_far = np.moveaxis(np.asarray(sums, float), -1, 0)
    with np.errstate(invalid="ignore"):  # 0 / 0 = NaN marks a side without objects
        either = np.where(s + g > 0, 1.0, np.nan)
        far = np.stack([s_far / s_area, g_far / g_area])
        return {
            "object_f1": 200 * hits / (s + g),
            "object_precision": 100 * hits / s,
            "object_recall": 100 * hits / g,
            "object_dice": 50 * either * (np.nan_to_num(s_dice / s_area) + np.nan_to_num(g_dice / g_area)),
            "object_hausdorff": np.nan_to_num(far).sum(0) / (~np.isnan(far)).sum(0),
        }


def object_metrics(matches: Iterable[ObjectMatches]) -> dict[str, float | int | None]:
    """`object_scores` over all images as plain numbers (None if undefined), and the counts behind them."""
    sums = np.sum([np.zeros(10), *(m.sums() for m in matches)], axis=0)
    scores = {k: None if np.isnan(v) else float(v) for k, v in object_scores(sums).items()}
    return scores | {key: int(count) for key, count in zip(COUNT_KEYS, sums, strict=False)}


def object_intervals(matches: Sequence[ObjectMatches], resamples: int = 1000,
                     seed: int = 0) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals over images of `INTERVAL_KEYS`, [low, high] in their units, or None."""
    def score(sums: np.ndarray) -> dict[str, np.ndarray]:
        scores = object_scores(sums)
        return {key: scores[key] for key in INTERVAL_KEYS}

    return bootstrap_intervals(np.reshape([m.sums() for m in matches], (-1, 10)), score, resamples, seed)


def _dice(shared: np.ndarray, areas: np.ndarray, other_areas: np.ndarray) -> np.ndarray:
    """Dice of every object (row of `shared`) with its counterpart, 0 without one."""
    if not shared.size:
        return np.zeros(len(areas))
    return 2 * shared.max(1) / (areas + other_areas[shared.argmax(1)])


def _hausdorff(shared: np.ndarray, objects: ObjectMap, others: ObjectMap, diagonal_px: float) -> np.ndarray:
    """Hausdorff distance of every object to its counterpart, in pixels."""
    if not shared.size:
        return np.full(len(objects), diagonal_px)
    return np.array([hausdorff_px(objects, i, others, int(row.argmax())) if row.any()
                     else nearest_hausdorff_px(objects, i, others) for i, row in enumerate(shared)])
