"""Time one thing against another, side by side in one run, because timings on a shared machine drift.

  python scripts/benchmark.py step --config bench --dataset DATASET --out refined_step.json

step: a refined training step (fusion with the pseudo-mask bank, teacher update) against a supervised step of the same
loop: alone, with the recipe's bank refreshes shared out over the refined steps, and over a whole run, warm-up included.
Blocks of both alternate; each ratio is the median over pairs of blocks, with the lowest and the highest beside it.
"""

import argparse
import dataclasses
import json
import os
import shlex
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: busy-waiting threads starve each other

import torch
from tqdm import tqdm

from hf_gland.config import TrainConfig, add_settings, config_from_arguments
from hf_gland.metrics.environment import git_commit, hardware
from hf_gland.model.cpu import keep_freed_memory, use_all_cores
from hf_gland.refine import schedules
from hf_gland.train.loop import Training, make_accelerator

BLOCKS, BLOCK_STEPS, REFRESH_REPEATS = 8, 5, 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    step = commands.add_parser("step", help="refined against supervised training step")
    step.add_argument("--config", help="recipe or settings file")
    step.add_argument("--out", type=Path, required=True, help="JSON to write")
    add_settings(step.add_argument_group("settings [default]"))
    arguments = parser.parse_args()
    keep_freed_memory()
    use_all_cores()
    try:
        config = config_from_arguments(arguments, arguments.config)
        figures = step_ratio(config)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    figures |= {"command": shlex.join(["python", *sys.argv]), "commit": git_commit(), "hardware": hardware(),
                "threads": torch.get_num_threads()}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))
    return 0


def step_ratio(config: TrainConfig) -> dict:
    """Seconds of a supervised and of a refined step, of a refresh, and the amortised ratio with its spread."""
    # All steps after warm-up; the supervised run takes the same crops with the sparse labels alone.
    refined = dataclasses.replace(config, mode="refined", tracker="none", save_every=0, warmup_fraction=0.0)
    supervised = dataclasses.replace(refined, mode="sparse-only")
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for name, settings in (("supervised", supervised), ("refined", refined)):
            run = Path(folder) / name
            runs[name] = Training(settings, run, make_accelerator(settings, run), {"recipe": "benchmark"})
        refresh_seconds = [seconds(runs["refined"].refresh) for _ in range(REFRESH_REPEATS + 1)][1:]
        batches = {name: run.batches(config.steps) for name, run in runs.items()}
        blocks: dict[str, list[float]] = {name: [] for name in runs}
        for block in tqdm(range(BLOCKS + 1), desc="timing", unit="block"):
            for name in sorted(runs, reverse=block % 2 == 0):
                took = seconds(lambda name=name: [runs[name].step(batches[name]) for _ in range(BLOCK_STEPS)])
                if block:  # the first one warms up
                    blocks[name].append(took / BLOCK_STEPS)
    warmup = schedules.warmup_steps(config.steps, config.warmup_fraction)
    refreshes = len(schedules.refresh_steps(warmup, config.steps, config.refreshes, config.refresh_growth))
    refreshing = refreshes * statistics.median(refresh_seconds)
    pairs = list(zip(blocks["refined"], blocks["supervised"], strict=True))
    per_run = [(warmup * s + (config.steps - warmup) * r + refreshing) / (config.steps * s) for r, s in pairs]
    per_step = [(r + refreshing / (config.steps - warmup)) / s for r, s in pairs]
    return {"benchmark": "refined step against supervised step", "dataset": runs["refined"].note["data"]["source"],
            "data_sha256": runs["refined"].note["data"]["data_sha256"], "steps": config.steps,
            "refined_steps": config.steps - warmup, "refreshes": refreshes,
            "supervised_step_s": blocks["supervised"], "refined_step_s": blocks["refined"],
            "refresh_s": refresh_seconds,
            "ratio_of_steps_alone": spread([r / s for r, s in pairs]),
            "ratio_of_refined_steps_with_refreshes": spread(per_step),
            "ratio_of_whole_runs": spread(per_run)}


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}


def seconds(action) -> float:  # type: ignore[no-untyped-def]
    """Wall-clock time of a call, the device's queue emptied before and after."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    sys.exit(main())
