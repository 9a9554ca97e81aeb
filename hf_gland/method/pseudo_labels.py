"""Pseudo-labels: what the teacher says of every training image, kept from one refresh to the next.

The bank holds the teacher's probabilities for all images, uint8 and memory-mapped, so that a student's step costs what a
supervised step costs. A refresh writes a new file beside the old one and renames it when it is whole, so a reader never
sees half of one and a checkpoint can keep the one it was trained with. uint8 holds probabilities to 1/510.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from hf_gland.config import Method
from hf_gland.flat_arrays import FlatArrays
from hf_gland.method import schedules
from hf_gland.method.veto import contradicted


class PseudoLabels:
    """The bank of a run, the annotator's veto on it, and the thresholds that follow from it.

    folder: where the bank's files are; sizes: (height, width) of each image; class_weights: float [C], what a labelled
    pixel of each class counts in the veto; sparse(i): the annotator's labels of image i, uint8 [H, W].
    """

    def __init__(self, method: Method, folder: Path, sizes: Sequence[tuple[int, int]], class_weights: np.ndarray,
                 sparse: Callable[[int], np.ndarray]):
        self.method, self.folder, self.sizes = method, folder, list(sizes)
        self.class_weights, self.sparse = class_weights, sparse
        self.outputs = len(class_weights) + method.has_border
        self.path: Path | None = None  # the bank in use
        self.histograms: np.ndarray | None = None  # its confidences, int64 [C, 256], as `fill` counts them

    @property
    def num_bytes(self) -> int:
        """Size of the bank's file."""
        return self.outputs * sum(height * width for height, width in self.sizes)

    def lookup(self) -> FlatArrays | None:
        """What the teacher says by image, uint8 [C, H, W] each, the border of glands after the C classes if the run learns
        it; None before the first refresh."""
        return None if self.path is None else FlatArrays(self.path, self.outputs, self.sizes)

    def thresholds(self, progress: float) -> tuple[float, ...]:
        """τ per class at this progress (0 to 1) of the refined steps."""
        method, num_classes = self.method, len(self.class_weights)
        widening = progress if method.progressive else 0.0
        if not method.confidence_filter:
            return (0.0,) * num_classes
        if method.threshold.kind == "adaptive" and self.histograms is not None:
            share = schedules.anneal(widening, method.threshold.share_start, method.threshold.share_end, "linear")
            return tuple(schedules.quantile_thresholds(self.histograms, share, floor=0.5).tolist())
        shape = "linear" if method.threshold.kind == "linear" else "cosine"
        return (schedules.anneal(widening, method.threshold.start, method.threshold.end, shape),) * num_classes

    def refresh(self, step: int, predict: Callable[[int], Tensor], accelerator: Accelerator) -> None:
        """Make the bank anew before `step`. `predict(i)`: what the teacher says of image i, float [outputs, H, W].

        Each process does its share; all must see the same file system, and all end with the same bank and histograms.
        What lies in a region that the annotator contradicts is written as 0: there the teacher has no opinion.
        """
        path = self.folder / f"step-{step:06d}.u8"
        part = path.with_suffix(".part")
        if accelerator.is_main_process:
            allocate(part, self.num_bytes)
        accelerator.wait_for_everyone()
        arrays = FlatArrays(part, self.outputs, self.sizes, "r+")
        mine = range(accelerator.process_index, len(self.sizes), accelerator.num_processes)
        shown = tqdm(mine, desc="refreshing pseudo-labels", unit="image", leave=False,
                     disable=not accelerator.is_local_main_process)
        histograms = fill(arrays.__getitem__, shown, lambda index: self._opinion(index, predict), len(self.class_weights))
        arrays.flat.flush()
        accelerator.wait_for_everyone()
        old, self.path = self.path, path
        if accelerator.is_main_process:
            os.replace(part, path)
            if old not in (None, path):
                old.unlink()
        accelerator.wait_for_everyone()
        self.histograms = accelerator.reduce(torch.from_numpy(histograms).to(accelerator.device)).cpu().numpy()

    def _opinion(self, index: int, predict: Callable[[int], Tensor]) -> Tensor:
        probabilities = predict(index).cpu()
        if self.method.has_veto:
            classes = probabilities[:len(self.class_weights)]
            refuted = contradicted(classes.numpy(), self.sparse(index), self.class_weights)
            probabilities[:, torch.from_numpy(refuted)] = 0
        return probabilities


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
            raise OSError(error.errno, f"{error.strerror} (the pseudo-labels take {num_bytes / 1e6:.1f} MB)",
                          str(path)) from error


def fill(arrays: Callable[[int], np.ndarray], indices: Iterable[int],
         predict: Callable[[int], Tensor], num_classes: int) -> np.ndarray:
    """Write predict(i) (float [C or more, H, W]) into arrays(i) for each index; the first C are the classes'.

    A pixel whose class probabilities are all 0 is one the teacher has no opinion on. Returns int64 [C, 256]: per class that
    the teacher gives a pixel to, how many by confidence in 1/255; pixels without an opinion are not counted.
    """
    histograms = np.zeros((num_classes, 256), np.int64)
    for index in indices:
        stored = quantise(predict(index))
        arrays(index)[:] = stored
        stored = stored[:num_classes]
        joint = stored.argmax(axis=0).astype(np.int64) * 256 + stored.max(axis=0)
        histograms += np.bincount(joint[stored.any(axis=0)], minlength=num_classes * 256).reshape(num_classes, 256)
    return histograms
