"""Measuring a saved model: the same figures as the evaluator fed by hand, and records that say how they came about."""

import json

import numpy as np
import pytest
import torch
from tiny import dense_truth, no_truth, tiny_settings, write_dataset
from training import forget_accelerator

from hf_gland.config import make_config
from hf_gland.data.build import load_local
from hf_gland.evaluation.split import (
    EvaluationError,
    Measurement,
    evaluate_rows,
    result_record,
    training_curve,
    training_notes,
)
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.metrics.evaluator import SplitEvaluator
from hf_gland.options import Tiling
from hf_gland.train.accelerator import make_accelerator
from hf_gland.train.loop import train


@pytest.fixture(scope="module")
def model(tiny_dataset, tmp_path_factory):
    """The folder of a model trained for a moment, as scripts/train.py leaves it."""
    return trained(tmp_path_factory.mktemp("runs") / "run", dataset=tiny_dataset, seed=3)


def trained(run, **settings):
    forget_accelerator()
    config = make_config(tiny_settings(**settings))
    return train(config, run, make_accelerator(config, run), note={"command": "train it", "recipe": "tiny"})


def test_rows_are_measured_as_the_evaluator_does(model, tiny_dataset):
    segmenter = GlandSegmenter.from_pretrained(model, device="cpu")
    rows = load_local(tiny_dataset)["validation"]
    measured = evaluate_rows(segmenter, rows, bootstrap=0).compute()
    by_hand = SplitEvaluator(2, bootstrap=0)
    for row in rows:
        found = segmenter.predict(np.asarray(row["image"]), row["mpp"])
        by_hand.update(found.probabilities, np.asarray(row["mask"]), np.asarray(row["instances"]), row["image_id"],
                       found.instances, found.class_map)
    assert measured == by_hand.compute()
    assert measured["cleaned_mIoU"] != measured["mIoU"]


def test_an_image_without_truth_is_named(model, tmp_path):
    rows = load_local(write_dataset(tmp_path / "blind", dense=no_truth))["validation"]
    with pytest.raises(EvaluationError, match="validation-0: has no dense mask"):
        evaluate_rows(GlandSegmenter.from_pretrained(model, device="cpu"), rows)


def test_an_empty_split_is_an_error(model):
    with pytest.raises(EvaluationError, match="nothing: the split is empty"):
        evaluate_rows(GlandSegmenter.from_pretrained(model, device="cpu"), [], name="nothing")


def test_the_record_says_how_the_model_was_made(model, tiny_dataset, tmp_path):
    segmenter = GlandSegmenter.from_pretrained(model, device="cpu")
    metrics = evaluate_rows(segmenter, load_local(tiny_dataset)["validation"], bootstrap=10).compute()
    record = result_record(model, Measurement("validation", "0" * 64, "ours", "evaluate it", precision="float32"), metrics)
    stored = json.loads(record.write(tmp_path).read_text())
    assert (stored["seed"], stored["command"], stored["recipe"], stored["dataset"]) == (3, "train it", "tiny", "tiny")
    assert stored["data_sha256"] == json.loads((tiny_dataset / "provenance.json").read_text())["data_sha256"]
    assert stored["metrics"]["mIoU"] == metrics["mIoU"]
    assert stored["curve"]["step"][-1] == 12
    assert (stored["precision"], stored["evaluate_precision"]) == ("float32", "float32")
    assert stored["versions"]["torch"] == torch.__version__
    assert (stored["evaluate_command"], stored["test_data_sha256"]) == ("evaluate it", "0" * 64)
    assert stored["weights"] == "teacher"
    assert stored["annotated_glands"] == 6


def test_the_record_has_the_pixel_size_of_the_model_not_the_one_that_was_asked_for(tmp_path):
    data = write_dataset(tmp_path / "data", mpp=None)
    folder = trained(tmp_path / "run", dataset=data, steps=2, mpp=0.83)
    segmenter = GlandSegmenter.from_pretrained(folder, device="cpu")
    assert segmenter.mpp is None
    metrics = evaluate_rows(segmenter, load_local(data)["validation"], bootstrap=0).compute()
    record = result_record(folder, Measurement("validation", "0" * 64, "ours", "evaluate it"), metrics)
    assert (record.mpp, record.extra["mpp"]) == (None, None)
    assert "um_" not in record.name


def test_without_gland_ids_connected_regions_are_the_true_glands_and_that_is_said(model, tiny_dataset, tmp_path):
    rows = [dict(row) for row in load_local(tiny_dataset)["validation"]]
    segmenter = GlandSegmenter.from_pretrained(model, device="cpu")
    with_ids = evaluate_rows(segmenter, rows, bootstrap=0).compute()
    assert "images_without_gland_ids" not in with_ids
    without = evaluate_rows(segmenter, [row | {"instances": None} for row in rows], bootstrap=0).compute()
    assert without == with_ids | {"images_without_gland_ids": 2}  # its glands do not touch, so that regions are glands
    some = evaluate_rows(segmenter, [rows[0], rows[1] | {"instances": None}], bootstrap=0).compute()
    assert some["images_without_gland_ids"] == 1
    assert result_record(model, Measurement("validation", "0" * 64, "ours", "evaluate it"), some).unusual == ("regions",)


def test_validation_in_training_and_evaluation_give_the_same_figures(tiny_dataset, tmp_path):
    folder = trained(tmp_path / "run", dataset=tiny_dataset, steps=3, validation_split="validation", mpp=0.8)
    _, notes = training_notes(folder)
    metrics = evaluate_rows(GlandSegmenter.from_pretrained(folder, device="cpu"), load_local(tiny_dataset)["validation"],
                            Tiling(precision="float32"), bootstrap=0).compute()
    for key in ("mIoU", "mDice", "gland_iou", "gland_dice"):
        assert notes[f"validation_dense_{key}"] == pytest.approx(metrics[key], abs=1e-6), key


def test_the_curve_is_means_over_equal_runs_of_steps(tmp_path):
    lines = [{"step": i + 1, "loss": float(i), "thresholds": [0.9, 0.9 - i / 100], "ema_decay": 0.99, "coverage": i / 10,
              "pseudo_accuracy": None if i < 4 else 1.0} for i in range(8)]
    log = tmp_path / "training_log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in [*lines, {"step": 8, "validation_mIoU": 50.0}]))
    curve = training_curve(log, points=4)
    assert (curve["validation_step"], curve["validation_mIoU"]) == ([8], [50.0])
    assert curve["step"] == [2, 4, 6, 8]
    assert curve["loss"] == [0.5, 2.5, 4.5, 6.5]
    assert curve["threshold"] == pytest.approx([0.895, 0.875, 0.855, 0.835])
    assert curve["pseudo_accuracy"] == [None, None, 1.0, 1.0]


def test_a_folder_without_notes_is_an_error(tmp_path):
    with pytest.raises(EvaluationError, match="holds no notes of its training"):
        training_notes(tmp_path)
    with pytest.raises(EvaluationError, match="not a training log"):
        training_curve(tmp_path / "training_log.jsonl")


def test_full_supervision_is_recorded_as_such(tiny_dataset, tmp_path):
    folder = trained(tmp_path / "run", dataset=tiny_dataset, mode="full", steps=2)
    rows = load_local(write_dataset(tmp_path / "data", sparse=dense_truth))["validation"]
    metrics = evaluate_rows(GlandSegmenter.from_pretrained(folder, device="cpu"), rows, bootstrap=0).compute()
    record = result_record(folder, Measurement("validation", "0" * 64, "full", "evaluate it"), metrics)
    assert (record.style, record.background, record.budget) == ("full", "all", 1.0)
