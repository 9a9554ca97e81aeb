"""Measure a saved model on one or more splits of a dataset.

  python scripts/evaluate.py runs/first/model DATASET --split testA --out runs/first/evaluation
  python scripts/evaluate.py runs/first/model DATASET --split testA testB --student --out runs/first/student

For each split OUT gets a result record (JSON), a table per image (CSV), a reliability diagram and pictures of the
worst, the median and the best image; OUT/metrics.md is the table of all splits. Shares are 0-100, Hausdorff distances
pixels of the original image.
"""

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from hf_gland.data.training_data import open_dataset, pick_split
from hf_gland.errors import DatasetError
from hf_gland.evaluation.records import ResultError
from hf_gland.evaluation.result_table import markdown_table
from hf_gland.evaluation.split import EvaluationError, evaluate_rows, result_record, training_notes
from hf_gland.export.overlay import write_comparison
from hf_gland.inference.segmenter import GlandSegmenter, ModelError
from hf_gland.metrics.keys import MEASURED
from hf_gland.metrics.reliability_diagram import reliability_diagram
from hf_gland.model.cpu import keep_freed_memory, use_all_cores
from hf_gland.options import PostProcessing, Tiling


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model folder, such as RUN/model")
    parser.add_argument("dataset", help="dataset folder or Hub id")
    parser.add_argument("--split", nargs="+", required=True, help="splits to measure on")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    parser.add_argument("--results", type=Path, help="also keep the result records in this folder")
    parser.add_argument("--student", action="store_true", help="measure the student instead of the teacher")
    parser.add_argument("--flips", action="store_true", help="average over four mirrored views (four times the work)")
    parser.add_argument("--keep-joined", action="store_true",
                        help="one gland per connected region, even where several sure cores lie in it")
    parser.add_argument("--variant", help="name of the method in tables (default: from the training settings)")
    parser.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one)")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples behind the 95 %% intervals [1000]")
    arguments = parser.parse_args()
    keep_freed_memory()
    use_all_cores()
    try:
        run(arguments)
    except (ModelError, DatasetError, EvaluationError, ResultError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def run(arguments: argparse.Namespace) -> None:
    if arguments.out.exists() and not arguments.overwrite:
        raise FileExistsError(f"{arguments.out}: exists already; give another --out, or --overwrite to replace it")
    unusual = [f"--{name}" for name in ("student", "flips", "keep-joined") if getattr(arguments, name.replace("-", "_"))]
    if unusual and arguments.results is not None and not arguments.variant:
        raise ValueError(f"--results with {' and '.join(unusual)} needs --variant: under its own name the record would take "
                         "the place of the usual measurement")
    _, notes = training_notes(arguments.model)
    splits, provenance = open_dataset(arguments.dataset)
    segmenter = GlandSegmenter.from_pretrained(arguments.model, device=arguments.device,
                                               subfolder="student" if arguments.student else None)
    part = arguments.out.with_name(f".{arguments.out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    records = []
    tiling, post = Tiling(flips=arguments.flips), PostProcessing(split_touching=not arguments.keep_joined)
    for split in arguments.split:
        rows = pick_split(splits, split, arguments.dataset)
        evaluator = evaluate_rows(segmenter, rows, tiling, post, bootstrap=arguments.bootstrap, name=split)
        metrics = evaluator.compute()
        shift = provenance.get("sources", {}).get("stain_shift")
        records.append(result_record(
            arguments.model, f"{split}@stain{shift:g}" if shift else split, provenance["data_sha256"], metrics,
            variant=arguments.variant or notes["variant"], weights="student" if arguments.student else "teacher",
            tiling=tiling, post=post, temperature=segmenter.temperature,
            evaluate_command=shlex.join(["python", *sys.argv])))
        record_path = records[-1].write(part)
        if arguments.results is not None:
            arguments.results.mkdir(parents=True, exist_ok=True)
            shutil.copy(record_path, arguments.results / record_path.name)
        table = pd.DataFrame(evaluator.per_image())
        table.to_csv(part / f"{split}_per_image.csv", index=False)
        if metrics["reliability"]:
            reliability_diagram(metrics["reliability"], part / f"{split}_reliability.png", title=split)
        order = table["mIoU"].fillna(-1).argsort()
        for word, index in zip(("worst", "median", "best"), order.iloc[[0, len(order) // 2, -1]], strict=True):
            row = rows[int(index)]
            image = np.asarray(row["image"].convert("RGB"))
            prediction = segmenter.predict(image, row["mpp"], tiling, post, name=row["image_id"])
            write_comparison(part / f"{split}_{word}_{row['image_id']}.png", image, np.asarray(row["mask"]), prediction,
                             None if row["instances"] is None else np.asarray(row["instances"]))
    table_text = markdown_table(records, MEASURED, ("variant", "style", "budget", "test_split"))
    (part / "metrics.md").write_text(table_text + "\n", encoding="utf-8")
    if arguments.out.exists():
        shutil.rmtree(arguments.out)
    os.replace(part, arguments.out)
    print(table_text)
    print(f"written to {arguments.out}")
