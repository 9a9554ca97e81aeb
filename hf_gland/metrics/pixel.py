"""Pixel metrics of a split: IoU and Dice from confusion matrices, with bootstrap intervals over images.

Everything is computed from one confusion matrix per image (rows truth, columns prediction), so the pooled
scores, the per-image scores and the resampled intervals cannot disagree about which pixels count. Unlabelled
pixels (255) never enter a matrix. Shares are percentages, 0-100; undefined ones are NaN in arrays, else None.
"""

from collections.abc import Sequence

import numpy as np

from hf_gland.labels import IGNORE_INDEX

INTERVAL_KEYS = ("mIoU", "mDice", "gland_iou", "gland_dice", "image_dice")


def confusion_matrix(prediction: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by true class (rows) and predicted class (columns): int64 [C, C].

    `prediction`: integers of any shape in 0..C-1; `truth`: integers of the same shape in 0..C-1, or 255 where
    nobody labelled: those pixels are left out, whatever is predicted there. Raises ValueError otherwise.
    """
    if prediction.shape != truth.shape:
        raise ValueError(f"prediction and truth differ in size: {prediction.shape} and {truth.shape}")
    labelled = truth != IGNORE_INDEX
    true, predicted = truth[labelled].astype(np.int64), prediction[labelled].astype(np.int64)
    for name, values in (("truth", true), ("prediction", predicted)):
        if values.size and not 0 <= values.min() <= values.max() < num_classes:
            raise ValueError(f"{name} holds classes {values.min()} to {values.max()}; allowed with "
                             f"{num_classes} classes are 0 to {num_classes - 1}")
    counts = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def pixel_scores(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """IoU and Dice of every matrix in `confusions` [..., C, C]; percentages, NaN where undefined.

    With TP, FP, FN the pixel counts of one class: IoU = TP / (TP + FP + FN), Dice = 2 TP / (2 TP + FP + FN).
    `class_iou`, `class_dice` [..., C]: per class. A class without a pixel in truth or prediction is absent:
    NaN, and left out of the means. A class that is predicted but not in the truth scores 0.
    `mIoU`, `mDice` [...]: their means over the classes that are present, background included.
    `gland_iou`, `gland_dice` [...]: all gland classes (1..C-1) merged into one.
    """
    counts = np.asarray(confusions, np.float64)
    true_positive = np.diagonal(counts, axis1=-2, axis2=-1)
    class_iou, class_dice = _overlap(true_positive, counts.sum(-1), counts.sum(-2))
    gland_iou, gland_dice = _overlap(counts[..., 1:, 1:].sum((-2, -1)), counts[..., 1:, :].sum((-2, -1)),
                                     counts[..., :, 1:].sum((-2, -1)))
    return {"mIoU": _mean_defined(class_iou), "mDice": _mean_defined(class_dice), "gland_iou": gland_iou,
            "gland_dice": gland_dice, "class_iou": class_iou, "class_dice": class_dice}


def pixel_metrics(confusion: np.ndarray) -> dict[str, float | list[float | None] | None]:
    """`pixel_scores` of one matrix [C, C] as plain numbers: None if undefined, per-class scores as lists."""
    return {key: [_or_none(v) for v in value] if value.ndim else _or_none(value)
            for key, value in pixel_scores(confusion).items()}


def image_dice(confusions: np.ndarray | Sequence[np.ndarray]) -> float | None:
    """Mean over images of the gland Dice of each image, in percent; `confusions` [N, C, C].

    An image with no gland pixel in truth and none predicted (or with nothing labelled) has no Dice: it is
    left out of the mean, as an absent class is, rather than counted as perfect. None when no image has one.
    """
    return _or_none(_mean_defined(pixel_scores(np.asarray(confusions))["gland_dice"]))


def bootstrap_intervals(confusions: np.ndarray | Sequence[np.ndarray], resamples: int = 1000, seed: int = 0,
                        level: float = 0.95) -> dict[str, list[float] | None]:
    """Percentile bootstrap intervals over images of `INTERVAL_KEYS`: {key: [low, high] in percent, or None}.

    Images are drawn with replacement, as many as there are; each draw pools its own pixels (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13). Draws in which a score is undefined are left
    out. The matrices [N, C, C] are put into a fixed order first, so that an interval depends on `seed` but
    not on the order of the images. Fewer than two images have no interval: None.
    """
    matrices = np.asarray(confusions, np.float64)
    n = len(matrices)
    if n < 2:
        return dict.fromkeys(INTERVAL_KEYS)
    flat = matrices.reshape(n, -1)
    flat = flat[np.lexsort(flat.T)]
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    times = np.zeros((resamples, n))  # how often each resample holds each image
    np.add.at(times, (np.arange(resamples)[:, None], drawn), 1)
    scores = pixel_scores((times @ flat).reshape(resamples, *matrices.shape[1:]))
    dice = pixel_scores(flat.reshape(matrices.shape))["gland_dice"]
    defined = times * ~np.isnan(dice)
    with np.errstate(invalid="ignore"):
        scores["image_dice"] = (defined @ np.nan_to_num(dice)) / defined.sum(1)
    tail = 100 * (1 - level) / 2
    return {key: _percentiles(scores[key], tail) for key in INTERVAL_KEYS}


def _overlap(both: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = true + predicted
    with np.errstate(invalid="ignore"):  # 0 / 0 = NaN marks an absent class
        return 100 * both / (total - both), 200 * both / total


def _mean_defined(values: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(-1) / defined.sum(-1)


def _percentiles(values: np.ndarray, tail: float) -> list[float] | None:
    values = values[~np.isnan(values)]
    return [float(v) for v in np.percentile(values, [tail, 100 - tail])] if values.size else None


def _or_none(value: np.ndarray | float) -> float | None:
    return None if np.isnan(value) else float(value)
