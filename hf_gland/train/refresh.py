"""Whole images through a network: training images for their pseudo-labels, and those to validate on."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm
from transformers import PreTrainedModel

from hf_gland.data.schema import decoded
from hf_gland.data.store import working_size
from hf_gland.errors import DatasetError
from hf_gland.labels import check_mask
from hf_gland.metrics.evaluator import SplitEvaluator
from hf_gland.metrics.keys import PIXEL
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import predicted_maps
from hf_gland.model.tiled import tiled_probabilities
from hf_gland.model.views import averaged_over_views
from hf_gland.model.whole_picture import picture_probabilities
from hf_gland.options import Tiling


def image_predictor(model: PreTrainedModel, preprocessing: Preprocessing, accelerator: Accelerator,
                    tiling: Tiling) -> Callable[[np.ndarray], Tensor]:
    """A function from an image (uint8 [3, H, W]) to what the model says of it (see `predicted_maps`, float32
    [outputs, H, W]), in tiles and averaged over views as `tiling` says."""
    def forward(pixels: Tensor) -> Tensor:
        with accelerator.autocast():
            return predicted_maps(model, preprocessing(pixels))

    averaged = averaged_over_views(forward, tiling.views)
    return lambda image: tiled_probabilities(averaged, torch.from_numpy(np.array(image)).to(accelerator.device), tiling)


def check_rows(rows: Iterable[Mapping[str, Any]], num_classes: int, mpp: float | None, missing_mpp: float | None) -> None:
    """Raise what `validate` would raise at the end of a run, before it starts: MaskError, PixelSizeError."""
    for row in decoded(rows):
        hw = (row["image"].height, row["image"].width)
        working_size(hw, missing_mpp if row["mpp"] is None else row["mpp"], mpp, row["image_id"])
        if row["sparse_mask"] is None:
            raise DatasetError(f"{row['image_id']}: has no sparse mask to validate on; rebuild the dataset with masks, or "
                               "leave validation_split empty")
        for mask in (row["sparse_mask"], row["mask"]):
            if mask is not None:
                check_mask(np.asarray(mask), num_classes, row["image_id"], image_hw=hw)


def validate(rows: Iterable[Mapping[str, Any]], model: PreTrainedModel, preprocessing: Preprocessing, num_classes: int,
             accelerator: Accelerator, mpp: float | None = None,
             missing_mpp: float | None = None) -> dict[str, float | None]:
    """Pixel scores (0-100) on labelled pixels only; where dense masks exist, `dense_…` beside them for the record.

    The rows are predicted as scripts/evaluate.py predicts them, at their own size, so that both figures are of one kind.
    `mpp`: µm per pixel that the model is trained at, `missing_mpp` of rows that state none (None: pixels as they are).
    """
    def forward(images: Tensor) -> Tensor:
        with accelerator.autocast():
            return predicted_maps(model, preprocessing(images))

    labelled, dense = (SplitEvaluator(num_classes, bootstrap=0, pixel_only=True) for _ in range(2))
    known = False
    for row in tqdm(rows, desc="validating", unit="image", leave=False, disable=not accelerator.is_local_main_process):
        rgb = np.asarray(row["image"].convert("RGB"))
        hw = working_size(rgb.shape[:2], missing_mpp if row["mpp"] is None else row["mpp"], mpp, row["image_id"])
        probabilities = picture_probabilities(forward, [rgb], hw, accelerator.device)[0][:num_classes]
        labelled.update(probabilities, np.asarray(row["sparse_mask"]), image_id=row["image_id"])
        if row["mask"] is not None:
            known = True
            dense.update(probabilities, np.asarray(row["mask"]), image_id=row["image_id"])
    scores = {k: labelled.compute()[k] for k in PIXEL}
    if known:
        scores.update({f"dense_{k}": dense.compute()[k] for k in PIXEL})
    return scores
