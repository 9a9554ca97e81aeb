"""The optimiser of a run: AdamW whose head learns faster than its encoder, under the schedule's learning rate."""

import torch
from torch.optim import Optimizer
from transformers import PreTrainedModel

from hf_gland.config.sections import Optim
from hf_gland.model.backbones import head_parameter_names


def make_optimizer(model: PreTrainedModel, optim: Optim) -> Optimizer:
    """AdamW over all parameters of `model`, in two groups: the encoder's and the head's."""
    head = head_parameter_names(model)
    return torch.optim.AdamW(
        [{"params": [p for n, p in model.named_parameters() if (n in head) == in_head],
          "peak_lr": optim.learning_rate * (optim.head_lr_factor if in_head else 1)} for in_head in (False, True)],
        lr=optim.learning_rate, weight_decay=optim.weight_decay, fused=True)  # one pass over the parameters


def set_learning_rates(optimizer: Optimizer, factor: float) -> None:
    """Each group of `make_optimizer` at `factor` times its peak (see `schedules.learning_rate_factor`)."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
