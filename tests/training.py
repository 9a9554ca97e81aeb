"""Train in the test's own process, and read what a run left behind."""

import json
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from hf_gland.config import make_config
from hf_gland.train.loop import Training, make_accelerator, train


def forget_accelerator() -> None:
    """Accelerate keeps one state per process; a run with other settings needs a fresh one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def run_training(run: Path, settings: dict[str, Any], resume: bool = False) -> Path:
    """A whole run with these settings; returns its folder."""
    forget_accelerator()
    config = make_config(settings)
    train(config, run, make_accelerator(config, run), resume=resume)
    return run


def prepare_training(run: Path, settings: dict[str, Any]) -> Training:
    """A run that is set up and has not taken a step."""
    forget_accelerator()
    config = make_config(settings)
    return Training(config, run, make_accelerator(config, run), {})


def weights(run: Path, network: str = "teacher") -> dict[str, torch.Tensor]:
    """The released weights of a finished run: the teacher's, or the student's beside them."""
    return load_file(run / "model" / ("student" if network == "student" else "") / "model.safetensors")


def same_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """Whether two state dicts are equal bit by bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def read_records(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl as it is: one record per step, and one per validation."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
