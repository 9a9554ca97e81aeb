"""The loss of a step, and its parts, on labelled pixels only.

Each part is a sum and the number it is to be divided by, so that processes which hold parts of one batch can add up both
and get the loss of the whole batch. What lies under IGNORE_INDEX has no influence on value or gradient; where nothing is
labelled the sum is 0 and still carries a gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_gland.config import Method
from hf_gland.labels import BACKGROUND, IGNORE_INDEX
from hf_gland.method.schedules import StepValues
from hf_gland.method.targets import Targets, fuse


@dataclass(frozen=True)
class Terms:
    """Which pixels a loss sums over, and how its terms are weighed."""

    on_union: bool  # CE and Dice on labels and pseudo-labels together, instead of on labels alone
    pseudo: Literal["", "labels", "probabilities"]  # a term of its own: CE on pseudo-labels, squared difference, or none


# The paper's loss is "joint"; "consistency" is Mean Teacher (Tarvainen and Valpola 2017).
LOSSES = {"separate": Terms(False, "labels"), "joint": Terms(True, ""), "consistency": Terms(False, "probabilities")}


def step_loss(logits: Tensor, target: Targets, values: StepValues, method: Method, total: Callable[[Tensor], Tensor],
              class_weights: Tensor | None = None, border: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one micro-batch, and its parts (ce, dice, pseudo, border) before they are weighed.

    separate:     CE(labelled) + λ·Dice(labelled) + w·CE(pseudo-labels outside labelled)
    joint:        CE(fused) + λ·Dice(fused)
    consistency:  CE(labelled) + λ·Dice(labelled) + w·‖p_S − p_T‖²

    λ is `dice_weight`, w the step's pseudo_weight. `class_weights`, float [C], weigh the pixels of the first CE; they are
    raised to the step's class_weighting, so that 0 makes all of them 1. While the step's unlabelled_weight is above 0,
    the first CE also takes unlabelled pixels for background, with that weight: those without a pseudo-label in images
    that an annotator saw. `border`: logits of P(border | gland), float [B, H, W]; adds border_weight · `border_loss`.
    Each term is a mean over the whole batch: `total` adds a count up over all processes.
    """
    terms = LOSSES[method.loss]
    firm = target.fused if terms.on_union else target.labelled
    ce_target, weight = firm, None
    if class_weights is not None and values.class_weighting > 0:
        weight = (class_weights ** values.class_weighting)[firm.masked_fill(firm == IGNORE_INDEX, BACKGROUND)]
    if values.unlabelled_weight > 0:
        weight = torch.where(firm != IGNORE_INDEX, 1.0 if weight is None else weight, values.unlabelled_weight)
        unlabelled = target.fused == IGNORE_INDEX
        if target.annotated is not None:
            unlabelled = unlabelled & target.annotated[:, None, None]
        ce_target = fuse(firm, torch.where(unlabelled, BACKGROUND, IGNORE_INDEX))
    parts = {"ce": cross_entropy_sum(logits, ce_target, weight), "dice": dice_sum(logits, firm)}
    weights = {"ce": 1.0, "dice": method.dice_weight, "pseudo": values.pseudo_weight}
    if values.pseudo_weight > 0 and terms.pseudo == "labels":
        outside = torch.where(target.labelled == IGNORE_INDEX, target.pseudo, IGNORE_INDEX)
        parts["pseudo"] = cross_entropy_sum(logits, outside)
    elif values.pseudo_weight > 0 and terms.pseudo == "probabilities" and target.teacher is not None:
        parts["pseudo"] = squared_difference_sum(logits, target.teacher)
    means = {name: mean_over((summed, total(count))) for name, (summed, count) in parts.items()}
    if border is not None and target.border is not None:
        means["border"], weights["border"] = border_loss(border, target.border, values, method, total), method.border_weight
    loss = torch.stack([weights[name] * mean for name, mean in means.items()]).sum()
    return loss, {name: mean.detach() for name, mean in means.items()}


def border_loss(logits: Tensor, asked: Targets, values: StepValues, method: Method,
                total: Callable[[Tensor], Tensor]) -> Tensor:
    """Binary cross-entropy of P(border | gland), logits float [B, H, W]: CE(labelled) + w·CE(teacher's), or CE(fused) where
    the classes' loss is "joint"."""
    joint = LOSSES[method.loss].on_union
    terms = [(1.0, asked.fused if joint else asked.labelled)]
    if not joint and values.pseudo_weight > 0:
        terms.append((values.pseudo_weight, torch.where(asked.labelled == IGNORE_INDEX, asked.pseudo, IGNORE_INDEX)))
    sums = [(weight, *binary_cross_entropy_sum(logits, pixels)) for weight, pixels in terms]
    return torch.stack([weight * mean_over((summed, total(count))) for weight, summed, count in sums]).sum()


def binary_cross_entropy_sum(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy over labelled pixels: (sum, pixel count). logits float, target int64 of 0, 1 and IGNORE_INDEX,
    both [B, H, W]."""
    labelled = target != IGNORE_INDEX
    each = F.binary_cross_entropy_with_logits(logits.float(), target.masked_fill(~labelled, 0).float(), reduction="none")
    return (each * labelled).sum(), labelled.sum().float()


def class_weights(labelled_px: Sequence[int]) -> Tensor:
    """What a labelled pixel of each class counts, float32 [C], so that all background pixels together count as much as
    all gland pixels together. Weighted by how many pixels each class has, their mean is 1.

    `labelled_px`: labelled pixels of each class in all training images. An annotator fills whole glands but strokes
    only lines through the stroma, so that among labelled pixels glands are far more frequent than in tissue, and a
    network that learns those frequencies calls too much a gland. All are 1 where background or glands are not labelled.
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
