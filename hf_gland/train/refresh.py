"""Whole training images through a network: to make the pseudo-mask bank anew, and to validate."""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from hf_gland.data.schema import decoded
from hf_gland.data.store import FlatArrays, TrainingStore, working_size
from hf_gland.labels import check_mask
from hf_gland.method import bank
from hf_gland.method.veto import contradicted
from hf_gland.metrics.evaluator import SplitEvaluator
from hf_gland.metrics.keys import PIXEL
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import class_probabilities
from hf_gland.model.tiled import tiled_probabilities
from hf_gland.model.whole_picture import picture_probabilities
from hf_gland.options import Tiling


def image_predictor(model: nn.Module, preprocessing: Preprocessing, accelerator: Accelerator,
                    tile_px: int) -> Callable[[np.ndarray], Tensor]:
    """A function from an image (uint8 [3, H, W]) to class probabilities (float32 [C, H, W]): tiled, flip-averaged."""
    def forward(pixel_values: Tensor) -> Tensor:
        # Both views in one batch: on a CPU that is twice as fast as one after the other.
        with accelerator.autocast():
            both = class_probabilities(model, torch.cat([pixel_values, pixel_values.flip(-1)]))
        straight, mirrored = both.chunk(2)
        return (straight + mirrored.flip(-1)) / 2

    def predict(image: np.ndarray) -> Tensor:
        pixels = preprocessing(torch.from_numpy(np.array(image)).to(accelerator.device))
        return tiled_probabilities(forward, pixels, Tiling(tile_px))

    return predict


def refresh_bank(path: Path, store: TrainingStore, teacher: nn.Module, preprocessing: Preprocessing, num_classes: int,
                 accelerator: Accelerator, tile_px: int, veto_weights: np.ndarray | None = None) -> np.ndarray:
    """Write the teacher's probabilities for all of `store` to `path`; each process does its share.

    `veto_weights`: what a labelled pixel of each class counts against a region of another class, float [C]; regions that
    the image's own labels contradict are written as 0 (None: none is, see `refine.veto`).

    All processes must see the same file system. Returns the confidence histograms of the whole bank (see
    `bank.fill`), the same on every process.
    """
    part = path.with_suffix(".part")
    if accelerator.is_main_process:
        bank.allocate(part, num_classes * sum(h * w for h, w in store.sizes))
    accelerator.wait_for_everyone()
    arrays = FlatArrays(part, num_classes, store.sizes, "r+")
    predict = image_predictor(teacher, preprocessing, accelerator, tile_px)

    def opinion(index: int) -> Tensor:
        probabilities = predict(store.images[index]).cpu()
        if veto_weights is not None:
            refuted = contradicted(probabilities.numpy(), store.sparse(index), veto_weights)
            probabilities[:, torch.from_numpy(refuted)] = 0
        return probabilities

    mine = range(accelerator.process_index, len(store), accelerator.num_processes)
    shown = tqdm(mine, desc="refreshing pseudo-masks", unit="image", leave=False,
                 disable=not accelerator.is_local_main_process)
    histograms = bank.fill(arrays.__getitem__, shown, opinion, num_classes)
    arrays.flat.flush()
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        os.replace(part, path)
    accelerator.wait_for_everyone()
    return accelerator.reduce(torch.from_numpy(histograms).to(accelerator.device)).cpu().numpy()


def check_rows(rows: Iterable[Mapping[str, Any]], num_classes: int, mpp: float | None, missing_mpp: float | None) -> None:
    """Raise what `validate` would raise at the end of a run, before it starts: MaskError, PixelSizeError."""
    for row in decoded(rows):
        hw = (row["image"].height, row["image"].width)
        working_size(hw, missing_mpp if row["mpp"] is None else row["mpp"], mpp, row["image_id"])
        for mask in (row["sparse_mask"], row["mask"]):
            if mask is not None:
                check_mask(np.asarray(mask), num_classes, row["image_id"], image_hw=hw)


def validate(rows: Iterable[Mapping[str, Any]], model: nn.Module, preprocessing: Preprocessing, num_classes: int,
             accelerator: Accelerator, mpp: float | None = None,
             missing_mpp: float | None = None) -> dict[str, float | None]:
    """Pixel scores (0-100) on labelled pixels only; where dense masks exist, `dense_…` beside them for the record.

    The rows are predicted as scripts/evaluate.py predicts them, at their own size, so that both figures are of one kind.
    `mpp`: µm per pixel that the model is trained at, `missing_mpp` of rows that state none (None: pixels as they are).
    """
    def forward(images: Tensor) -> Tensor:
        with accelerator.autocast():
            return class_probabilities(model, preprocessing(images))

    labelled, dense = (SplitEvaluator(num_classes, bootstrap=0, pixel_only=True) for _ in range(2))
    known = False
    for row in tqdm(rows, desc="validating", unit="image", leave=False, disable=not accelerator.is_local_main_process):
        rgb = np.asarray(row["image"].convert("RGB"))
        hw = working_size(rgb.shape[:2], missing_mpp if row["mpp"] is None else row["mpp"], mpp, row["image_id"])
        probabilities = picture_probabilities(forward, [rgb], hw, accelerator.device)[0]
        labelled.update(probabilities, np.asarray(row["sparse_mask"]), image_id=row["image_id"])
        if row["mask"] is not None:
            known = True
            dense.update(probabilities, np.asarray(row["mask"]), image_id=row["image_id"])
    scores = {k: labelled.compute()[k] for k in PIXEL}
    if known:
        scores.update({f"dense_{k}": dense.compute()[k] for k in PIXEL})
    return scores
