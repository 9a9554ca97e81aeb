"""Rerun the comparison of methods: a grid of variants × annotations × budgets × seeds, one command, resumable.

  python scripts/ablate.py --archive GLAS.zip --out runs/ablation --config bench --backbone nvidia/mit-b0 \\
      --variants ours sparse-only full --backgrounds rim+scribble --budgets 0.2 --seeds 0 1 2

  python scripts/ablate.py --archive GLAS.zip --out runs/folds --folds 5      patients that were never seen: their own table

Each cell is the build_dataset, train and evaluate command that a user would type, run one after the other; cells whose
result record is there already are skipped, so an interrupted grid goes on where it stopped. Records are kept in
OUT/results, or in --results; `python scripts/report.py --results OUT/results` makes OUT/report.md from them. A record of
another run is never replaced, unless --overwrite says so: those in hub_cards/results are what the README shows. One OUT
is for one --archive, --config, --backbone and --val-fraction.
"""

import argparse
import itertools
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from hf_gland.config import all_variants, listed
from hf_gland.data.split import fold_split
from hf_gland.evaluation.grids import other_settings
from hf_gland.evaluation.records import ResultError, read_results

SETTINGS = "ablation.json"  # in OUT: what all its cells have in common
USUAL_SPLITS = ["testA"]
SCRIPTS = Path(os.path.relpath(Path(__file__).parent))
VARIANTS = [name for name, variant in all_variants().items() if not variant.weights_of and not variant.needs]


@dataclass(frozen=True)
class Cell:
    """One training of the grid."""

    variant: str
    style: str
    background: str
    budget: str
    seed: int
    fold: int = 0  # 0: none is held out
    folds: int = 0

    @property
    def held_out(self) -> str:
        return f"_fold{self.fold}of{self.folds}" if self.fold else ""

    @property
    def dataset(self) -> str:
        """What its dataset is called: the annotation, and the fold that is held out."""
        return f"{self.style}-{self.background}-{self.budget}{self.held_out}"

    @property
    def name(self) -> str:
        return f"{self.variant}_{self.dataset}_seed{self.seed}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog=listed("variants", {name: all_variants()[name].title for name in VARIANTS}))
    parser.add_argument("--archive", type=Path, required=True, help="the official GlaS zip or folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for datasets, runs and logs")
    parser.add_argument("--results", type=Path, help="folder for the result records [OUT/results]")
    parser.add_argument("--overwrite", action="store_true", help="replace records of other runs in --results")
    parser.add_argument("--config", default="bench", help="recipe or settings file of every run [bench]")
    parser.add_argument("--backbone", help="Hub id or folder (default: the recipe's)")
    parser.add_argument("--variants", nargs="+", default=["ours", "sparse-only", "full"], choices=VARIANTS,
                        metavar="VARIANT", help="methods to train, listed below [ours sparse-only full]")
    styles, backgrounds = ("glands", "points", "scribbles", "roi", "images"), ("rim+scribble", "rim", "scribble", "none")
    parser.add_argument("--styles", nargs="+", default=["glands"], choices=styles, metavar="STYLE",
                        help=f"what is drawn of the glands: {', '.join(styles)} [glands]")
    parser.add_argument("--backgrounds", nargs="+", default=["rim+scribble"], choices=backgrounds, metavar="BACKGROUND",
                        help=f"how stroma is labelled: {', '.join(backgrounds)} [rim+scribble]")
    parser.add_argument("--budgets", nargs="+", default=["0.2"], metavar="BUDGET",
                        help="shares (0.2) or numbers (1) of glands per image; of images for the style images [0.2]")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="of the training [0]")
    parser.add_argument("--splits", nargs="+", default=USUAL_SPLITS, metavar="SPLIT", help="to measure on [testA]")
    parser.add_argument("--val-fraction", default="0", help="share of the train images held out by patient; 0 trains on "
                        "all, as the challenge does")
    parser.add_argument("--folds", type=int, default=0, metavar="N", help="instead of --splits: a training for each of N "
                        "folds of the train images by patient, measured on the patients that it did not see")
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time; they share the cores, unless HF_GLAND_THREADS "
                        "says how many threads each has [1]")
    parser.add_argument("--dry-run", action="store_true", help="only print the commands")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error("--jobs must be at least 1")
    if arguments.folds == 1 or arguments.folds < 0:
        parser.error("--folds must be at least 2")
    cells = distinct(Cell(*values, arguments.folds) for values in itertools.product(
        arguments.variants, arguments.styles, arguments.backgrounds, arguments.budgets, arguments.seeds,
        range(1, arguments.folds + 1) if arguments.folds else [0]))
    common = {name: getattr(arguments, name) for name in ("config", "backbone", "val_fraction")}
    common["archive"] = arguments.archive.name  # it may be elsewhere by now
    if not arguments.dry_run and (problem := other_settings(arguments.out / SETTINGS, common)):
        print(f"error: {problem}", file=sys.stderr)
        return 2
    for cell in cells if not arguments.dry_run else []:  # datasets first, so that parallel cells share them
        if not dataset_folder(arguments, cell).exists():
            message = execute(build_command(arguments, cell), arguments.out / "logs" / f"dataset_{cell.dataset}.log", {})
            if message:
                print(f"error: dataset {cell.dataset}: {message}", file=sys.stderr)
                return 2
    failed = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for cell, message in tqdm(zip(cells, pool.map(lambda c: run_cell(arguments, c), cells), strict=True),
                                  total=len(cells), desc="cells", unit="run"):
            if message:
                failed.append(cell.name)
                tqdm.write(f"{cell.name}: {message}", file=sys.stderr)
    if failed:
        print(f"error: {len(failed)} of {len(cells)} cells failed: {', '.join(failed)}", file=sys.stderr)
    return 2 if failed else 0


def distinct(cells: Iterable[Cell]) -> list[Cell]:
    """The cells without those that repeat another: a variant that learns from the dense masks alone, directly or by way of
    activation maps, is the same whatever is annotated, and runs with the first annotation."""
    found: dict[tuple, Cell] = {}
    for cell in cells:
        dense = uses_cam(cell) or all_variants()[cell.variant].settings.get("mode") == "full"
        found.setdefault((cell.variant, cell.seed, cell.fold, "" if dense else cell.dataset), cell)
    return list(found.values())


def run_cell(arguments: argparse.Namespace, cell: Cell) -> str:
    """Train and measure one cell; returns what went wrong, or nothing."""
    run = arguments.out / "runs" / cell.name
    measured = evaluation_folder(arguments, cell, run)
    steps = {run / "model": train_command(arguments, cell, run), measured: evaluate_command(arguments, cell, run)}
    if uses_cam(cell):
        steps = {cam_folder(arguments, cell): cam_command(arguments, cell), **steps}
    if arguments.dry_run:
        tqdm.write("\n".join(shlex.join(c) for c in [build_command(arguments, cell), *steps.values()]))
        return ""
    log = arguments.out / "logs" / f"{cell.name}.log"
    threads = os.environ.get("HF_GLAND_THREADS") or str(max((os.cpu_count() or 1) // arguments.jobs, 1))
    for done, command in steps.items():
        if not done.exists():
            message = execute(command, log, {"HF_GLAND_THREADS": threads})
            if message:
                return message
    try:
        for record in read_results(measured):  # the evaluation may have been for another --results
            record.write(results_folder(arguments), arguments.overwrite)
    except ResultError as error:
        return str(error)
    return ""


def results_folder(arguments: argparse.Namespace) -> Path:
    return arguments.results or arguments.out / "results"


def evaluation_folder(arguments: argparse.Namespace, cell: Cell, run: Path) -> Path:
    usual = cell.fold or arguments.splits == USUAL_SPLITS
    return run / ("evaluation" if usual else "_".join(["evaluation", *arguments.splits]))


def dataset_folder(arguments: argparse.Namespace, cell: Cell) -> Path:
    return arguments.out / "datasets" / cell.dataset


def uses_cam(cell: Cell) -> bool:
    """Whether it learns from activation maps, which scripts/cam.py makes first."""
    return all_variants()[cell.variant].trained_on == "cam"


def cam_folder(arguments: argparse.Namespace, cell: Cell) -> Path:
    return arguments.out / "datasets" / f"cam{cell.held_out}_seed{cell.seed}"


def cam_command(arguments: argparse.Namespace, cell: Cell) -> list[str]:
    return [sys.executable, str(SCRIPTS / "cam.py"), "--config", arguments.config, "--dataset",
            str(dataset_folder(arguments, cell)), "--out", str(cam_folder(arguments, cell)), "--seed", str(cell.seed),
            *(["--backbone", arguments.backbone] if arguments.backbone else [])]


def build_command(arguments: argparse.Namespace, cell: Cell) -> list[str]:
    return [sys.executable, str(SCRIPTS / "build_dataset.py"), "glas", "--archive", str(arguments.archive),
            "--out", str(dataset_folder(arguments, cell)), "--style", cell.style, "--background", cell.background,
            "--budget", cell.budget, "--val-fraction", arguments.val_fraction,
            *(["--fold", str(cell.fold), "--folds", str(cell.folds)] if cell.fold else [])]


def train_command(arguments: argparse.Namespace, cell: Cell, run: Path) -> list[str]:
    command = [sys.executable, str(SCRIPTS / "train.py"), "--config", arguments.config,
               "--variant", cell.variant,
               "--dataset", str((cam_folder if uses_cam(cell) else dataset_folder)(arguments, cell)),
               "--out", str(run), "--seed", str(cell.seed)]
    if arguments.backbone:
        command += ["--backbone", arguments.backbone]
    if arguments.val_fraction == "0":
        command += ["--validation_split", ""]
    full = all_variants()[cell.variant].settings.get("mode") == "full" or cell.style == "images"
    if cell.background == "none" and not uses_cam(cell) and not full:
        command += ["--warmup_background", "assume"]  # no stroma is labelled at all
    return command + (["--resume"] if has_checkpoint(run) else [])


def has_checkpoint(run: Path) -> bool:
    """Whether there is something to resume; asks without torch where there is not even a folder."""
    if not (run / "checkpoints").is_dir():
        return False
    from hf_gland.train.checkpoint import checkpoint_paths

    return bool(checkpoint_paths(run))


def evaluate_command(arguments: argparse.Namespace, cell: Cell, run: Path) -> list[str]:
    splits = [fold_split(cell.fold, cell.folds)] if cell.fold else arguments.splits
    return [sys.executable, str(SCRIPTS / "evaluate.py"), str(run / "model"), str(dataset_folder(arguments, cell)),
            "--split", *splits, "--out", str(evaluation_folder(arguments, cell, run)), "--variant", cell.variant,
            "--results", str(results_folder(arguments)),
            *(["--overwrite"] if arguments.overwrite else [])]


def execute(command: list[str], log: Path, environment: dict[str, str]) -> str:
    """Run a command with its output in `log`; returns why it failed, its last line and where the rest is, or nothing."""
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(log, "a") as file:
            subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, **environment})
    except subprocess.CalledProcessError as error:
        said = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
        return f"{said[-1] if said else error} (see {log})"
    return ""


if __name__ == "__main__":
    sys.exit(main())
