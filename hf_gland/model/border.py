"""The output beside the classes: whether a pixel of a gland lies on its border.

It is one more channel of the same network, after those of the classes: P(border | gland) = sigmoid(channel + OFFSET). The
offset keeps the channel below the classes', so that whoever takes the likeliest channel for the class, as transformers'
own pipeline does, gets whole glands and never a border.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_gland.errors import ModelError

BORDER_NAME = "gland border"
OFFSET = 20.0  # logits of classes differ by up to about 15; bf16 still tells steps of 1/8 there
RARE = -1.0  # the border's logit before training: about a quarter of a gland


def split_border(logits: Tensor, num_classes: int) -> tuple[Tensor, Tensor | None]:
    """The classes' logits, float [B, C, H, W], and the border's, float [B, H, W] (None: the network has none)."""
    return logits[:, :num_classes], logits[:, num_classes] + OFFSET if logits.shape[1] > num_classes else None


def output_maps(logits: Tensor, num_classes: int) -> Tensor:
    """What a network says, float32 [B, C or C + 1, H, W], 0-1: class probabilities, then P(border | gland) if it has it."""
    classes, border = split_border(logits, num_classes)
    maps = classes.softmax(dim=1)
    return maps if border is None else torch.cat([maps, border.sigmoid()[:, None]], dim=1)


def start_below_classes(model: PreTrainedModel) -> None:
    """Set the bias of a fresh border channel so that it starts where OFFSET puts it. ModelError where none is found."""
    layers = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None
              and m.out_channels == model.config.num_labels and "auxiliary" not in name]
    if not layers:
        raise ModelError(f"{model.config.model_type} networks end in no convolution with a bias, so they cannot learn the "
                         "border of glands; train with --border_px 0")
    with torch.no_grad():
        layers[-1].bias[-1] = RARE - OFFSET  # type: ignore[index]
