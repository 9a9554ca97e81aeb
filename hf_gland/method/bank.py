"""The pseudo-mask bank: the teacher's probabilities for every training image, uint8 and memory-mapped.

A refresh writes a new file beside the old one and renames it when it is whole, so a reader never sees half of one and
a checkpoint can keep the one it was trained with. uint8 holds probabilities to 1/510.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def quantise(probabilities: Tensor) -> np.ndarray:
    """float [..] in [0, 1] to uint8, 255 = 1."""
    return (probabilities.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def dequantise(stored: Tensor) -> Tensor:
    """uint8 to float32 in [0, 1]."""
    return stored.float() / 255


def allocate(path: Path, num_bytes: int) -> None:
    """Create `path` filled with zeros; raises OSError where the disk has no room, not later on a write."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        try:
            if num_bytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:
                file.truncate(num_bytes)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror} (the pseudo-masks take {num_bytes / 1e6:.1f} MB)",
                          str(path)) from error


def fill(arrays: Callable[[int], np.ndarray], indices: Iterable[int],
         predict: Callable[[int], Tensor], num_classes: int) -> np.ndarray:
    """Write predict(i) (float [C, H, W]) into arrays(i) for each index.

    A pixel whose probabilities are all 0 is one the teacher has no opinion on. Returns int64 [C, 256]: per class that
    the teacher gives a pixel to, how many by confidence in 1/255; pixels without an opinion are not counted.
    """
    histograms = np.zeros((num_classes, 256), np.int64)
    for index in indices:
        stored = quantise(predict(index))
        arrays(index)[:] = stored
        joint = stored.argmax(axis=0).astype(np.int64) * 256 + stored.max(axis=0)
        histograms += np.bincount(joint[stored.any(axis=0)], minlength=num_classes * 256).reshape(num_classes, 256)
    return histograms
