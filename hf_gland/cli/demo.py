"""Synthetic tissue → sparse dataset → training → figures and pictures: the whole way, with nothing to download.

  hf-gland demo                 into runs/demo, 10 to 15 minutes on two CPU cores
  hf-gland demo --steps 50      to see it work; the model will be poor
"""

import argparse
import shutil
from pathlib import Path

from hf_gland.errors import HfGlandError

INTERRUPTED = "stopped; run it again to start afresh"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="folder to write [%(default)s]")
    parser.add_argument("--images", type=int, metavar="N", help="images per split [the generator's]")
    parser.add_argument("--steps", type=int, metavar="N", help="training steps [the demo recipe's]")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from hf_gland.cli.main import run_command

    out: Path = arguments.out
    run_folder = out / "run"
    if run_folder.exists() and not (run_folder / "training_config.json").is_file():
        raise HfGlandError(f"{run_folder}: holds something else than a training, which would be lost; give another --out")
    shutil.rmtree(run_folder, ignore_errors=True)
    dataset, model, evaluation = str(out / "dataset"), str(run_folder / "model"), str(out / "evaluation")
    steps = [] if arguments.steps is None else ["--steps", str(arguments.steps)]
    images = [] if arguments.images is None else ["--images", str(arguments.images)]
    for name, words in (
            ("build_dataset", ["synthetic", "--out", dataset, "--overwrite", *images]),
            ("train", ["--config", "demo", "--dataset", dataset, "--out", str(run_folder), *steps]),
            ("evaluate", [model, dataset, "--split", "test", "test_shifted", "--out", evaluation, "--overwrite"])):
        status = run_command(name, words, f"hf-gland {name}")
        if status:
            return status
    print(f"pictures and tables: {evaluation}; the model: {model}")
    return 0
