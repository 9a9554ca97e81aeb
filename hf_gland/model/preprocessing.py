"""From a picture's pixels to a network's input, as the network's own preprocessor_config.json says."""

import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import MobileViTImageProcessorPil, SegformerImageProcessorPil
from transformers.utils.hub import cached_file

from hf_gland.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FILE = "preprocessor_config.json"


@dataclass(frozen=True)
class Preprocessing:
    """(pixel × rescale − mean) / std, channel by channel, of RGB pictures; `bgr`: the network wants blue first.

    `by_division`: pixel ÷ (1 / rescale) instead, exact to the last bit, as training has it.
    """

    rescale: float = 1 / 255
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    bgr: bool = False
    by_division: bool = False

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 [..., 3, h, w], RGB, to float32 of the same shape. `mean` and `std` are in the network's own order."""
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        values = pixels.flip(-3).float() if self.bgr else pixels.float()
        return ((values / (1 / self.rescale) if self.by_division else values * self.rescale) - mean) / std

    def image_processor(self) -> Any:
        """The image processor of transformers that does the same, pictures at their own size, for the plain pipeline."""
        scaling: dict[str, Any] = {"image_mean": list(self.mean), "image_std": list(self.std), "do_normalize": True,
                                   "rescale_factor": self.rescale, "do_rescale": True}
        if self.bgr:
            return MobileViTImageProcessorPil(do_resize=False, do_center_crop=False, do_flip_channel_order=True, **scaling)
        return SegformerImageProcessorPil(do_resize=False, do_reduce_labels=False, **scaling)


def read_preprocessing(where: str, usual: Preprocessing, *, revision: str = "main", subfolder: str = "",
                       required: bool = True) -> Preprocessing:
    """What the preprocessor_config.json of a folder or repository says; keys that it lacks are as `usual`.

    Without such a file: ModelError if `required`, else `usual`. Its resizing and cropping are not
    taken over: pictures are seen at the training pixel size, in tiles.
    """
    try:
        path = cached_file(where, FILE, revision=revision, subfolder=subfolder,
                           _raise_exceptions_for_missing_entries=required)
        if path is None:
            return usual
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        normalised = not usual.bgr and values.get("do_normalize") is not False  # MobileViT's processor never normalises
        mean, std = ((_three(values.get("image_mean"), usual.mean), _three(values.get("image_std"), usual.std))
                     if normalised else ((0.0,) * 3, (1.0,) * 3))
        factor = values.get("rescale_factor")
        rescale = (usual.rescale if factor is None else float(factor)) if values.get("do_rescale", True) else 1.0
        if not all(map(math.isfinite, (*mean, *std, rescale))) or rescale <= 0 or min(std) <= 0:
            raise ValueError(f"image_mean {mean}, image_std {std}, rescale_factor {rescale}")
        flip = values.get("do_flip_channel_order")
        return Preprocessing(rescale, mean, std, usual.bgr if flip is None else bool(flip))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{where}: {FILE} cannot be used: {str(error).splitlines()[0]}") from error


def _three(value: Any, usual: tuple[float, ...]) -> tuple[float, ...]:
    """A number or three of them as three; what is missing as usual."""
    if value is None:
        return usual
    values = tuple(float(v) for v in value) if isinstance(value, list) else (float(value),) * 3
    if len(values) != 3:
        raise ValueError(f"needs 3 channels, got {len(values)}")
    return values
