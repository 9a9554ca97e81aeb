"""Temperature scaling: one number that makes confidence match accuracy without changing a single label."""

from typing import TypeVar

import numpy as np
import torch
from scipy.optimize import minimize_scalar

from hf_gland.labels import IGNORE_INDEX

Probabilities = TypeVar("Probabilities", np.ndarray, torch.Tensor)

TEMPERATURE_RANGE = (0.05, 20.0)
SMALLEST = 1e-7  # probabilities below are taken as this: float32 softmax gives exact zeros


def apply_temperature(probabilities: Probabilities, temperature: float) -> Probabilities:
    """softmax(log p / T) over the first axis: flatter for T > 1, sharper for T < 1; the order of classes is kept.

    `probabilities`: float array or tensor, 0..1; returned in its own kind, floating type and shape. With
    logits z and p = softmax(z) this is softmax(z / T), since log p and z differ by a constant. Raises
    ValueError unless T > 0.
    """
    if not temperature > 0:
        raise ValueError(f"a temperature must be above 0, got {temperature}")
    if isinstance(probabilities, torch.Tensor):
        return torch.softmax(probabilities.clamp_min(SMALLEST).log() / temperature, 0)
    scaled = np.log(np.maximum(probabilities, SMALLEST)) / temperature
    scaled = np.exp(scaled - scaled.max(0, keepdims=True))
    return (scaled / scaled.sum(0, keepdims=True)).astype(probabilities.dtype)


def sample_pixels(probabilities: np.ndarray, truth: np.ndarray, count: int,
                  rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Up to `count` labelled pixels of one image, without replacement, for `fit_temperature`.

    `probabilities` float [C, H, W]; `truth` uint8 [H, W], 255 unlabelled. Returns probabilities [C, n] and
    classes [n].
    """
    labelled = np.flatnonzero(truth.ravel() != IGNORE_INDEX)
    chosen = rng.choice(labelled, min(count, len(labelled)), replace=False)
    return probabilities.reshape(len(probabilities), -1)[:, chosen], truth.ravel()[chosen]


def fit_temperature(probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature that minimises the negative log-likelihood of held-out pixels (Guo et al., ICML 2017).

    `probabilities` float [C, N]; `truth` integers [N] in 0..C-1 (concatenate the `sample_pixels` of several
    images). The likelihood is log-concave in 1/T, so a bounded scalar search over log T finds its only
    optimum; T is kept within 0.05 to 20. Raises ValueError without pixels.
    """
    if not truth.size:
        raise ValueError("no labelled pixel to fit a temperature on")
    logs = np.log(np.maximum(probabilities.astype(np.float64), SMALLEST))
    of_truth = np.take_along_axis(logs, truth.astype(np.int64)[None], 0)[0]

    def loss(log_temperature: float) -> float:
        beta = np.exp(-log_temperature)
        top = logs.max(0)
        normaliser = np.log(np.exp(beta * (logs - top)).sum(0)) + beta * top
        return float((normaliser - beta * of_truth).mean())

    found = minimize_scalar(loss, bounds=tuple(np.log(TEMPERATURE_RANGE)), method="bounded",
                            options={"xatol": 1e-5})
    return float(np.exp(found.x))
