"""A saved model measured on a split of a dataset in the schema, at the images' own resolution."""

import dataclasses
import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hf_gland.environment import git_commit
from hf_gland.errors import HfGlandError
from hf_gland.evaluation.records import ResultRecord
from hf_gland.inference.segmenter import GlandSegmenter, PixelSizeWarning
from hf_gland.metrics.evaluator import SplitEvaluator
from hf_gland.options import PostProcessing, Tiling


class EvaluationError(HfGlandError):
    """A model cannot be measured on a split, or lacks the notes of its training; the message says why."""


def evaluate_rows(segmenter: GlandSegmenter, rows: Iterable[Mapping[str, Any]], tiling: Tiling = Tiling(),
                  post: PostProcessing = PostProcessing(), *, bootstrap: int = 1000,
                  name: str = "split") -> SplitEvaluator:
    """Predict every row and compare with its dense mask; returns the evaluator that holds all metrics.

    Rows without a dense mask raise EvaluationError. The glands of the predictions are those of the object metrics.
    """
    evaluator = SplitEvaluator(len(segmenter.id2label), bootstrap=bootstrap)
    seen = 0
    for row in tqdm(rows, desc=f"evaluating {name}", unit="image", leave=False):
        if row["mask"] is None:
            raise EvaluationError(f"{row['image_id']}: has no dense mask to compare with; choose another split")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PixelSizeWarning)  # the metrics are in pixels
            found = segmenter.predict(np.asarray(row["image"].convert("RGB")), row["mpp"], tiling, post,
                                      name=row["image_id"])
        instances = None if row["instances"] is None else np.asarray(row["instances"])
        evaluator.update(found.probabilities, np.asarray(row["mask"]), instances, image_id=row["image_id"],
                         predicted_instances=found.instances)
        seen += 1
    if not seen:
        raise EvaluationError(f"{name}: the split is empty")
    return evaluator


def training_notes(model: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """(settings, notes) that training left in a model folder; EvaluationError where they are missing."""
    try:
        return (json.loads((model / "training_config.json").read_text("utf-8")),
                json.loads((model / "training_metrics.json").read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{model}: holds no notes of its training ({error}), so no result record can be made; "
                              "evaluate a folder written by scripts/train.py") from error


def training_curve(log: Path, points: int = 40) -> dict[str, list[float | None]]:
    """A training log (one JSON per line) as at most `points` means over equal runs of steps, for plots.

    Keys: step (the last of each run), threshold (lowest over classes), ema_decay, coverage (0-1), pseudo_accuracy (0-1,
    None where nothing was labelled by the teacher), loss; and where the run was validated, at validation_step,
    validation_mIoU (0-100, on the dense masks if there are any, else on labelled pixels). Raises EvaluationError.
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


def result_record(model: Path, test_split: str, test_sha256: str, metrics: dict[str, Any], *, variant: str,
                  weights: str, evaluate_command: str, tiling: Tiling = Tiling(), post: PostProcessing = PostProcessing(),
                  temperature: float = 1.0) -> ResultRecord:
    """The record of one model on one split, from what training noted and what was measured.

    `tiling`, `post`: as it was predicted; `temperature`: that of the model's confidence (1: as trained).
    """
    settings, notes = training_notes(model)
    data = notes["data"]
    sparsify = data.get("sparsify", {})
    full = settings["mode"] == "full"
    return ResultRecord(
        variant=variant, recipe=notes["recipe"], style="full" if full else sparsify.get("style", "as-is"),
        background="all" if full else sparsify.get("background", "as-is"),
        budget=1.0 if full else sparsify.get("budget"), seed=settings["seed"], dataset=data["source"].lower(),
        train_split=settings["train_split"], test_split=test_split,
        backbone=Path(notes.get("backbone", settings["backbone"])).name.replace(":", "-"),
        command=notes["command"], commit=notes["commit"],
        data_sha256=data["data_sha256"], hardware=notes["hardware"], train_seconds=notes["train_seconds"],
        metrics=metrics, extra={
            **{key: notes.get(key) for key in ("precision", "versions", "encoder")},  # None in notes of before
            "weights": weights, "tiling": dataclasses.asdict(tiling), "post_processing": dataclasses.asdict(post),
            "temperature": temperature,
            "evaluate_command": evaluate_command, "evaluate_commit": git_commit(), "test_data_sha256": test_sha256,
            "curve": training_curve(model / "training_log.jsonl"),
            "mpp": settings["mpp"], "steps": settings["steps"], "annotation_seed": data.get("seed"),
            "train_images": data["splits"][settings["train_split"]]["images"],
            "annotated_glands": data["splits"][settings["train_split"]]["annotated_glands"],
            "total_glands": data["splits"][settings["train_split"]]["total_glands"],
            "labelled_fraction": data["splits"][settings["train_split"]]["labelled_fraction"]})
