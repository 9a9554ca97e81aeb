"""Between an image's own pixel size and the one its model was trained at."""

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from hf_gland.errors import PixelSizeError
from hf_gland.imaging.pictures import MAX_PIXELS

# Light microscopy of tissue: 100× oil immersion is about 0.05 µm per pixel, a 1× overview about 10.
PLAUSIBLE_MPP = (0.05, 20.0)


def check_mpp(mpp: float, name: str = "image") -> float:
    """`mpp` (µm per pixel) as a float; raises PixelSizeError outside PLAUSIBLE_MPP."""
    low, high = PLAUSIBLE_MPP
    if not low <= mpp <= high:  # also refuses NaN
        raise PixelSizeError(f"{name}: {mpp} µm per pixel is not a plausible pixel size ({low}-{high}); a "
                             "20× scan has about 0.5, a 40× scan about 0.25")
    return float(mpp)


def working_hw(image_hw: tuple[int, int], image_mpp: float | None, model_mpp: float | None,
               name: str = "image") -> tuple[int, int]:
    """(height, width) at which the model sees an image: its own unless both pixel sizes are known.

    Raises PixelSizeError for an implausible pixel size, or when resampling would give more pixels than
    MAX_PIXELS.
    """
    if image_mpp is None or model_mpp is None:
        return image_hw
    scale = check_mpp(image_mpp, name) / model_mpp
    height, width = (max(round(side * scale), 1) for side in image_hw)
    if height * width > MAX_PIXELS:
        raise PixelSizeError(f"{name}: at the model's {model_mpp} µm per pixel an image of "
                             f"{image_hw[1]}×{image_hw[0]} px with {image_mpp} µm per pixel would have "
                             f"{width}×{height} px, above the limit of {MAX_PIXELS / 1e6:.0f} million; "
                             "check the pixel size, or crop the image")
    return height, width


def resample_image(rgb: np.ndarray, hw: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] resampled to `hw`, antialiased (Lanczos, as the training images were)."""
    if rgb.shape[:2] == hw:
        return rgb
    return np.array(Image.fromarray(rgb).resize(hw[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0))


def resample_probabilities(probabilities: Tensor, hw: tuple[int, int]) -> Tensor:
    """float32 [C, H, W] resampled to `hw` bilinearly, antialiased; still sums to 1 over the classes."""
    if tuple(probabilities.shape[1:]) == hw:
        return probabilities
    return F.interpolate(probabilities[None], hw, mode="bilinear", align_corners=False, antialias=True)[0]
