"""The processes of one run: how they are set up, and how one of them acts for all."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, ProjectConfiguration, broadcast_object_list

from hf_gland.config import TrainConfig
from hf_gland.errors import HfGlandError
from hf_gland.model.precision import mixed_precision_name, resolve_precision

T = TypeVar("T")


def make_accelerator(config: TrainConfig, run: Path) -> Accelerator:
    """The accelerator for a run: precision, accumulation, trackers and process group. Raises HfGlandError for a precision or
    a tracker that is not there."""
    # A torch built for CUDA names "cuda" on a machine without a GPU too, unless asked what is there.
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    precision = resolve_precision(device, config.optim.mixed_precision)
    tracker = config.run.tracker
    accelerator = Accelerator(
        # Said outright: left to find out, accelerate takes every process that torchrun starts on a CPU for the only one.
        cpu=not torch.accelerator.is_available(),
        # The setting decides, never a flag or a saved default of `accelerate launch`.
        mixed_precision=mixed_precision_name(precision), gradient_accumulation_steps=config.optim.gradient_accumulation,
        log_with=None if tracker == "none" else tracker,
        project_config=ProjectConfiguration(project_dir=str(run), logging_dir=str(run / "tracking")),
        # Synchronised norms keep buffers equal, so there is nothing to broadcast.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)])
    if tracker != "none" and not accelerator.log_with:  # accelerate leaves out what is not installed
        raise HfGlandError(f"tracker {tracker}: is not installed; pip install {tracker}, or give --tracker none")
    return accelerator


def on_main_process(accelerator: Accelerator, action: Callable[[], T]) -> T:
    """Do something on the main process alone; every process gets what it returns, or raises what it raised."""
    outcome: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            outcome[0] = action()
        except Exception as error:
            outcome[1] = error
    if accelerator.num_processes > 1:
        broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    return outcome[0]
