"""Augmentation: one geometric view shared by image, labels and pseudo-labels, then photometric changes to the image.

Every random draw comes from the generator that is passed in, so a crop is a function of that generator's seed alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Tensor

from hf_gland.data.stain import jitter_stain


@dataclass(frozen=True)
class View:
    """A square window of an image (px; may reach past its edges), then a flip and quarter turns."""

    top: int
    left: int
    side: int
    flip: bool
    quarter_turns: int


def random_view(rng: np.random.Generator, image_hw: tuple[int, int], crop_px: int, scale_min: float,
                scale_max: float) -> View:
    """A view of `crop_px` output pixels at a magnification drawn log-uniformly from [scale_min, scale_max]."""
    scale = float(np.exp(rng.uniform(np.log(scale_min), np.log(scale_max))))
    side = max(round(crop_px / scale), 1)
    top, left = (int(rng.integers(0, n - side + 1)) if n >= side else (n - side) // 2 for n in image_hw)
    return View(top, left, side, bool(rng.integers(2)), int(rng.integers(4)))


@dataclass(frozen=True)
class Rectangle:
    """A part of a crop, in px of the crop."""

    top: int
    left: int
    height: int
    width: int


def random_rectangle(rng: np.random.Generator, crop_px: int) -> Rectangle:
    """A tenth to a half of a crop, its sides up to twice as long as one another (CutMix, Yun et al. 2019, with the area
    bounded so that both images stay recognisable)."""
    area, ratio = rng.uniform(0.1, 0.5), float(np.exp(rng.uniform(-np.log(2), np.log(2))))
    height, width = (min(max(round(crop_px * (area * r) ** 0.5), 1), crop_px) for r in (ratio, 1 / ratio))
    return Rectangle(int(rng.integers(0, crop_px - height + 1)), int(rng.integers(0, crop_px - width + 1)), height, width)


BLANK_LEVEL = 210  # of 255: near white in every channel


def is_blank(image: Tensor) -> Tensor:
    """Where an H&E image (uint8 [3, H, W]) shows no tissue, bool [H, W]: the lumen of a gland, or bare glass."""
    return image.amin(dim=0) > BLANK_LEVEL


def apply_view(planes: np.ndarray, view: View, crop_px: int, *, labels: bool, fill: int | None = None) -> Tensor:
    """The view of `planes` (uint8 [C, H, W] or [H, W]) as uint8 [C, crop_px, crop_px] or [crop_px, crop_px].

    Labels are sampled by nearest neighbour, images and probabilities bilinearly (antialiased when shrinking). Outside
    the image: `fill` where given, else mirrored.
    """
    stack = planes if planes.ndim == 3 else planes[None]
    height, width = stack.shape[1:]
    bottom, right = view.top + view.side, view.left + view.side
    window = stack[:, max(view.top, 0):bottom, max(view.left, 0):right]
    margins = ((0, 0), (max(-view.top, 0), max(bottom - height, 0)), (max(-view.left, 0), max(right - width, 0)))
    if any(a or b for a, b in margins):
        window = (np.pad(window, margins, mode="symmetric") if fill is None
                  else np.pad(window, margins, constant_values=fill))
    out = torch.from_numpy(np.ascontiguousarray(window))
    if view.side != crop_px:
        mode = {"mode": "nearest-exact"} if labels else {"mode": "bilinear", "antialias": True}
        # As uint8, which differs by 1 at most from float and is four times faster.
        out = F.interpolate(out[None], size=(crop_px, crop_px), **mode)[0]
    if view.flip:
        out = out.flip(-1)
    out = torch.rot90(out, view.quarter_turns, (-2, -1))
    return (out if planes.ndim == 3 else out[0]).contiguous()


def photometric(image: Tensor, rng: np.random.Generator, stain: float, brightness: float, blur_px: float) -> Tensor:
    """Stain, brightness/contrast and blur changes of a uint8 [3, H, W] image; spreads of 0 switch each off."""
    pixels = image.movedim(0, -1).numpy()
    if stain:
        pixels = jitter_stain(pixels, rng, stain)
    if brightness:
        contrast, offset = 1 + rng.uniform(-brightness, brightness), 255 * rng.uniform(-brightness, brightness) / 2
        mean = float(pixels.mean())
        table = ((np.arange(256) - mean) * contrast + mean + offset).clip(0, 255).round().astype(np.uint8)
        pixels = table[pixels]
    if blur_px and rng.random() < 0.5:
        sigma = rng.uniform(min(0.1, blur_px), blur_px)
        pixels = ndimage.gaussian_filter(pixels, (sigma, sigma, 0), truncate=2.5)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(pixels, -1, 0)))
