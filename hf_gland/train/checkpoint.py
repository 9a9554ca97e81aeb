"""Checkpoints that resume bit-exactly, in safetensors and JSON only.

RUN/checkpoints/step-000400/
    student.safetensors  teacher.safetensors  optimizer.safetensors
    bank.u8              the pseudo-masks in use (a hard link where the file system has them)
    state.json           step, gradient scaler, the bank's confidence histograms, seconds spent
    training_config.json metrics.json

No random state is kept: every random draw is a function of (seed, step) or (seed, epoch, index).
"""

import dataclasses
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from hf_gland.config import TrainConfig, make_config
from hf_gland.errors import HfGlandError

# Settings that say how a run is carried out and recorded, not what it computes: they may change on resume.
RUN_ONLY = {"num_workers", "validate_every", "panels_every", "save_every", "keep_last", "tracker", "variant"}


class CheckpointError(HfGlandError):
    """A checkpoint cannot be written or does not fit; the message names it and the remedy."""


@dataclass
class TrainingState:
    """Everything of a run that changes from step to step."""

    student: PreTrainedModel
    teacher: PreTrainedModel
    optimizer: Optimizer
    step: int  # optimiser steps taken
    bank: Path | None = None
    histograms: list[list[int]] | None = None
    seconds: float = 0.0  # wall-clock time of all the steps taken, over interruptions


def checkpoint_paths(run: Path) -> list[Path]:
    """The whole checkpoints of a run, oldest first."""
    return sorted(p.parent for p in (run / "checkpoints").glob("step-*/state.json"))


def optimizer_tensors(optimizer: Optimizer, student: nn.Module) -> dict[str, torch.Tensor]:
    """The optimiser's per-parameter state as `<key>/<parameter name>` tensors."""
    names: dict[Any, str] = {p: n for n, p in student.named_parameters()}
    return {f"{key}/{names[p]}": torch.as_tensor(value).contiguous()
            for p, state in optimizer.state.items() for key, value in state.items()}


def restore_optimizer(optimizer: Optimizer, student: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put back what `optimizer_tensors` took out."""
    parameters = dict(student.named_parameters())
    for full_key, value in tensors.items():
        key, name = full_key.split("/", 1)
        p = parameters[name]
        optimizer.state[p][key] = value if key == "step" else value.to(p.device)


def save_checkpoint(run: Path, state: TrainingState, config: TrainConfig, scaler: dict[str, Any],
                    metrics: dict[str, Any]) -> Path:
    """Write a checkpoint beside its place, rename it when whole, then drop all but the last `keep_last`.

    A full disk raises CheckpointError and leaves the checkpoints before it untouched.
    """
    final = run / "checkpoints" / f"step-{state.step:06d}"
    part = final.with_name(f".{final.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_model(state.student, str(part / "student.safetensors"))
        save_model(state.teacher, str(part / "teacher.safetensors"))
        save_file(optimizer_tensors(state.optimizer, state.student), str(part / "optimizer.safetensors"))
        if state.bank is not None:
            link_or_copy(state.bank, part / "bank.u8")
        (part / "training_config.json").write_text(config.to_json())
        (part / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
        (part / "state.json").write_text(json.dumps(
            {"step": state.step, "scaler": scaler, "histograms": state.histograms, "seconds": state.seconds}))
        shutil.rmtree(final, ignore_errors=True)
        os.replace(part, final)
    except Exception as error:  # safetensors reports a full disk with an exception class of its own
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(f"{final}: the checkpoint could not be written ({error}). Earlier checkpoints are whole; "
                              "free some disk space and continue with --resume") from error
    for old in checkpoint_paths(run)[:-config.keep_last]:
        shutil.rmtree(old)
    return final


def load_checkpoint(path: Path, state: TrainingState, config: TrainConfig) -> dict[str, Any]:
    """Fill `state` from a checkpoint; returns the gradient scaler's state. Raises CheckpointError."""
    check_same_config(path, config)
    try:
        saved = json.loads((path / "state.json").read_text())
        load_model(state.student, str(path / "student.safetensors"))
        load_model(state.teacher, str(path / "teacher.safetensors"))
        restore_optimizer(state.optimizer, state.student, load_file(str(path / "optimizer.safetensors")))
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); delete this folder and --resume takes the checkpoint "
                              "before it") from error
    state.step, state.histograms, state.seconds = saved["step"], saved["histograms"], saved["seconds"]
    state.bank = path / "bank.u8" if (path / "bank.u8").exists() else None
    return saved["scaler"]


def check_same_config(path: Path, config: TrainConfig) -> None:
    """Raise CheckpointError where a checkpoint was made with other settings that matter, naming them."""
    try:
        saved = make_config(dict(json.loads((path / "training_config.json").read_text())))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its training_config.json cannot be read ({error}); was it made with another "
                              "version of hf_gland?") from error
    changed = [f"{f.name} {getattr(saved, f.name)!r} → {getattr(config, f.name)!r}" for f in dataclasses.fields(config)
               if f.name not in RUN_ONLY and getattr(saved, f.name) != getattr(config, f.name)]
    if changed:
        raise CheckpointError(f"{path}: was made with other settings ({'; '.join(changed)}). Give the same settings to "
                              "resume, or another --out to start afresh")


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that is never written again a second place: a hard link, or a copy across file systems."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
