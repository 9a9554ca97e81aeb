"""What the student learns from: ground truth where there is some, the teacher where it is sure, nothing elsewhere."""

import torch
from torch import Tensor

from hf_gland.labels import IGNORE_INDEX


def confident_labels(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """The teacher's labels where it is sure.

    probabilities: float [B, C, H, W]; thresholds: float [C], one per class.
    Returns int64 [B, H, W]: argmax where max > threshold of that class, IGNORE_INDEX elsewhere.
    """
    confidence, label = probabilities.max(dim=1)
    return torch.where(confidence > thresholds.to(confidence)[label], label, IGNORE_INDEX)


def fuse(truth: Tensor, pseudo: Tensor) -> Tensor:
    """M(x) = truth(x) where it is labelled, else pseudo(x). Both integer [B, H, W] with IGNORE_INDEX."""
    return torch.where(truth != IGNORE_INDEX, truth.long(), pseudo.long())
