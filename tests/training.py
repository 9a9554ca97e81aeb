"""Train in the test's own process, and read what a run left behind."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from hf_gland.config import make_config
from hf_gland.method import targets
from hf_gland.method.pseudo_labels import PseudoLabels
from hf_gland.train import loop
from hf_gland.train.accelerator import make_accelerator
from hf_gland.train.loop import train
from hf_gland.train.run import TrainingRun
from hf_gland.train.setup import set_up


def forget_accelerator() -> None:
    """Accelerate keeps one state per process; a run with other settings needs a fresh one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def run_training(run: Path, settings: dict[str, Any], resume: bool = False, variant: str = "") -> Path:
    """A whole run with these settings; returns its folder."""
    forget_accelerator()
    config = make_config(settings, variant=variant)
    train(config, run, make_accelerator(config, run), resume=resume)
    return run


def prepare_training(run: Path, settings: dict[str, Any]) -> TrainingRun:
    """A run that is set up and has not taken a step."""
    forget_accelerator()
    config = make_config(settings)
    return set_up(config, run, make_accelerator(config, run), {})


def weights(run: Path, network: str = "teacher") -> dict[str, torch.Tensor]:
    """The released weights of a finished run: the teacher's, or the student's beside them."""
    return load_file(run / "model" / ("student" if network == "student" else "") / "model.safetensors")


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def read_records(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl as it is: one record per step, and one per validation."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def watch(patch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Note what the steps of a run really use, without changing it."""
    seen = SimpleNamespace(thresholds=[], decays=[], pseudo=[], refreshes=[], histograms=[], teachers=[])
    confident_labels, update_teacher = targets.confident_labels, loop.update_teacher
    step_loss, refresh = loop.step_loss, PseudoLabels.refresh

    def noting_labels(probabilities, thresholds):
        seen.thresholds.append(thresholds.tolist())
        return confident_labels(probabilities, thresholds)

    def noting_update(teacher, student, decay):
        update_teacher(teacher, student, decay)
        seen.decays.append(decay)
        seen.teachers.append((any(m.training for m in teacher.modules()),
                              any(p.requires_grad or p.grad is not None for p in teacher.parameters())))

    def noting_loss(logits, target, *others):
        seen.pseudo.append(target.pseudo.clone())
        return step_loss(logits, target, *others)

    def noting_refresh(pseudo_labels, *others):
        refresh(pseudo_labels, *others)
        seen.refreshes.append(len(seen.decays))
        seen.histograms.append(pseudo_labels.histograms)

    patch.setattr(targets, "confident_labels", noting_labels)
    patch.setattr(loop, "update_teacher", noting_update)
    patch.setattr(loop, "step_loss", noting_loss)
    patch.setattr(PseudoLabels, "refresh", noting_refresh)
    return seen


def watched_run(run: Path, settings: dict[str, Any]) -> SimpleNamespace:
    """A run, what it recorded, and what its steps used: `refreshes` in steps taken, the rest one per step."""
    with pytest.MonkeyPatch.context() as patch:
        seen = watch(patch)
        run_training(run, settings)
    return SimpleNamespace(run=run, records=read_records(run), **vars(seen))
