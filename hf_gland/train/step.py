"""One training step: what the schedules say, what the student learns from, and the loss."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hf_gland.config import TrainConfig
from hf_gland.labels import BACKGROUND, IGNORE_INDEX
from hf_gland.method import schedules
from hf_gland.method.fusion import confident_labels, fuse
from hf_gland.method.losses import cross_entropy_sum, dice_sum, mean_over, squared_difference_sum


@dataclass(frozen=True)
class StepValues:
    """What the schedules give for one step."""

    refining: bool  # past warm-up, in refined mode
    thresholds: tuple[float, ...]  # τ per class
    ema_decay: float  # α
    pseudo_weight: float
    assumed_weight: float
    balance: float  # 1: classes count alike, 0: pixels do
    learning_rate_factor: float


def step_values(config: TrainConfig, step: int, num_classes: int, histograms: np.ndarray | None) -> StepValues:
    """The schedules' values at `step` (0-based). `histograms`: the bank's confidences, for the adaptive threshold."""
    method, optim = config.method, config.optim
    warmup = schedules.warmup_steps(optim.steps, method.warmup_fraction)
    refining = method.mode == "refined" and step >= warmup
    progress = schedules.refined_progress(step, warmup, optim.steps)
    widening = progress if method.progressive else 0.0
    if not method.confidence_filter:
        thresholds = np.zeros(num_classes)
    elif method.threshold.kind == "adaptive" and histograms is not None:
        share = schedules.anneal(widening, method.threshold.share_start, method.threshold.share_end, "linear")
        thresholds = schedules.quantile_thresholds(histograms, share, floor=0.5)
    else:
        shape = "linear" if method.threshold.kind == "linear" else "cosine"
        tau = schedules.anneal(widening, method.threshold.start, method.threshold.end, shape)
        thresholds = np.full(num_classes, tau)
    fading = 1.0 if warmup == 0 else min(step / warmup, 1.0)
    return StepValues(
        refining=refining,
        thresholds=tuple(float(t) for t in thresholds),
        ema_decay=schedules.anneal(step / max(optim.steps - 1, 1), method.ema_start, method.ema_end) if method.ema else 0.0,
        pseudo_weight=method.pseudo_weight * schedules.ramp(progress, method.pseudo_ramp) if refining else 0.0,
        assumed_weight=(schedules.anneal(fading, method.unlabelled_weight, method.unlabelled_weight_end)
                        if method.unlabelled == "assume" and method.mode != "full" else 0.0),
        balance={"none": 0.0, "constant": 1.0,
                 "fading": 1 - schedules.ramp(progress, 0.5) if refining else 1.0}[method.class_weighting],
        learning_rate_factor=schedules.learning_rate_factor(step, optim.steps, optim.lr_warmup_fraction),
    )


@dataclass(frozen=True)
class Supervision:
    """What the student is asked to say, integer [B, H, W] each, IGNORE_INDEX where nothing is asked."""

    truth: Tensor  # from the annotator
    pseudo: Tensor  # from the teacher, wherever it is sure
    fused: Tensor  # truth where there is some, else pseudo
    annotated: Tensor | None = None  # bool [B]: images that an annotator saw (None: all); others assume nothing
    teacher: Tensor | None = None  # its probabilities, float [B, C, H, W]


def supervision(sparse: Tensor, teacher: Tensor | None, values: StepValues, config: TrainConfig,
                annotated: Tensor | None = None) -> Supervision:
    """Combine sparse labels (uint8 [B, H, W]) with the teacher's probabilities (float [B, C, H, W], or None)."""
    truth = sparse.long()
    if not values.refining or teacher is None:
        nothing = torch.full_like(truth, IGNORE_INDEX)
        return Supervision(truth, nothing, truth, annotated, teacher)
    pseudo = confident_labels(teacher, torch.tensor(values.thresholds, device=teacher.device))
    if not config.method.fusion:
        truth = torch.full_like(truth, IGNORE_INDEX)
    return Supervision(truth, pseudo, fuse(truth, pseudo), annotated, teacher)


def step_loss(logits: Tensor, target: Supervision, values: StepValues, config: TrainConfig,
              total: Callable[[Tensor], Tensor], class_weights: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one micro-batch and its parts. `total` adds a count up over all processes; `class_weights`, float [C]
    (None: 1), to the power of the step's `balance`, weigh the firm pixels of the CE, those of truth (joint: of the fused
    mask).

    separate:  CE(truth ∪ assumed) + λ·Dice(truth) + w·CE(pseudo outside truth)
    joint:     CE(fused ∪ assumed) + λ·Dice(fused), the paper's loss
    consistency: CE(truth ∪ assumed) + λ·Dice(truth) + w·‖p_S − p_T‖² (Mean Teacher, Tarvainen and Valpola 2017)
    Assumed pixels are the unlabelled ones of annotated images that have no pseudo-label, taken for background with a
    small weight.
    Every term is divided by its count over the whole global batch.
    """
    firm = target.fused if config.method.loss == "joint" else target.truth
    weight = None
    if class_weights is not None and values.balance > 0:
        weight = (class_weights ** values.balance)[firm.masked_fill(firm == IGNORE_INDEX, BACKGROUND)]
    if values.assumed_weight > 0:
        weight = torch.where(firm != IGNORE_INDEX, 1.0 if weight is None else weight, values.assumed_weight)
        open_pixels = target.fused == IGNORE_INDEX
        if target.annotated is not None:
            open_pixels = open_pixels & target.annotated[:, None, None]
        assumed = torch.where(open_pixels, BACKGROUND, IGNORE_INDEX)
        ce_target = fuse(firm, assumed)
    else:
        ce_target = firm
    parts = {"ce": cross_entropy_sum(logits, ce_target, weight), "dice": dice_sum(logits, firm)}
    weights = {"ce": 1.0, "dice": config.method.dice_weight}
    if config.method.loss == "separate" and values.pseudo_weight > 0:
        outside = torch.where(target.truth == IGNORE_INDEX, target.pseudo, IGNORE_INDEX)
        parts["pseudo"] = cross_entropy_sum(logits, outside)
        weights["pseudo"] = values.pseudo_weight
    if config.method.loss == "consistency" and target.teacher is not None and values.pseudo_weight > 0:
        parts["pseudo"] = squared_difference_sum(logits, target.teacher)
        weights["pseudo"] = values.pseudo_weight
    means = {name: mean_over((summed, total(count))) for name, (summed, count) in parts.items()}
    loss = torch.stack([weights[name] * mean for name, mean in means.items()]).sum()
    return loss, {name: mean.detach() for name, mean in means.items()}
