"""Losses on labelled pixels only.

Each returns a sum and the number it is to be divided by, so that processes which hold parts of one batch can add up
both and get the loss of the whole batch. What lies under IGNORE_INDEX has no influence on value or gradient; where
nothing is labelled the sum is 0 and still carries a gradient.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_gland.labels import BACKGROUND, IGNORE_INDEX


def balancing_weights(labelled_px: Sequence[int]) -> Tensor:
    """Weights of a pixel by class, float32 [C], under which background and glands count alike; their mean is 1.

    `labelled_px`: labelled pixels of each class in all training images. An annotator fills whole glands but strokes
    only lines through the stroma, so that among labelled pixels glands are far more frequent than in tissue, and a
    network that learns those frequencies calls too much a gland. Where one of both is not labelled at all, 1.
    """
    background, total = labelled_px[BACKGROUND], sum(labelled_px)
    glands = total - background
    weights = torch.ones(len(labelled_px))
    if background and glands:
        weights[:] = total / (2 * glands)
        weights[BACKGROUND] = total / (2 * background)
    return weights


def cross_entropy_sum(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross-entropy over labelled pixels: (sum, weighted pixel count).

    logits float [B, C, H, W]; target int64 [B, H, W] with IGNORE_INDEX; weight float [B, H, W] per pixel, or None for 1.
    """
    per_pixel = F.cross_entropy(logits.float(), target, ignore_index=IGNORE_INDEX, reduction="none")
    labelled = (target != IGNORE_INDEX).float()
    weight = labelled if weight is None else labelled * weight
    return (per_pixel * weight).sum(), weight.sum()


def dice_sum(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Soft Dice loss 1 - 2 Σ p y / (Σ p + Σ y), over each (image, class) pair that has labels: (sum, pair count).

    Sums run over the labelled pixels of one image; a class that an image's labels lack is left out, as is an image
    without labels. Shapes as in `cross_entropy_sum`. (V-Net, Milletari et al. 2016, without the squares.)
    """
    labelled = (target != IGNORE_INDEX)[:, None]
    p = logits.float().softmax(dim=1) * labelled
    y = F.one_hot(target.masked_fill(~labelled[:, 0], 0), logits.shape[1]).movedim(-1, 1) * labelled
    present = y.sum(dim=(2, 3)) > 0
    overlap = (p * y).sum(dim=(2, 3))
    total = p.sum(dim=(2, 3)) + y.sum(dim=(2, 3))
    loss = (1 - 2 * overlap / total.clamp_min(1e-6)) * present
    return loss.sum(), present.sum().float()


def squared_difference_sum(logits: Tensor, probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Squared difference of softmax(logits) and a teacher's probabilities, summed over classes: (sum, pixel count).

    Both float [B, C, H, W]. Pixels outside the image, where the teacher gives 0 to every class, are left out.
    """
    known = probabilities.sum(dim=1) > 0.5
    squares = (logits.float().softmax(dim=1) - probabilities).square().sum(dim=1)
    return (squares * known).sum(), known.float().sum()


def mean_over(sum_and_count: tuple[Tensor, Tensor]) -> Tensor:
    """sum / count, and 0 (with a gradient path) where the count is 0."""
    total, count = sum_and_count
    return total / torch.where(count > 0, count, torch.ones_like(count))
