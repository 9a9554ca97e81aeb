"""One pass over a split, all its metrics: feed images with `update`, read the figures with `compute`."""

from typing import Any

import numpy as np
import torch

from hf_gland.labels import check_mask
from hf_gland.metrics.pixel import bootstrap_intervals, confusion_matrix, image_dice, pixel_metrics

Array = np.ndarray | torch.Tensor


class SplitEvaluator:
    """Accumulates the metrics of one split, image by image.

    `num_classes`: C, background included. `bootstrap`: resamples behind the 95 % intervals (0: no intervals).
    """

    def __init__(self, num_classes: int, *, bootstrap: int = 1000, seed: int = 0) -> None:
        self.num_classes = num_classes
        self.bootstrap = bootstrap
        self.seed = seed
        self._image_ids: list[str] = []
        self._confusions: list[np.ndarray] = []

    def update(self, probabilities: Array, truth: Array, instances: Array | None = None,
               image_id: str | None = None) -> None:
        """Add one image.

        `probabilities`: float [C, H, W] in 0..1 (array or tensor, any device); `truth`: uint8 [H, W], 255
        where unlabelled; `instances`: integers [H, W], 0 = no gland. Raises ValueError naming the image.
        """
        name = image_id or f"image {len(self._image_ids)}"
        probs, mask = _numpy(probabilities), _numpy(truth)
        check_mask(mask, self.num_classes, name)
        if probs.shape != (self.num_classes, *mask.shape):
            raise ValueError(f"{name}: probabilities must be {[self.num_classes, *mask.shape]} to match the "
                             f"truth, got {list(probs.shape)}")
        if not np.isfinite(probs).all() or probs.min() < 0 or probs.max() > 1 + 1e-4:
            raise ValueError(f"{name}: probabilities must be finite and between 0 and 1; pass softmax output")
        self._image_ids.append(name)
        self._confusions.append(confusion_matrix(probs.argmax(0), mask, self.num_classes))

    def compute(self) -> dict[str, Any]:
        """The metrics of the images seen so far."""
        confusions = np.stack(self._confusions)
        metrics: dict[str, Any] = dict(pixel_metrics(confusions.sum(0)))
        metrics["image_dice"] = image_dice(confusions)
        if self.bootstrap:
            intervals = bootstrap_intervals(confusions, self.bootstrap, self.seed)
            metrics |= {f"{key}_ci95": interval for key, interval in intervals.items()}
        metrics["images"] = len(confusions)
        return metrics


def _numpy(values: Array) -> np.ndarray:
    return values.detach().cpu().numpy() if isinstance(values, torch.Tensor) else np.asarray(values)
