"""The student: any `AutoModelForSemanticSegmentation`, and the plain transformers folder it is saved as."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSemanticSegmentation,
    PreTrainedModel,
    SegformerImageProcessorPil,
)

from hf_gland.errors import HfGlandError
from hf_gland.labels import IGNORE_INDEX
from hf_gland.model.segformer_head import use_cheaper_head

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
RANDOM_PREFIX = "random:"
SIDE_MULTIPLE_PX = 32  # the coarsest stride of the usual encoders


class BackboneError(HfGlandError):
    """A backbone cannot be loaded; the message names it and the remedy."""


def load_student(backbone: str, class_names: Sequence[str], mpp: float | None,
                 overrides: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """`load_network`, with the cheaper forward pass that a SegFormer has here. Raises BackboneError."""
    model = load_network(backbone, class_names, mpp, overrides)
    use_cheaper_head(model)
    return model


def load_network(backbone: str, class_names: Sequence[str], mpp: float | None,
                 overrides: Mapping[str, Any] | None = None) -> PreTrainedModel:
    """A segmentation network of transformers, as it comes, with a fresh head for `class_names`.

    `backbone`: a Hub id or a folder whose weights are safetensors, or `random:MODEL_TYPE` for random weights.
    `mpp` (µm per pixel it will be trained at, or None) is recorded in the network's config, as are the class names.
    Raises BackboneError.
    """
    labels = {"id2label": dict(enumerate(class_names)), "label2id": {n: i for i, n in enumerate(class_names)},
              "semantic_loss_ignore_index": IGNORE_INDEX, **(overrides or {})}
    try:
        if backbone.startswith(RANDOM_PREFIX):
            config = AutoConfig.for_model(backbone.removeprefix(RANDOM_PREFIX), **labels)
            model = AutoModelForSemanticSegmentation.from_config(config)
        else:
            model = AutoModelForSemanticSegmentation.from_pretrained(
                backbone, use_safetensors=True, ignore_mismatched_sizes=True, **labels)
    except Exception as error:  # each family refuses settings, and safetensors damaged files, in a way of its own
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise BackboneError(
            f"backbone {backbone!r} cannot be loaded: {reason}. Give a Hub id or a folder with config.json and "
            "model.safetensors of a semantic-segmentation family, or random:segformer") from error
    known = type(model.config)()
    unknown = sorted(key for key in overrides or {} if not hasattr(known, key))
    if unknown:
        raise BackboneError(f"backbone {backbone!r} has no setting {', '.join(unknown)}; model_kwargs takes those of "
                            f"transformers' {type(known).__name__}")
    model.config.mpp = mpp
    return model.float()


def head_parameter_names(model: PreTrainedModel) -> set[str]:
    """Names of the parameters outside the pretrained encoder (they start at random and learn faster)."""
    prefix = f"{model.base_model_prefix}."
    names = {n for n, _ in model.named_parameters()}
    encoder = {n for n in names if n.startswith(prefix) or n.startswith("backbone.")}
    return names - encoder


def normalise(image: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] RGB to float32 with ImageNet mean 0 and standard deviation 1."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=image.device).view(3, 1, 1)
    return (image.float() / 255 - mean) / std


def full_size_logits(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """Logits at the input's size: float32 [B, C, H, W] from normalised float [B, 3, H, W] (bilinear).

    Sides are continued by reflection to a multiple of SIDE_MULTIPLE_PX and cut back afterwards. A hierarchical encoder
    rounds the size of each level up, and a head that stretches all levels to one size then shifts the coarse ones
    against the fine ones: on GlaS at half resolution (388×261 px) that cost SegFormer seven points of mIoU.
    """
    height, width = pixel_values.shape[-2:]
    below, right = -height % SIDE_MULTIPLE_PX, -width % SIDE_MULTIPLE_PX
    if below or right:
        mode = "reflect" if below < height and right < width else "replicate"
        pixel_values = F.pad(pixel_values, (0, right, 0, below), mode=mode)
    logits = model(pixel_values=pixel_values).logits.float()
    whole = F.interpolate(logits, size=pixel_values.shape[-2:], mode="bilinear", align_corners=False)
    return whole[..., :height, :width]


@torch.no_grad()
def class_probabilities(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """Class probabilities at the input's size, float32 [B, C, H, W]; no gradient."""
    return full_size_logits(model, pixel_values).softmax(dim=1)


def save_model_folder(folder: Path, teacher: PreTrainedModel, student: PreTrainedModel,
                      input_hw: tuple[int, int]) -> None:
    """Write a plain transformers repository: the teacher as its model, the student in `student/`.

    `input_hw`: the size (px, at the training mpp) to which the plain transformers pipeline resizes an image, which
    should be that of a typical training image. Written beside `folder` first and renamed when whole; raises OSError
    where it cannot be written, and leaves what was there.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    processor = SegformerImageProcessorPil(
        do_resize=True, size={"height": input_hw[0], "width": input_hw[1]}, do_rescale=True, do_normalize=True,
        image_mean=list(IMAGENET_MEAN), image_std=list(IMAGENET_STD), do_reduce_labels=False)
    try:
        for model, target in ((teacher, part), (student, part / "student")):
            model.save_pretrained(target)
            processor.save_pretrained(target)
    except Exception as error:  # safetensors reports a full disk with an exception class of its own
        shutil.rmtree(part, ignore_errors=True)
        raise OSError(f"{folder}: the model could not be written ({error}); free some disk space") from error
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(part, folder)
