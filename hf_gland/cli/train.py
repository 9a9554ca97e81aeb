"""Train a gland segmentation model from sparse labels.

  python scripts/train.py --config bench --dataset DATASET --out runs/first
  python scripts/train.py --config bench --dataset DATASET --out runs/first --resume
  torchrun --nproc-per-node 2 scripts/train.py --config bench --dataset DATASET --out runs/two

  python scripts/train.py --config round --backbone runs/first/model --dataset WITH_MORE_OUTLINES --out runs/second

`accelerate launch scripts/train.py …` does the same; with -q, an error of ours is the last that it shows.
--config names a .toml or .json file of settings, or a recipe that ships with the package; every setting can be given
as --key value as well, by its short name or its place, with dashes or underscores (--threshold_start, --threshold-start,
--method.threshold.start), and wins over the file. RUN/model is a plain transformers repository when it is done.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_gland.cli.main import own_command
from hf_gland.config import Parser, add_settings, config_from_arguments, recipe_name
from hf_gland.errors import HfGlandError
from hf_gland.metrics.keys import PIXEL

if TYPE_CHECKING:  # --help answers without torch
    from hf_gland.config import TrainConfig
    from hf_gland.train.run import Callback

INTERRUPTED = "stopped outside the steps; nothing was saved since the last checkpoint"


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", metavar="FILE_OR_RECIPE",
                        help="settings to start from: a file, or one of the recipes at the end [none]")
    parser.add_argument("--out", required=True, metavar="RUN", type=Path,
                        help="folder for checkpoints, logs and the model")
    parser.add_argument("--resume", action="store_true", help="continue RUN from its last whole checkpoint")
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME",
                        help="send checkpoints and the model to this Hub repository while training goes on; a slow or "
                        "absent Hub never stops a run")
    parser.add_argument("--private", action="store_true", help="make that repository private")
    add_settings(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    config = config_from_arguments(arguments, arguments.config)  # before torch is loaded: a mistake is said at once
    from hf_gland.environment import hardware
    from hf_gland.model.cpu import make_fast
    from hf_gland.model.precision import precision_in_words
    from hf_gland.train.accelerator import make_accelerator
    from hf_gland.train.loop import Interrupted, train

    make_fast()
    accelerator = make_accelerator(config, arguments.out)
    if accelerator.is_main_process:
        print(f"training on {hardware(str(accelerator.device))}, in "
              f"{precision_in_words(accelerator.device, config.optim.mixed_precision)}", flush=True)
    note = {"command": own_command(), "recipe": recipe_name(arguments.config)}
    try:
        train(config, arguments.out, accelerator, resume=arguments.resume, note=note,
              callbacks=[summary(), *pushing(arguments)])
    except Interrupted as stopped:
        if accelerator.is_main_process:
            print(stopped, file=sys.stderr)
        return 130
    return 0


def pushing(arguments: argparse.Namespace) -> list[Callback]:
    """What sends checkpoints and model to the Hub, if that is asked for."""
    from hf_gland.hub.pusher import CheckpointPusher
    from hf_gland.train.run import Callback, TrainingRun

    if not arguments.push_to_hub:
        if arguments.private:
            raise HfGlandError("--private is of the repository that --push-to-hub names; give both")
        return []
    pusher = CheckpointPusher(arguments.push_to_hub, arguments.out, private=arguments.private)

    class Push(Callback):
        def on_start(self, run: TrainingRun) -> None:
            pusher.start()

        def on_checkpoint(self, run: TrainingRun, checkpoint: Path) -> None:
            pusher.on_checkpoint(checkpoint)

        def on_stop(self, run: TrainingRun) -> None:
            pusher.on_interrupt()

        def on_end(self, run: TrainingRun, model: Path) -> None:
            pusher.on_finish(model)

    return [Push()]


def summary() -> Callback:
    """What prints how a run ended, and how to go on."""
    from hf_gland.train.run import Callback, TrainingRun

    class Summary(Callback):
        def on_end(self, run: TrainingRun, model: Path) -> None:
            notes = json.loads((model / "training_metrics.json").read_text("utf-8"))
            print("\n".join(ending(run.config, run.folder, notes, run.data.measurable)), flush=True)

    return Summary()


def ending(config: TrainConfig, run: Path, notes: dict[str, Any], measurable: bool) -> list[str]:
    """Lines on a finished run: its scores, where its files lie and how to open them, and the next commands.

    `notes`: those of its model's training_metrics.json; `measurable`: whether its dataset has a split to evaluate it on.
    """
    def scores(prefix: str) -> str:
        return ", ".join(f"{key} {notes[prefix + key]:.1f}" for key in PIXEL if notes.get(prefix + key) is not None)

    def script(name: str, *words: object) -> str:
        program = ["python", f"scripts/{name}.py"] if sys.argv[0].endswith("train.py") else ["hf-gland", name]
        return shlex.join([*program, *map(str, words)])

    seconds, right = round(notes["train_seconds"]), notes.get("pseudo_accuracy")
    lines = [f"trained {config.optim.steps} steps in {seconds // 60} min {seconds % 60} s; the last one: loss "
             f"{notes['loss']:.3f}" + (f", {100 * notes['coverage']:.0f} % of the crops' pixels with a pseudo-label" + (
                 "" if right is None else f", {100 * right:.0f} % of them right") if notes["coverage"] else "")]
    lines += [f"validation on {what}: {scores(prefix)}" for what, prefix in (
        ("the labelled pixels", "validation_"), ("all pixels", "validation_dense_")) if scores(prefix)]
    before, after = notes.get("start_validation_mIoU"), notes.get("validation_mIoU")
    if before is not None and after is not None:
        lines.append(f"the model it went on from, on the same labelled pixels: mIoU {before:.1f}")
        if after < before:
            lines.append(f"warning: this model is worse than that by {before - after:.1f} points; keep "
                         f"{config.model.backbone}, or go on with more outlines or another --seed")
    if "validation_step" not in notes:
        from hf_gland.train.setup import is_trained_here

        lines.append("validation: none, as no split was held out for it" + (
            "; nothing says whether this model is better than the one that it went on from"
            if is_trained_here(config.model.backbone) else ""))
    elif after is None and not scores("validation_dense_"):
        lines.append(f"validation: no pixel of '{config.data.validation_split}' is labelled, so nothing was measured")
    if (run / "panels").is_dir():
        lines.append(f"pictures of crops, labels, what was learned from them and predictions: {run / 'panels'}")
    if config.run.tracker == "tensorboard":
        lines.append(f"curves: {shlex.join(['tensorboard', '--logdir', str(run / 'tracking')])}")
    lines += [f"every step: {run / 'metrics.jsonl'}", f"model written to {run / 'model'}"]
    if measurable:
        lines.append(f"next: {script('evaluate', run / 'model', config.data.dataset, '--out', run / 'evaluation')}")
    then = "and" if measurable else "next"
    lines.append(f"{then}: {script('predict', 'IMAGES', '--model', run / 'model', '--out', 'out')}")
    return lines
