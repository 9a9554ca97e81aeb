"""What a network says of a picture at its own size: the one way in which validation, evaluation and prediction go."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hf_gland.errors import ModelError
from hf_gland.imaging.resample import resample_image, resample_probabilities
from hf_gland.model.tiled import Forward, tiled_probabilities, whole_probabilities
from hf_gland.options import Tiling


def picture_probabilities(forward: Forward, pictures: Sequence[np.ndarray], working_hw: tuple[int, int],
                          device: torch.device, tiling: Tiling = Tiling()) -> list[Tensor]:
    """float32 [outputs, H, W] of each of the equally large `pictures`, uint8 [H, W, 3], at their own size.

    `forward` maps uint8 [B, 3, h, w] to float [B, outputs, h, w], 0-1, of the same size; it sees the pictures resampled to
    `working_hw` in overlapping tiles (see `tiled_probabilities`), or several at once where they are no larger than a tile.
    Raises ModelError where it gives anything but numbers.
    """
    working = torch.stack([torch.tensor(resample_image(rgb, working_hw)).permute(2, 0, 1) for rgb in pictures]).to(device)
    found = (list(whole_probabilities(forward, working)) if len(pictures) > 1 and max(working_hw) <= tiling.tile_px else
             [tiled_probabilities(forward, image, tiling) for image in working])
    for image in found:
        check_numbers(image)
    return [resample_probabilities(image, pictures[0].shape[:2]).clamp_(0, 1) for image in found]


def check_numbers(output: Tensor) -> None:
    """Raise ModelError for output of a network that is not all numbers."""
    if not torch.isfinite(output).all():
        raise ModelError("the model gives probabilities that are no numbers (NaN or infinite): its weights are damaged, or "
                         "too large for the precision. Try precision float32, or train it again")
