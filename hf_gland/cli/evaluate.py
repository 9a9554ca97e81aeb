"""Measure a saved model on one or more splits of a dataset.

  python scripts/evaluate.py runs/mine/model data/mine --out runs/mine/evaluation             its test splits
  python scripts/evaluate.py runs/glas/model data/glas-20 --split testA --out runs/glas/evaluation
  python scripts/evaluate.py runs/glas/model data/glas-20 --split testA testB --student --out runs/glas/student

For each split OUT gets a result record (JSON), a table per image (CSV), a reliability diagram and pictures of the
worst, the median and the best image; OUT/metrics.md is the table of all splits. Shares are 0-100, Hausdorff distances
pixels of the original image. Images without a dense mask are left out and counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_gland.cli.main import own_command
from hf_gland.files import replaced_folder, safe_name
from hf_gland.options import LEAST_GLAND_CONFIDENCE, MOST_VIEWS, VIEWS_HELP, PostProcessing, Tiling

if TYPE_CHECKING:  # --help answers without torch
    import datasets

    from hf_gland.evaluation.records import ResultRecord
    from hf_gland.evaluation.split import Measurement
    from hf_gland.inference.glands import GlandPrediction
    from hf_gland.inference.segmenter import GlandSegmenter

LONGEST_NAME = 60  # characters of a picture's name; file systems take 255 bytes
WITHOUT_IDS = ("\nObject figures: the true glands are the connected regions of the masks, as the data have no gland ids; "
               "glands that touch count as one.\n")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder, such as RUN/model")
    parser.add_argument("dataset", help="dataset folder or Hub id")
    parser.add_argument("--split", nargs="+", help="splits to measure on [those with dense masks whose names begin with "
                        "test; where there are none, validation]")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--overwrite", action="store_true",
                        help="replace --out if it is an evaluation already, and records of other runs in --results")
    parser.add_argument("--results", type=Path, help="also keep the result records in this folder, for scripts/report.py")
    parser.add_argument("--student", action="store_true", help="measure the student instead of the teacher")
    parser.add_argument("--views", type=int, choices=range(1, MOST_VIEWS + 1), default=1, help=f"{VIEWS_HELP} [1]")
    parser.add_argument("--keep-stain", action="store_true",
                        help="show the network what is unlike the training images as it is stained, not in their stain")
    parser.add_argument("--keep-joined", action="store_true",
                        help="one gland per connected region, even where several sure cores lie in it")
    parser.add_argument("--min-confidence", type=float, metavar="CONFIDENCE", help="leave out glands over whose pixels the "
                        f"probability of gland has a lower mean [{LEAST_GLAND_CONFIDENCE:g}]; 0 keeps all")
    parser.add_argument("--variant", help="name of the method in tables [from the training settings]")
    parser.add_argument("--device", help="such as cpu or cuda:0 [a GPU if there is one]")
    parser.add_argument("--bootstrap", type=int, default=1000, metavar="N",
                        help="resamples of the images behind the 95 %% intervals, 0 for none [%(default)s]")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from hf_gland.data.training_data import open_dataset, pick_split
    from hf_gland.environment import hardware
    from hf_gland.evaluation.result_table import class_table, markdown_table
    from hf_gland.evaluation.split import Measurement, result_record, rows_with_truth, training_notes
    from hf_gland.inference.segmenter import GlandSegmenter
    from hf_gland.metrics.keys import CLEANED, MEASURED
    from hf_gland.model.cpu import make_fast
    from hf_gland.model.identity import check_class_names
    from hf_gland.model.precision import precision_name, resolve_precision

    check_out(arguments)
    make_fast()
    settings, notes = training_notes(arguments.model)
    splits, provenance = open_dataset(arguments.dataset)
    names = chosen_splits(splits, arguments.split, arguments.dataset, settings["train_split"])
    rows = {name: rows_with_truth(pick_split(splits, name, arguments.dataset), f"{arguments.dataset}: split '{name}'")
            for name in names}
    without_mask = {name: len(splits[name]) - len(rows[name]) for name in names}
    for name, count in without_mask.items():
        if count:
            print(f"note: {count} of the {len(splits[name])} images of '{name}' have no dense mask and are left out",
                  file=sys.stderr)
    segmenter = GlandSegmenter.from_pretrained(arguments.model, device=arguments.device,
                                               subfolder="student" if arguments.student else None)
    check_class_names(segmenter.class_names, provenance["class_names"], f"{arguments.model} on {arguments.dataset}")
    shift = provenance.get("sources", {}).get("stain_shift")
    measured = {name: Measurement(
        f"{name}@stain{shift:g}" if shift else name, provenance["data_sha256"], arguments.variant or notes["variant"],
        own_command(), "student" if arguments.student else "teacher",
        Tiling(views=arguments.views, match_stain=not arguments.keep_stain),
        PostProcessing(split_touching=not arguments.keep_joined, min_gland_confidence=arguments.min_confidence),
        segmenter.temperature, hardware(str(segmenter.device)),
        precision_name(resolve_precision(segmenter.device)), without_mask[name], provenance["source"],
        say_assumption(segmenter, rows[name], name), trained_on(notes, rows[name], name)) for name in names}
    if provenance["source"] != notes["data"]["source"]:
        print(f"note: the model was trained on {notes['data']['source']} and is measured on {provenance['source']}; records "
              "name both", file=sys.stderr)
    if arguments.results is not None and not arguments.overwrite:
        for measurement in measured.values():
            result_record(arguments.model, measurement, {}).check_place(arguments.results)  # before the work, not after
    with replaced_folder(arguments.out) as part:
        records = [measure(arguments, segmenter, rows[name], name, measured[name], part) for name in names]
        table = markdown_table(records, (*MEASURED, *CLEANED), ("variant", "style", "budget", "test_split"))
        if by_class := class_table(records, segmenter.class_names):
            table += f"\n{by_class}"
        table += WITHOUT_IDS if any("regions" in record.unusual for record in records) else ""
        (part / "metrics.md").write_text(table + "\n", "utf-8")
        if arguments.results is not None:
            for record in records:
                record.write(arguments.results, arguments.overwrite)
    print(table)
    print(f"written to {arguments.out}")


def say_assumption(segmenter: GlandSegmenter, rows: datasets.Dataset, split: str) -> int:
    """How many rows state no pixel size, while the model has one; what is assumed of them goes to stderr."""
    unknown = 0 if segmenter.missing_mpp is None else rows.data["mpp"].null_count
    if unknown:
        print(f"note: {unknown} of the {len(rows)} images of '{split}' state no pixel size: {segmenter.assumption()}",
              file=sys.stderr)
    return unknown


def trained_on(notes: dict[str, Any], rows: datasets.Dataset, split: str) -> int:
    """How many patients of a split the model has been trained on, as far as its notes tell, with a note to stderr."""
    from hf_gland.data.digest import patients_trained_on

    known, patients = patients_trained_on(rows, [notes, *notes.get("continued_from", [])])
    if known:
        print(f"note: {known} of the {patients} patients of '{split}' were trained on, so that its figures flatter",
              file=sys.stderr)
    return known


def check_out(arguments: argparse.Namespace) -> None:
    """Raise OSError or ValueError where the options would replace what they should not."""
    out: Path = arguments.out
    if out.exists() and not arguments.overwrite:
        raise FileExistsError(f"{out}: exists already; give another --out, or --overwrite to replace it")
    if out.exists() and any(out.iterdir()) and not (out / "metrics.md").is_file():
        raise FileExistsError(f"{out}: is not an evaluation (no metrics.md), so it is not replaced; give another --out")
    usual = {"student": False, "views": 1, "keep-stain": False, "keep-joined": False, "min-confidence": None}
    unusual = [f"--{name}" for name, value in usual.items() if getattr(arguments, name.replace("-", "_")) != value]
    if unusual and arguments.results is not None and not arguments.variant:
        raise ValueError(f"--results with {' and '.join(unusual)} needs --variant: under its own name the record would take "
                         "the place of the usual measurement")


def chosen_splits(splits: datasets.DatasetDict, asked: list[str] | None, dataset: str, trained_on: str) -> list[str]:
    """The splits to measure on: those asked for, or the test splits, or validation; notes go to stderr.

    Raises EvaluationError where none was asked for and there is neither.
    """
    from hf_gland.data.training_data import held_out_splits
    from hf_gland.evaluation.split import EvaluationError

    tests = [name for name in splits if name.startswith("test")]
    chosen = list(dict.fromkeys(asked or [])) or held_out_splits(splits)
    if not asked and chosen == ["validation"]:
        print(f"note: {dataset} has no test split{' with dense masks' if tests else ''}; its validation split is measured, "
              "which is a fair measure as long as no setting was chosen by it", file=sys.stderr)
    chosen = chosen or tests or [name for name in splits if name == "validation"]
    if not chosen:
        raise EvaluationError(f"{dataset}: has neither a test nor a validation split, only {', '.join(splits)}. Hold "
                              "patients out when you build it (build_dataset --val-fraction 0.2), or name one with --split")
    if trained_on in chosen:
        print(f"note: the model was trained on '{trained_on}', so that it does better there than elsewhere", file=sys.stderr)
    return chosen


def measure(arguments: argparse.Namespace, segmenter: GlandSegmenter, rows: datasets.Dataset, split: str,
            measured: Measurement, out: Path) -> ResultRecord:
    """Predict and score one split; its files go into `out`."""
    import pandas as pd

    from hf_gland.evaluation.figures import draw_reliability
    from hf_gland.evaluation.split import evaluate_rows, result_record
    from hf_gland.export.overlay import write_comparison

    kept: list[GlandPrediction] = []
    with tempfile.TemporaryDirectory() as folder:
        def keep(found: GlandPrediction) -> None:
            """On disk, as nobody knows yet which are the worst, the median and the best."""
            maps: dict[str, Any] = {name: on_disk(getattr(found, name), Path(folder, f"{len(kept)}-{name}.npy"))
                                    for name in ("class_map", "confidence", "instances")}
            kept.append(dataclasses.replace(found, probabilities=np.empty(0), **maps))

        evaluator = evaluate_rows(segmenter, rows, measured.tiling, measured.post, bootstrap=arguments.bootstrap, name=split,
                                  keep=keep)
        record = result_record(arguments.model, measured, evaluator.compute())
        record.write(out)
        per_image = pd.DataFrame(evaluator.per_image())
        per_image.to_csv(out / f"{split}_per_image.csv", index=False)
        if record.metrics["reliability"]:
            draw_reliability(record.metrics["reliability"], out / f"{split}_reliability.png", split)
        order = per_image["mIoU"].fillna(-1).argsort()
        for word, index in zip(("worst", "median", "best"), order.iloc[[0, len(order) // 2, -1]], strict=True):
            row = rows[int(index)]
            name = safe_name(f"{split}_{word}_{row['image_id']}")[:LONGEST_NAME]
            write_comparison(out / f"{name}.png", np.asarray(row["image"].convert("RGB")),
                             np.asarray(row["mask"]), kept[index],
                             None if row["instances"] is None else np.asarray(row["instances"]))
    return record


def on_disk(array: np.ndarray, path: Path) -> np.ndarray:
    """The array, out of memory until it is read."""
    np.save(path, array)
    return np.load(path, mmap_mode="r")
