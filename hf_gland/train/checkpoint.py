"""Checkpoints that resume bit-exactly, in safetensors and JSON only.

RUN/checkpoints/step-000400/
    student.safetensors  teacher.safetensors  optimizer.safetensors
    bank.u8              the pseudo-labels in use (a hard link where the file system has them)
    state.json           step, gradient scaler, the bank's confidence histograms, seconds spent, data and precision used
    training_config.json metrics.json
    SHA256SUMS           checksums of all of these, as `sha256sum -c` reads them

No random state is kept: every random draw is a function of (seed, step) or (seed, epoch, index).
"""

import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from hf_gland.config import TrainConfig, all_settings, read_saved_config
from hf_gland.errors import HfGlandError
from hf_gland.files import respect_umask

CHECKSUMS = "SHA256SUMS"
PLACES = {"dataset", "adapt_dataset"}  # settings
NAME = re.compile(r"step-(\d+)(\.replaced)?")  # .replaced: one that a later checkpoint of the same step takes the place of


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
    scaler: torch.amp.GradScaler | None = None  # fp16 only
    origin: dict[str, Any] = field(default_factory=dict)  # what a resumed run is to have in common: data, precision
    latest: dict[str, Any] = field(default_factory=dict)  # what the last step and the last validation recorded


def checkpoint_paths(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first. They were whole when they got their names; `damage` tells of later."""
    found = [(NAME.fullmatch(p.name), p) for p in (run / "checkpoints").glob("step-*") if p.is_dir()]
    return [p for *_, p in sorted((int(m[1]), m[2] is None, p) for m, p in found if m)]


def damage(path: Path) -> str:
    """What is wrong with the files of a checkpoint, naming the file; empty if nothing is.

    Checkpoints of earlier versions hold no checksums: of those, only what can be seen without them.
    """
    name = CHECKSUMS
    try:
        lines = (path / name).read_text("utf-8").splitlines() if (path / name).exists() else []
        for line in lines:
            expected, name = line.split("  ", 1)
            if _sha256(path / name) != expected:
                return f"{name} is not as it was written: its SHA-256 differs"
        for name in ("training_config.json", "metrics.json", "state.json"):
            content = json.loads((path / name).read_text("utf-8"))
        if not path.name.startswith(f"step-{content['step']:06d}"):
            return f"state.json counts {content['step']} steps, the folder's name others"
        for name in ("student.safetensors", "teacher.safetensors", "optimizer.safetensors"):
            with safe_open(path / name, "pt"):
                pass
        if content["histograms"] is not None and not (path / "bank.u8").exists():
            return "bank.u8 is missing"
    except Exception as error:  # safetensors has an exception class of its own
        return f"{name} is missing" if isinstance(error, FileNotFoundError) else f"{name} cannot be read ({error})"
    return ""


def choose_checkpoint(run: Path, config: TrainConfig) -> tuple[Path, dict[str, str]]:
    """The last whole checkpoint of a run; and what is wrong with each of those after it, which are set aside as
    `damaged-NAME`, so that they neither count among the last nor are in the way. Raises CheckpointError."""
    damaged: dict[Path, str] = {}
    for path in reversed(checkpoint_paths(run)):
        wrong = damage(path)
        if not wrong:
            break
        damaged[path] = wrong
    else:
        raise CheckpointError(f"{run}: has no checkpoint to resume from; start without --resume" if not damaged else
                              f"{run}: no checkpoint is whole. " + ". ".join(f"{p}: {w}" for p, w in damaged.items()) +
                              ". Restore one from a copy, or give another --out to start afresh")
    check_same_config(path, config)
    for other in damaged:
        aside = other.with_name(f"damaged-{other.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(other, aside)
    return path, {p.name: wrong for p, wrong in damaged.items()}


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
        optimizer.state[p][key] = value.to(p.device)  # the fused AdamW counts steps there too


def save_checkpoint(run: Path, state: TrainingState, config: TrainConfig) -> Path:
    """Write a checkpoint beside its place, rename it when whole, then drop all but the last `keep_last`.

    At every moment all that is to be kept is on the disk, whole: what is killed here can be resumed. A full disk raises
    CheckpointError and leaves the checkpoints before it untouched.
    """
    final = run / "checkpoints" / f"step-{state.step:06d}"
    part = final.with_name(f".{final.name}.part")
    try:
        for left in final.parent.glob(".step-*.part"):
            shutil.rmtree(left)
        part.mkdir(parents=True)
        save_model(state.student, str(part / "student.safetensors"))
        save_model(state.teacher, str(part / "teacher.safetensors"))
        save_file(optimizer_tensors(state.optimizer, state.student), str(part / "optimizer.safetensors"))
        respect_umask(part)
        if state.bank is not None:
            link_or_copy(state.bank, part / "bank.u8")
        (part / "training_config.json").write_text(config.to_json())
        (part / "metrics.json").write_text(json.dumps(state.latest, indent=2) + "\n")
        (part / "state.json").write_text(json.dumps(
            {"step": state.step, "scaler": state.scaler.state_dict() if state.scaler is not None else {},
             "histograms": state.histograms, "seconds": state.seconds, "origin": state.origin}))
        sums = "".join(f"{_sha256(p)}  {p.name}\n" for p in sorted(part.iterdir()))
        (part / CHECKSUMS).write_text(sums)
    except Exception as error:  # safetensors reports a full disk with an exception class of its own
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(f"{final}: the checkpoint could not be written ({error}). Free some disk space; then " + (
                              "--resume goes on from the checkpoint before, which is whole" if checkpoint_paths(run) else
                              "start again, as there is none before it")) from error
    replaced = final.with_name(f"{final.name}.replaced")
    if final.exists():
        _drop(replaced)
        os.replace(final, replaced)
    os.replace(part, final)
    _drop(replaced)
    for old in checkpoint_paths(run)[:-config.run.keep_last]:
        _drop(old)
    return final


def load_checkpoint(path: Path, state: TrainingState, config: TrainConfig) -> str:
    """Fill `state` from a checkpoint; returns a warning where it was computed in another precision or by
    another number of processes, else "".

    Raises CheckpointError. Checkpoints of earlier versions do not say what they are of, and are taken as such.
    """
    check_same_config(path, config)
    try:
        saved = json.loads((path / "state.json").read_text())
        load_model(state.student, str(path / "student.safetensors"))
        load_model(state.teacher, str(path / "teacher.safetensors"))
        restore_optimizer(state.optimizer, state.student, load_file(str(path / "optimizer.safetensors")))
        state.latest = json.loads((path / "metrics.json").read_text())
        if state.scaler is not None and saved["scaler"]:
            state.scaler.load_state_dict(saved["scaler"])
        if saved["step"] > config.optim.steps:
            raise ValueError(f"it counts {saved['step']} steps, the run has {config.optim.steps}")
        before = state.origin | saved.get("origin", {})
    except Exception as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); delete this folder and --resume takes the checkpoint "
                              "before it") from error
    state.step, state.histograms, state.seconds = saved["step"], saved["histograms"], saved["seconds"]
    state.bank = path / "bank.u8" if saved["histograms"] is not None else None
    if before.get("data_sha256") != state.origin.get("data_sha256"):
        raise CheckpointError(f"{path}: learned from other data than {config.data.dataset} holds now; was it built anew? "
                              "Build it as it was to resume, or give another --out to start afresh")
    if before.get("images") != state.origin.get("images"):
        raise CheckpointError(f"{path}: learned from the same images in another order than {config.data.dataset} holds now. "
                              "Build it as it was to resume, or give another --out to start afresh")
    changes = []
    if (was := before.get("precision")) != (now := state.origin.get("precision")):
        changes.append(f"in {was}, the others will be in {now} (mixed_precision {config.optim.mixed_precision})")
    if (was := before.get("processes")) != (now := state.origin.get("processes")):
        changes.append(f"by {was} process{'' if was == 1 else 'es'}, the others will be by {now}")
    return "" if not changes else (f"the first {state.step} steps were computed {'; and '.join(changes)}, so this run does "
                                   "not end as it would have there")


def check_same_config(path: Path, config: TrainConfig) -> None:
    """Raise CheckpointError where a checkpoint was made with other settings that matter, naming them.

    Those that had no effect then and have none now do not: earlier versions kept them, now they cannot be given. Nor does
    where the data lie, which `load_checkpoint` knows by their checksum.
    """
    try:
        before, now = read_saved_config(path).by_short_name(), config.by_short_name()
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: its training_config.json cannot be read ({error}); was it made with another "
                              "version of hf_gland?") from error
    changed = [f"{name} {before[name]!r} → {now[name]!r}" for name, s in all_settings().items()
               if s.path[0] != "run" and name not in PLACES and before[name] != now[name]
               and not (s.why_idle(before) and s.why_idle(now))]
    if changed:
        raise CheckpointError(f"{path}: was made with other settings ({'; '.join(changed)}). Give the same settings to "
                              "resume, or another --out to start afresh")


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file that is never written again a second place: a hard link, or a copy across file systems."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _drop(path: Path) -> None:
    """Remove a checkpoint; a kill in the middle leaves none that looks whole."""
    if path.exists():
        gone = path.with_name(f".{path.name}.part")
        os.replace(path, gone)
        shutil.rmtree(gone)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
