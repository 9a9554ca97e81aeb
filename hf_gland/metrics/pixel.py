"""Pixel metrics of a split: IoU and Dice from confusion matrices, with bootstrap intervals over images.

Everything is computed from one confusion matrix per image (rows truth, columns prediction), so the pooled
scores, the per-image scores and the resampled intervals cannot disagree about which pixels count. Unlabelled
pixels (255) never enter a matrix. Shares are percentages, 0-100; undefined ones are NaN in arrays, else None.
"""

from collections.abc import Sequence

import numpy as np

from hf_gland.labels import IGNORE_INDEX
from hf_gland.metrics.bootstrap import bootstrap_intervals

Confusions = np.ndarray | Sequence[np.ndarray]


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
    both = np.diagonal(counts, axis1=-2, axis2=-1)
    class_iou, class_dice = _overlap(both, counts.sum(-1), counts.sum(-2))
    gland_iou, gland_dice = _overlap(counts[..., 1:, 1:].sum((-2, -1)), counts[..., 1:, :].sum((-2, -1)),
                                     counts[..., :, 1:].sum((-2, -1)))
    return {"mIoU": _mean_defined(class_iou), "mDice": _mean_defined(class_dice), "gland_iou": gland_iou,
            "gland_dice": gland_dice, "class_iou": class_iou, "class_dice": class_dice}


def pixel_metrics(confusion: np.ndarray) -> dict[str, float | list[float | None] | None]:
    """`pixel_scores` of one matrix [C, C] as plain numbers: None if undefined, per-class scores as lists."""
    return {key: [_or_none(v) for v in value] if value.ndim else _or_none(value)
            for key, value in pixel_scores(confusion).items()}


def image_dice(confusions: Confusions) -> float | None:
    """Mean over images of the gland Dice of each image, in percent; `confusions` [N, C, C].

    An image with no gland pixel in truth and none predicted (or with nothing labelled) has no Dice: it is
    left out of the mean, as an absent class is, rather than counted as perfect. None when no image has one.
    """
    return _or_none(_mean_defined(pixel_scores(np.asarray(confusions))["gland_dice"]))


def pixel_intervals(confusions: Confusions, resamples: int = 1000,
                    seed: int = 0) -> dict[str, list[float] | None]:
    """95 % bootstrap intervals over images, [low, high] in percent, None where there is none.

    Keys: mIoU, mDice, gland_iou, gland_dice (pooled anew in every resample) and image_dice.
    """
    matrices = np.asarray(confusions, np.float64)
    dice = pixel_scores(matrices)["gland_dice"]
    flat = matrices.reshape(len(matrices), -1)
    rows = np.column_stack([flat, np.nan_to_num(dice), ~np.isnan(dice)])

    def score(sums: np.ndarray) -> dict[str, np.ndarray]:
        scores = pixel_scores(sums[:, :-2].reshape(-1, *matrices.shape[1:]))
        with np.errstate(invalid="ignore"):  # no image with a Dice: 0 / 0
            scores["image_dice"] = sums[:, -2] / sums[:, -1]
        return {key: values for key, values in scores.items() if values.ndim == 1}

    return bootstrap_intervals(rows, score, resamples, seed)


def _overlap(both: np.ndarray, true: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = true + predicted
    with np.errstate(invalid="ignore"):  # 0 / 0 = NaN marks an absent class
        return 100 * both / (total - both), 200 * both / total


def _mean_defined(values: np.ndarray) -> np.ndarray:
    defined = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(-1) / defined.sum(-1)


def _or_none(value: np.ndarray | float) -> float | None:
    return None if np.isnan(value) else float(value)
