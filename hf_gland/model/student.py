"""What a network of transformers makes of pictures at their own size, and the plain folder it is saved as."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_gland.files import replaced_folder, respect_umask
from hf_gland.model.backbones import side_multiple_px
from hf_gland.model.border import output_maps
from hf_gland.model.identity import class_names_of
from hf_gland.model.preprocessing import Preprocessing


def full_size_logits(model: nn.Module, pixel_values: Tensor) -> Tensor:
    """All logits at the input's size: float32 [B, outputs, H, W] from normalised float [B, 3, H, W] (bilinear).

    Sides are continued by reflection to a multiple of what the encoder takes (`side_multiple_px`) and cut back afterwards.
    A hierarchical encoder rounds the size of each level up, and a head that stretches all levels to one size then shifts
    the coarse ones against the fine ones: on GlaS at half resolution (388×261 px) that cost SegFormer seven points of mIoU.
    """
    height, width = pixel_values.shape[-2:]
    multiple = side_multiple_px(model)
    pixel_values = mirrored_to(pixel_values, height + -height % multiple, width + -width % multiple)
    logits = model(pixel_values=pixel_values).logits.float()
    whole = F.interpolate(logits, size=pixel_values.shape[-2:], mode="bilinear", align_corners=False)
    return whole[..., :height, :width]


def mirrored_to(pixels: Tensor, height: int, width: int) -> Tensor:
    """`pixels` [..., H, W] continued by reflection to the right and below; a one-pixel side is repeated."""
    for axis, side in ((-2, height), (-1, width)):
        length = pixels.shape[axis]
        if side > length:
            period = max(2 * (length - 1), 1)
            index = torch.arange(side, device=pixels.device) % period
            pixels = pixels.index_select(axis, torch.minimum(index, period - index))
    return pixels


@torch.no_grad()
def predicted_maps(model: PreTrainedModel, pixel_values: Tensor) -> Tensor:
    """What a network says at the input's size, see `border.output_maps`: float32 [B, C or C + 1, H, W]; no gradient."""
    return output_maps(full_size_logits(model, pixel_values), len(class_names_of(model.config)))


def save_model_folder(folder: Path, teacher: PreTrainedModel, student: PreTrainedModel,
                      preprocessing: Preprocessing) -> None:
    """Write a plain transformers repository: the teacher as its model, the student in `student/`.

    `preprocessing`: how pictures are scaled; the plain pipeline of transformers sees them at their own size. Raises OSError
    where it cannot be written whole, and leaves what was there.
    """
    try:
        with replaced_folder(folder) as part:
            for model, target in ((teacher, part), (student, part / "student")):
                model.save_pretrained(target)
                preprocessing.image_processor().save_pretrained(target)
            respect_umask(part)
    except Exception as error:  # safetensors reports a full disk with an exception class of its own
        raise OSError(f"{folder}: the model could not be written ({error}); free some disk space") from error
