"""Result records: what is written is what is read, and nothing incomplete gets through."""

import dataclasses
import json

import pytest

from hf_gland.evaluation.records import ResultError, ResultRecord, read_result, read_results
from hf_gland.metrics.keys import MEASURED


def record(**changes):
    metrics = dict.fromkeys(MEASURED, 50.0)
    values = {"variant": "ours", "recipe": "bench", "style": "glands", "background": "rim+scribble",
              "budget": 0.2, "seed": 0, "dataset": "synthetic", "train_split": "train", "test_split": "testA",
              "backbone": "mit-b0", "command": "python scripts/train.py", "commit": "a" * 40,
              "data_sha256": "0" * 64, "hardware": "CPU, 2 cores", "train_seconds": 1.5, "metrics": metrics}
    return ResultRecord(**(values | changes))


def with_metrics(**changes):
    return record(metrics=record().metrics | changes)


def test_what_is_written_is_what_is_read(tmp_path):
    original = record(extra={"steps": 100, "note": "τ"}, metrics=record().metrics | {
        "brier": None, "brier_missing": "no probabilities", "class_iou": [50.0, None],
        "class_iou_missing": "class 1", "mIoU_ci95": [40.0, 60.0], "reliability": {"pixels": [1, 2]}})
    path = original.write(tmp_path / "results")
    assert read_result(path) == original
    assert [p.name for p in path.parent.iterdir()] == [original.name]


def test_file_is_sorted_json_and_stable(tmp_path):
    first = record().write(tmp_path / "a").read_text()
    reordered = dataclasses.replace(record(), metrics=dict(reversed(record().metrics.items())))
    assert reordered.write(tmp_path / "b").read_text() == first
    keys = list(json.loads(first))
    assert keys == sorted(keys)
    assert set(keys) == {field.name for field in dataclasses.fields(ResultRecord)} - {"extra"}


def test_runs_that_differ_in_a_setting_do_not_overwrite_each_other(tmp_path):
    changes = [{}, {"variant": "full"}, {"recipe": "full"}, {"style": "points"}, {"background": "none"},
               {"budget": 0.4}, {"budget": None}, {"seed": 1}, {"dataset": "glas"}, {"train_split": "all"},
               {"test_split": "testB"}, {"backbone": "org/mit-b1"}]
    for change in changes:
        record(**change).write(tmp_path)
    assert len(read_results(tmp_path)) == len(changes)
    record().write(tmp_path)  # the same run again replaces its file
    assert len(read_results(tmp_path)) == len(changes)


@pytest.mark.parametrize(("bad", "message"), [
    (record(variant=""), "variant is empty"),
    (record(command=None), "command is empty"),
    (record(seed=-1), "seed"),
    (record(seed=0.5), "seed"),
    (record(budget=0), "budget"),
    (record(budget=1.5), "budget"),
    (record(train_seconds=float("nan")), "train_seconds"),
    (record(data_sha256="abc"), "data_sha256"),
    (record(extra={"seed": 3}), "extra key seed"),
    (record(metrics={}), "metric mIoU is missing"),
    (with_metrics(mIoU=None), "null without a mIoU_missing"),
    (with_metrics(mIoU_missing="why"), "given for a metric that is there"),
    (with_metrics(mDice=101), "not in its range"),
    (with_metrics(object_hausdorff=-1), "not in its range"),
    (with_metrics(object_f1="80"), "not in its range"),
    (with_metrics(ece=float("nan")), "not in its range"),
    (with_metrics(reliability=[float("inf")]), "not plain JSON"),
    (record(extra={"curve": {"loss": [float("nan")]}}), "not plain JSON"),
])
def test_faults_are_refused_before_anything_is_written(tmp_path, bad, message):
    with pytest.raises(ResultError, match=message):
        bad.write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_all_faults_are_named_at_once():
    with pytest.raises(ResultError, match=r"seed -1.*mDice = 101"):
        record(seed=-1, metrics=record().metrics | {"mDice": 101}).validate()


def test_a_record_of_another_run_is_not_overwritten(tmp_path):
    path = record(extra={"temperature": 1.0}).write(tmp_path)
    before = path.read_bytes()
    for other, said in ((record(command="train --no-veto"), "command python scripts/train.py there, train --no-veto here"),
                        (record(commit="b" * 40), "commit"), (record(data_sha256="1" * 64), "data_sha256"),
                        (record(train_seconds=2.5), "train_seconds 1.5 there, 2.5 here"),
                        (record(extra={"temperature": 2.3}), "temperature 1.0 there, 2.3 here"),
                        (record(extra={"tiling": {"flips": True}}), "measured as usual there, flips here"),
                        (record(extra={"weights": "student"}), "measured as usual there, student here")):
        with pytest.raises(ResultError, match=f"is the record of another run .*{said}.*--variant.*--overwrite"):
            other.write(tmp_path)
        assert path.read_bytes() == before
    with_metrics(mIoU=51.0).write(tmp_path)  # the same model, measured again
    assert read_result(path).metrics["mIoU"] == 51.0
    record(commit="b" * 40).write(tmp_path, overwrite=True)
    assert read_result(path).commit == "b" * 40


def test_what_is_unusual_about_a_measurement():
    def unusual(metrics=None, **extra):
        return record(extra=extra, metrics=record().metrics | (metrics or {})).unusual

    assert unusual() == unusual(weights="teacher", tiling={"flips": False}, post_processing={"split_touching": True}) == ()
    assert unusual(weights="student") == ("student",)
    assert unusual(flips=True, split_touching=False) == ("flips", "joined")  # as records had it before
    assert unusual(tiling={"flips": True}, post_processing={"split_touching": False}) == ("flips", "joined")
    assert unusual(tiling={"views": 2}) == ("views",)
    assert unusual(tiling={"views": 1}) == ()
    assert unusual({"images_without_gland_ids": 3}) == ("regions",)


def test_a_record_with_nan_is_refused_when_it_is_read(tmp_path):
    path = record(extra={"note": 1.5}).write(tmp_path)
    path.write_text(path.read_text().replace("1.5", "NaN"))
    with pytest.raises(ResultError, match="holds NaN, which is no JSON"):
        read_result(path)


def test_the_machine_is_named_with_its_precision_where_that_is_known():
    assert record().machine == "CPU, 2 cores"
    assert record(extra={"precision": "float32"}).machine == "CPU, 2 cores, float32"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"seed": 0}', "not json"])
def test_unreadable_files_are_named(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ResultError, match=r"broken\.json"):
        read_results(tmp_path)


def test_a_failed_write_leaves_the_old_record(tmp_path):
    path = record().write(tmp_path)
    before = path.read_bytes()
    with pytest.raises(ResultError):
        with_metrics(unserialisable=object()).write(tmp_path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
