"""Class probabilities of a picture at its own size: the one way in which validation, evaluation and prediction go."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hf_gland.imaging.resample import resample_image, resample_probabilities
from hf_gland.model.tiled import Forward, tiled_probabilities, whole_probabilities

TILE_PX, STRIDE_PX, BATCH_SIZE = 512, 384, 4  # at the pixel size the model was trained at


def picture_probabilities(forward: Forward, pictures: Sequence[np.ndarray], working_hw: tuple[int, int],
                          device: torch.device, *, tile_px: int = TILE_PX, stride_px: int = STRIDE_PX,
                          batch_size: int = BATCH_SIZE) -> list[Tensor]:
    """float32 [C, H, W] of each of the equally large `pictures`, uint8 [H, W, 3], at their own size.

    `forward` maps uint8 [B, 3, h, w] to probabilities of the same size; it sees the pictures resampled to `working_hw`
    in overlapping tiles (see `tiled_probabilities`), or several at once where they are no larger than a tile.
    """
    working = torch.stack([torch.tensor(resample_image(rgb, working_hw)).permute(2, 0, 1) for rgb in pictures]).to(device)
    found = (whole_probabilities(forward, working) if len(pictures) > 1 and max(working_hw) <= tile_px else
             [tiled_probabilities(forward, image, tile_px, stride_px, batch_size) for image in working])
    return [resample_probabilities(image, pictures[0].shape[:2]).clamp_(0, 1) for image in found]
