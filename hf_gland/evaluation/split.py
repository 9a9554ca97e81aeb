"""A saved model measured on a split of a dataset in the schema, at the images' own resolution."""

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from tqdm import tqdm

from hf_gland.config import read_saved_config
from hf_gland.environment import git_commit
from hf_gland.errors import HfGlandError
from hf_gland.evaluation.records import ResultRecord, read_json
from hf_gland.inference.glands import GlandPrediction
from hf_gland.inference.segmenter import GlandSegmenter, PixelSizeWarning
from hf_gland.metrics.evaluator import SplitEvaluator
from hf_gland.model.identity import model_facts
from hf_gland.model.loading import load_config
from hf_gland.options import PostProcessing, Tiling


class EvaluationError(HfGlandError):
    """A model cannot be measured on a split, or lacks the notes of its training; the message says why."""


def rows_with_truth(rows: datasets.Dataset, where: str) -> datasets.Dataset:
    """The rows that have a dense mask to compare with. Raises EvaluationError where none has; `where` names the split."""
    known = np.flatnonzero(rows.data["mask"].is_valid())
    if not len(known):
        raise EvaluationError(f"{where}: no image has a dense mask to compare with. Training has measured the labelled "
                              "pixels of its validation split (training_metrics.json beside the model). To measure all "
                              "pixels, outline regions in which every gland is drawn (build_dataset qupath --roi), or give "
                              "dense masks beside those drawn by hand (build_dataset folder --sparse-masks)")
    return rows if len(known) == len(rows) else rows.select(known)


def evaluate_rows(segmenter: GlandSegmenter, rows: Iterable[Mapping[str, Any]], tiling: Tiling = Tiling(),
                  post: PostProcessing = PostProcessing(), *, bootstrap: int = 1000, name: str = "split",
                  keep: Callable[[GlandPrediction], None] | None = None) -> SplitEvaluator:
    """Predict every row and compare with its dense mask; returns the evaluator that holds all metrics.

    Rows without a dense mask raise EvaluationError. The glands of the predictions are those of the object metrics; true
    ones are those of `instances`, or the connected regions of the mask of a row that has none. Figures of pixels are of the
    likeliest class; `cleaned_mIoU` and `cleaned_mDice` are of the masks that `predict` writes. `keep` gets every prediction.
    """
    evaluator = SplitEvaluator(len(segmenter.id2label), bootstrap=bootstrap, regions_as_glands=True)
    seen = False
    for row in tqdm(rows, desc=f"evaluating {name}", unit="image", leave=False):
        if row["mask"] is None:
            raise EvaluationError(f"{row['image_id']}: has no dense mask to compare with; choose another split")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PixelSizeWarning)  # the metrics are in pixels
            found = segmenter.predict(np.asarray(row["image"].convert("RGB")), row["mpp"], tiling, post,
                                      name=row["image_id"])
        evaluator.update(found.probabilities, np.asarray(row["mask"]),
                         None if row["instances"] is None else np.asarray(row["instances"]), image_id=row["image_id"],
                         predicted_instances=found.instances, cleaned=found.class_map)
        if keep is not None:
            keep(found)
        seen = True
    if not seen:
        raise EvaluationError(f"{name}: the split is empty")
    return evaluator


def training_notes(model: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings by short name, notes) that training left in a model folder; EvaluationError where they are missing."""
    try:
        return read_saved_config(model).by_short_name(), read_json(model / "training_metrics.json")
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{model}: holds no notes of its training ({error}), so no result record can be made; "
                              "evaluate a folder written by scripts/train.py") from error


def training_curve(log: Path, points: int = 40) -> dict[str, list[float | None]]:
    """A training log (one JSON per line) as at most `points` means over equal runs of steps, for plots.

    Keys: step (the last of each run), threshold (lowest over classes), ema_decay, coverage (0-1, of the crops, what they
    show beyond pictures too), pseudo_accuracy (0-1, None where nothing was labelled by the teacher), loss; and where the run
    was validated, at validation_step, validation_mIoU (0-100, on the dense masks if there are any, else on labelled pixels).
    Raises EvaluationError.
    """
    try:
        lines = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
        records = [line for line in lines if "loss" in line]
        groups = [g for g in np.array_split(np.arange(len(records)), min(points, len(records))) if len(g)]
        curve: dict[str, list[float | None]] = {"step": [records[g[-1]]["step"] for g in groups]}
        for key in ("threshold", "ema_decay", "coverage", "pseudo_accuracy", "loss"):
            means: list[float | None] = []
            for group in groups:
                members = [min(records[i]["thresholds"]) if key == "threshold" else records[i][key] for i in group]
                known = [m for m in members if m is not None]
                means.append(round(float(np.mean(known)), 5) if known else None)
            curve[key] = means
        validations = [line for line in lines if "validation_mIoU" in line]
        if validations:
            curve["validation_step"] = [line["step"] for line in validations]
            curve["validation_mIoU"] = [line.get("validation_dense_mIoU", line["validation_mIoU"]) for line in validations]
        return curve
    except (OSError, ValueError, KeyError) as error:
        raise EvaluationError(f"{log}: not a training log ({error})") from error


@dataclass(frozen=True)
class Measurement:
    """What was measured of a model, and how: for the record.

    `test_source`: name of the dataset ("": that of the training); `variant`: the method's name in tables; `weights`: teacher
    or student; `temperature`: of the model's confidence (1: as trained); `images_without_mask`: of the split, not measured;
    `images_without_mpp`: taken for the pixel size that the model assumes; `patients_trained_on`: of the split;
    `command`, `hardware`, `precision`: of the evaluation.
    """

    test_split: str
    test_data_sha256: str
    variant: str
    command: str
    weights: str = "teacher"
    tiling: Tiling = Tiling()
    post: PostProcessing = PostProcessing()
    temperature: float = 1.0
    hardware: str | None = None
    precision: str | None = None
    images_without_mask: int = 0
    test_source: str = ""
    images_without_mpp: int = 0
    patients_trained_on: int = 0


def result_record(model: Path, measured: Measurement, metrics: dict[str, Any]) -> ResultRecord:
    """The record of one model on one split, from what training noted and what was measured."""
    settings, notes = training_notes(model)
    data = notes["data"]
    sparsify = data.get("sparsify", {})
    trained_on = data["splits"][settings["train_split"]]
    style = "full" if settings["mode"] == "full" else sparsify.get("style", "as-is")
    test_source = measured.test_source or data["source"]
    elsewhere = "" if test_source == data["source"] else f"@{test_source}"
    return ResultRecord(
        variant=measured.variant, recipe=notes["recipe"], style=style,
        background="all" if style in ("full", "images") else sparsify.get("background", "as-is"),
        budget=1.0 if style == "full" else sparsify.get("budget"), seed=settings["seed"], dataset=data["source"].lower(),
        train_split=settings["train_split"], test_split=measured.test_split + elsewhere,
        backbone=Path(notes.get("backbone", settings["backbone"])).name.replace(":", "-"),
        command=notes["command"], commit=notes["commit"],
        data_sha256=data["data_sha256"], hardware=notes["hardware"], train_seconds=notes["train_seconds"],
        metrics=metrics, extra={
            **{key: notes.get(key) for key in ("precision", "versions", "encoder")},  # None in notes of before
            "weights": measured.weights, "tiling": asdict(measured.tiling), "post_processing": asdict(measured.post),
            "temperature": measured.temperature, "test_data_sha256": measured.test_data_sha256,
            "images_without_mask": measured.images_without_mask, "images_without_mpp": measured.images_without_mpp,
            "test_dataset": test_source, "patients_trained_on": measured.patients_trained_on,
            "evaluate_command": measured.command, "evaluate_commit": git_commit(),
            "evaluate_hardware": measured.hardware, "evaluate_precision": measured.precision,
            "curve": training_curve(model / "training_log.jsonl"),
            "mpp": model_facts(load_config(str(model)), str(model)).mpp,  # what was asked for is not had from all data
            "steps": settings["steps"], "annotation_seed": data.get("seed"),
            "train_images": trained_on["images"],
            **{key: trained_on[key] for key in ("annotated_glands", "total_glands", "labelled_fraction")}})
