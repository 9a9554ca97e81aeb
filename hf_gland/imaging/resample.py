"""Pictures and probabilities at another size; training and prediction do it alike."""

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor


def resample_image(rgb: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] resampled to `hw`, antialiased (Lanczos)."""
    if rgb.shape[:2] == hw:
        return rgb
    return np.array(Image.fromarray(rgb).resize(hw[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0))


def resample_labels(labels: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """Class numbers uint8 or gland ids int32 [H, W] resampled to `hw`: each pixel takes the number of the nearest."""
    if labels.shape == hw:
        return labels
    return np.array(Image.fromarray(labels).resize(hw[::-1], Image.Resampling.NEAREST))


def resample_probabilities(probabilities: Tensor, hw: tuple[int, int]) -> Tensor:
    """float32 [C, H, W] resampled to `hw` bilinearly, antialiased; still sums to 1 over the classes."""
    if tuple(probabilities.shape[1:]) == hw:
        return probabilities
    return F.interpolate(probabilities[None], hw, mode="bilinear", align_corners=False, antialias=True)[0]
