"""Batch normalisation over the whole global batch, on CPU and GPU alike (torch's own SyncBatchNorm needs a GPU).

Without it, each process normalises with its own crops, and two processes train another network than one.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from hf_gland.errors import HfGlandError


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose training statistics are taken over all processes; same parameters, buffers and results.
    Raises HfGlandError in training on a single number per channel."""

    def forward(self, input: Tensor) -> Tensor:
        world = dist.get_world_size() if dist.is_initialized() else 1
        if self.training and input.numel() * world == input.shape[1]:
            raise HfGlandError("this network normalises over the crops of a micro-batch and needs two of them: give a "
                               "larger --batch_size, or less --gradient_accumulation")
        if not self.training or world == 1:
            return super().forward(input)
        x = input.float()
        count = x.numel() / x.shape[1] * world
        sums = all_reduce(torch.stack([x.sum(dim=(0, 2, 3)), x.square().sum(dim=(0, 2, 3))]))
        mean = sums[0] / count
        variance = (sums[1] / count - mean.square()).clamp_min(0)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, rate)
                self.running_var.lerp_(variance * count / (count - 1), rate)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        return (x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]).to(input.dtype)


def synchronise_norms(model: nn.Module) -> None:
    """Turn every BatchNorm2d of `model` into its synchronised kind, in place; the state dict stays the same."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm2d
