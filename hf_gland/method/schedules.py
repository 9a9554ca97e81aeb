"""How τ, α, the weights, the learning rate and the refreshes move: pure functions of training progress."""

import math
from dataclasses import dataclass

import numpy as np

from hf_gland.config import TrainConfig


@dataclass(frozen=True)
class StepValues:
    """What the schedules give for one step."""

    refining: bool  # past warm-up, in a run with a teacher
    progress: float  # of the refined steps, 0 to 1
    ema_decay: float  # α
    pseudo_weight: float
    unlabelled_weight: float  # of an unlabelled pixel taken for background; 0: they count as nothing
    class_weighting: float  # exponent of the class weights; 1: background and glands count the same, 0: pixels do
    learning_rate_factor: float


def step_values(config: TrainConfig, step: int) -> StepValues:
    """The schedules' values at `step` (0-based)."""
    method, optim = config.method, config.optim
    warmup = warmup_steps(optim.steps, method.warmup_fraction)
    refining = method.has_teacher and step >= warmup
    progress = refined_progress(step, warmup, optim.steps)
    warm = 1.0 if warmup == 0 else min(step / warmup, 1.0)
    fading = 1 - ramp(progress, 0.5) if refining else 1.0
    return StepValues(
        refining=refining, progress=progress,
        ema_decay=(ema_decay(step, optim.steps, method.ema_start, method.ema_end,
                             method.warmup_fraction > 0 or not method.has_teacher)
                   if method.ema else 0.0),
        pseudo_weight=method.pseudo_weight * ramp(progress, method.pseudo_ramp) if refining else 0.0,
        unlabelled_weight=(anneal(warm, method.unlabelled_weight, method.unlabelled_weight_end)
                           if method.assumes_background else 0.0),
        class_weighting={"none": 0.0, "constant": 1.0, "fading": fading}[method.class_weighting],
        learning_rate_factor=learning_rate_factor(step, optim.steps, optim.lr_warmup_fraction))


def planned_refreshes(config: TrainConfig) -> tuple[int, ...]:
    """Steps before which the pseudo-labels of all images are made anew; none in a run that keeps no bank."""
    method, steps = config.method, config.optim.steps
    if not method.keeps_bank:
        return ()
    return refresh_steps(warmup_steps(steps, method.warmup_fraction), steps, method.refresh.count,
                         method.refresh.growth if method.progressive else 1.0)


def warmup_steps(steps: int, warmup_fraction: float) -> int:
    """Number of leading steps that use sparse labels alone."""
    return round(steps * warmup_fraction)


def refined_progress(step: int, warmup: int, steps: int) -> float:
    """Progress in [0, 1] of the refined part: 0 at its first step, 1 at the last step of training."""
    return min(max((step - warmup) / max(steps - 1 - warmup, 1), 0.0), 1.0)


def anneal(progress: float, start: float, end: float, shape: str = "cosine") -> float:
    """From `start` at progress 0 to `end` at 1, along half a cosine or a line."""
    share = (1 - math.cos(math.pi * progress)) / 2 if shape == "cosine" else progress
    return start + (end - start) * share


def ema_decay(step: int, steps: int, start: float, end: float, young: bool) -> float:
    """α of the teacher after `step` (0-based): from `start` to `end` along half a cosine; where the run began with an
    untrained head, `young`, at most (1 + t) / (10 + t).

    The bound makes the teacher an average of about the last tenth of the steps there have been. With α = 0.99 alone, a
    fifth of its weight were still that of the random head after 150 steps.
    """
    decay = anneal(step / max(steps - 1, 1), start, end)
    return min(decay, (1 + step) / (10 + step)) if young else decay


def ramp(progress: float, length: float) -> float:
    """Linear rise from 0 to 1 over the first `length` of progress (0: 1 from the start)."""
    return 1.0 if length <= 0 else min(progress / length, 1.0)


def learning_rate_factor(step: int, steps: int, warmup_fraction: float) -> float:
    """Linear warm-up, then (1 - t)^0.9 decay to 0 (the "poly" schedule of SegFormer, arXiv 2105.15203)."""
    warmup = round(steps * warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return (1 - (step - warmup) / max(steps - warmup, 1)) ** 0.9


def refresh_steps(warmup: int, steps: int, refreshes: int, growth: float) -> tuple[int, ...]:
    """Steps before which the pseudo-labels are made anew: the first right after warm-up, each gap `growth` times
    the one before, the last gap ending with training. Distinct and increasing; fewer where steps are too few.
    """
    if warmup >= steps:
        return ()
    edges = np.concatenate([[0.0], np.cumsum(growth ** np.arange(refreshes))])[:-1]
    total = sum(growth**i for i in range(refreshes))
    return tuple(sorted({warmup + int(e / total * (steps - warmup)) for e in edges}))


def quantile_thresholds(confidence_histograms: np.ndarray, share: float, floor: float) -> np.ndarray:
    """Per-class thresholds that let the most confident `share` of the pixels of each class pass.

    The class-balanced curriculum of CBST (Zou et al. 2018, arXiv 1810.07911), from the teacher's own statistics.
    `confidence_histograms`: int64 [C, 256], for each class the count of pixels that the teacher gives to it, by
    confidence in 1/255. Returns float [C]; a pixel passes where its confidence is greater; never below `floor`, and
    `floor` for a class the teacher gives no pixel to.
    """
    thresholds = np.full(len(confidence_histograms), floor)
    for c, counts in enumerate(confidence_histograms):
        if counts.sum():
            at_least = np.cumsum(counts[::-1])[::-1] / counts.sum()
            lowest = int(np.flatnonzero(at_least >= share).max(initial=0))
            thresholds[c] = max(floor, (lowest - 0.5) / 255)
    return thresholds
