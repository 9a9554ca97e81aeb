"""Does it pay to ask the model where to outline next? A simulated annotator, budget by budget, against random choices.

  python scripts/build_dataset.py glas --archive GLAS.zip --style full --val-fraction 0 --out data/glas-full
  python scripts/annotation_curve.py --dataset data/glas-full --out runs/curve --config bench --seeds 0 1 2

The annotator knows the dense truth of the train split and spends each budget, a share of all its glands, in three ways:
`random` glands; `one-per-image`, random too, but each image gets one before any gets a second; `suggested`, the first budget
is that of one-per-image, each further one where the model of the budget before is expected to change most (as hf-gland
suggest). A place that turns out to be no gland is labelled as stroma and costs as much. Every point is a training of its own
by the recipe, from the encoder; --train-options shortens it. What is done is not done again, so an interrupted grid goes on
where it stopped. One OUT is for one --dataset, --config, --backbone, --train-options and --split.

--record is written after every point: budgets, mIoU and object F1 by choice and seed (null: still to come), and the area
under each curve of mIoU.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hf_gland.errors import DatasetError
from hf_gland.evaluation.grids import other_settings

SETTINGS = "curve.json"  # in OUT: what all its trainings have in common
SCRIPTS = Path(os.path.relpath(Path(__file__).parent))
CHOICES = ("random", "one-per-image", "suggested")
ABOUT = ("A simulated annotator outlines a rising share of all glands, each with a ring and strokes of stroma: glands at "
         "random; at random, but one in each image first; or where the model of the budget before is expected to change "
         "most (the first budget as one-per-image). Every point is a training of its own.")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, required=True, help="made by build_dataset with --style full")
    parser.add_argument("--out", type=Path, required=True, help="folder for datasets, runs and logs")
    parser.add_argument("--record", type=Path, help="JSON of the curves, its plot beside it [OUT/suggestions.json]")
    parser.add_argument("--config", default="bench", help="recipe or settings file of every training [bench]")
    parser.add_argument("--backbone", help="Hub id or folder [the recipe's]")
    parser.add_argument("--train-options", type=shlex.split, default=[], metavar="'--NAME VALUE …'",
                        help="settings that every training overrules, in one word: '--steps 200 --mpp 1.24'")
    parser.add_argument("--budgets", nargs="+", type=float, default=[0.02, 0.05, 0.1, 0.2],
                        help="rising shares of all glands")
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--split", default="testA", help="to measure on [testA]")
    arguments = parser.parse_args()
    from hf_gland.data.build import load_provenance

    if sorted(set(arguments.budgets)) != arguments.budgets or not 0 < arguments.budgets[0] <= arguments.budgets[-1] <= 1:
        parser.error("--budgets must be rising shares above 0 and up to 1")
    try:
        data = load_provenance(arguments.dataset).get("data_sha256", "unknown")
        common = {name: getattr(arguments, name) for name in ("config", "backbone", "split")}
        problem = other_settings(arguments.out / SETTINGS, common | {
            "train_options": shlex.join(arguments.train_options), "dataset": f"with checksum {data[:16]}"})
    except DatasetError as error:
        problem = str(error)
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    failed = []
    for seed in arguments.seeds:
        for choice in arguments.choices:
            try:
                run_choice(arguments, choice, seed)
            except subprocess.CalledProcessError as error:
                failed.append(f"{choice}, seed {seed}")
                print(f"error: {failed[-1]}: {shlex.join(map(str, error.cmd))} failed; see {arguments.out / 'logs'}",
                      file=sys.stderr)
    print(f"written to {write_record(arguments)}")
    return 2 if failed else 0


def run_choice(arguments: argparse.Namespace, choice: str, seed: int) -> None:
    """All budgets of one way of choosing, each drawn on top of the one before; raises CalledProcessError."""
    from hf_gland.data.annotator import Drawn, budget_marks, glands_of, random_order, spread_order
    from hf_gland.data.build import load_local

    rows = load_local(arguments.dataset)["train"]
    truth = {row["image_id"]: np.asarray(row["instances"]) for row in rows}
    glands = [gland for image_id, instances in truth.items() for gland in glands_of(instances, image_id)]
    order = (random_order if choice == "random" else spread_order)(glands, seed)
    before: Path | None = None
    drawn = Drawn()
    for number, marks in enumerate(budget_marks(arguments.budgets, len(glands)), start=1):
        cell = cell_folder(arguments, choice, seed, number)
        picks = cell / "picks.json"
        if picks.exists():
            found = json.loads(picks.read_text("utf-8"))
            drawn = Drawn([(image, gland) for image, gland in found["glands"]], [tuple(box) for box in found["stroma"]])
        else:
            if choice == "suggested" and before is not None:
                suggest_more(drawn, rows, truth, before, marks, number, seed)
            else:
                drawn = Drawn(order[:marks])
            cell.mkdir(parents=True, exist_ok=True)
            picks.write_text(json.dumps({"glands": drawn.glands, "stroma": drawn.stroma}), "utf-8")
        train_and_measure(arguments, drawn, rows, cell, seed)
        before = cell / "run" / "model"
        write_record(arguments)


def suggest_more(drawn: Any, rows: Any, truth: dict[str, np.ndarray], model: Path, marks: int, number: int,
                 seed: int) -> None:
    """Ask the model of the budget before until `marks` are drawn, all in one round."""
    from hf_gland.data.annotator import annotation_of, answer
    from hf_gland.data.sparsify import SparsifyConfig
    from hf_gland.inference.segmenter import GlandSegmenter
    from hf_gland.inference.suggest import EVERY_GLAND, choose, noise_of_round, places_of, uncertainty

    segmenter, places = GlandSegmenter.from_pretrained(model), []
    for row in rows:
        image_id, mask = row["image_id"], np.asarray(row["mask"])
        found = segmenter.predict(np.asarray(row["image"].convert("RGB")), row["mpp"], post=EVERY_GLAND, name=image_id)
        labelled = annotation_of(drawn, image_id, mask, truth[image_id], SparsifyConfig(background="none"), seed).mask != 255
        places += places_of(uncertainty(found.confidence, len(found.id2label)), found.class_map, found.instances, labelled,
                            image=image_id, grade=row["grade"])
    chosen = choose(places, marks - drawn.marks, noise=noise_of_round(number - 1), seed=seed + number)
    for place in chosen:
        answer(drawn, place.image, place.left, place.top, place.region, truth[place.image])


def train_and_measure(arguments: argparse.Namespace, drawn: Any, rows: Any, cell: Path, seed: int) -> None:
    """One point of the curve, as far as it is not there; raises CalledProcessError."""
    from hf_gland.data.annotator import annotation_of
    from hf_gland.data.build import About, build_dataset, load_provenance
    from hf_gland.data.sample import Sample
    from hf_gland.data.sparsify import SparsifyConfig

    data, run = cell / "dataset", cell / "run"
    if not data.exists():
        about = load_provenance(arguments.dataset)

        def annotated() -> Any:
            for row in rows:
                mask, instances = np.asarray(row["mask"]), np.asarray(row["instances"])
                sample = Sample(np.asarray(row["image"].convert("RGB")), mask, instances, row["image_id"], row["patient_id"],
                                row["source"], row["grade"], row["mpp"])
                yield sample, annotation_of(drawn, row["image_id"], mask, instances, SparsifyConfig(), seed)

        build_dataset({"train": annotated()}, data, About(about["class_names"], about["source"], about["licence"],
                                                          {"style": "as-is"}, seed))
    log, backbone = arguments.out / "logs" / f"{cell.name}.log", arguments.backbone
    if not (run / "model").exists():
        execute([sys.executable, str(SCRIPTS / "train.py"), "--config", arguments.config, "--dataset", str(data), "--out",
                 str(run), "--seed", str(seed), "--validation_split", "", *(["--backbone", backbone] if backbone else []),
                 *arguments.train_options, *(["--resume"] if any(run.glob("checkpoints/step-*")) else [])], log)
    if not (cell / "evaluation").exists():
        execute([sys.executable, str(SCRIPTS / "evaluate.py"), str(run / "model"), str(arguments.dataset), "--split",
                 arguments.split, "--out", str(cell / "evaluation"), "--variant", cell.name], log)


def cell_folder(arguments: argparse.Namespace, choice: str, seed: int, number: int) -> Path:
    """Of budget 1, 2, …; the first one of `suggested` is that of `one-per-image`, there being no model to ask yet."""
    shared = choice == "suggested" and number == 1
    return Path(arguments.out / f"{CHOICES[1] if shared else choice}_{arguments.budgets[number - 1]:g}_seed{seed}")


def execute(command: list[str], log: Path) -> None:
    """Run a command with its output in `log`; raises CalledProcessError."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a") as file:
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.STDOUT)


def write_record(arguments: argparse.Namespace) -> Path:
    """What is measured by now, and, of the choices of which all is, the area under the curves; with a plot beside it."""
    from hf_gland.data.annotator import spread_of
    from hf_gland.evaluation.figures import draw_budget_curves
    from hf_gland.files import write_atomically

    def point(choice: str, seed: int, number: int) -> dict[str, Any] | None:
        found = sorted((cell_folder(arguments, choice, seed, number) / "evaluation").glob("*_seed*.json"))
        return json.loads(found[0].read_text("utf-8")) if found else None

    numbers = range(1, len(arguments.budgets) + 1)
    points = {choice: [[point(choice, seed, number) for number in numbers] for seed in arguments.seeds]
              for choice in arguments.choices}
    known = [found for rows in points.values() for row in rows for found in row if found]

    def scores(name: str) -> dict[str, list[list[float | None]]]:
        return {choice: [[round(found["metrics"][name], 3) if found else None for found in row] for row in rows]
                for choice, rows in points.items()}

    def facts(name: str) -> list[Any]:
        return [json.loads(text) for text in sorted({json.dumps(found[name]) for found in known})]

    rows = scores("mIoU")
    whole = {choice: seeds for choice, seeds in rows.items() if all(None not in row for row in seeds)}
    record = {"benchmark": "which glands to outline next", "about": ABOUT, "budgets": arguments.budgets, "mIoU": rows,
              "object_f1": scores("object_f1"),
              "area_under_the_curve": spread_of(whole, arguments.budgets), "seeds": arguments.seeds,  # type: ignore[arg-type]
              "recipe": Path(arguments.config).stem, "train_options": shlex.join(arguments.train_options),
              "split": arguments.split, "command": shlex.join(["python", *sys.argv]),
              **{name: facts(name) for name in ("commit", "hardware", "precision", "versions", "test_data_sha256")}}
    path: Path = arguments.record or arguments.out / "suggestions.json"
    write_atomically(path, lambda file: file.write(json.dumps(record, indent=2).encode() + b"\n"))
    draw_budget_curves(record, path.with_suffix(".png"))
    return path


if __name__ == "__main__":
    sys.exit(main())
