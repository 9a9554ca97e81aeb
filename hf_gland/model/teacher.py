"""The teacher: an exponential moving average of the student, never trained, always in eval mode."""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def make_teacher(student: Network) -> Network:
    """A frozen copy of `student` in eval mode."""
    teacher = copy.deepcopy(student).eval()
    return teacher.requires_grad_(False)


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """θ_T ← decay·θ_T + (1-decay)·θ_S for parameters and float buffers; integer buffers are copied."""
    averaged: tuple[list, list] = ([], [])
    for old, new in zip([*teacher.parameters(), *teacher.buffers()],
                        [*student.parameters(), *student.buffers()], strict=True):
        if old.is_floating_point():
            averaged[0].append(old)
            averaged[1].append(new)
        else:
            old.copy_(new)
    torch._foreach_lerp_(averaged[0], averaged[1], 1 - decay)
