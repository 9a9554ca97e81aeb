"""The comparison of ways to choose outlines, at toy scale: its points, its record, and that it goes on where it stopped."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import dense_truth, tiny_settings, write_dataset
from training import forget_accelerator

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local

SCRIPT = Path(__file__).parents[1] / "scripts" / "annotation_curve.py"


@pytest.fixture
def script(monkeypatch):
    """The script, whose trainings and evaluations run in this process and are noted."""
    spec = importlib.util.spec_from_file_location("annotation_curve", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ran = []

    def execute(command, log):
        module.ran.append((Path(command[1]).stem, command))
        forget_accelerator()
        if run_command(Path(command[1]).stem, command[2:]):
            raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(module, "execute", execute)
    return module


def test_each_point_is_a_training_on_more_outlines_and_nothing_is_done_twice(script, tmp_path, monkeypatch):
    dataset = write_dataset(tmp_path / "full", sparse=dense_truth, splits=("train", "testA"))
    settings = tiny_settings(dataset, steps=2, refreshes=1)
    settings.pop("dataset")
    (tmp_path / "tiny.json").write_text(json.dumps(settings))
    words = ["--dataset", dataset, "--out", tmp_path / "out", "--config", tmp_path / "tiny.json", "--budgets", "0.25", "0.5",
             "--seeds", "5", "--choices", "suggested", "--train-options", "--learning_rate 0.0003"]
    monkeypatch.setattr(sys, "argv", ["scripts/annotation_curve.py", *map(str, words)])
    assert script.main() == 0
    assert [name for name, _ in script.ran] == ["train", "evaluate"] * 2
    assert all("0.0003" in command for name, command in script.ran if name == "train")
    record = json.loads((tmp_path / "out" / "suggestions.json").read_text())
    assert record["budgets"] == [0.25, 0.5]
    assert {choice: np.shape(rows) for choice, rows in record["mIoU"].items()} == {"suggested": (1, 2)}
    assert set(record["area_under_the_curve"]) == {"suggested"}
    assert (tmp_path / "out" / "suggestions.png").stat().st_size > 5000
    assert np.shape(record["object_f1"]["suggested"]) == (1, 2)
    drawn = [json.loads((tmp_path / "out" / f"{cell}_seed5" / "picks.json").read_text())
             for cell in ("one-per-image_0.25", "suggested_0.5")]  # no model yet at the first budget
    assert [len(found["glands"]) + len(found["stroma"]) for found in drawn] == [3, 6]  # of 12 glands
    assert drawn[1]["glands"][:3] == drawn[0]["glands"]
    rows = load_local(tmp_path / "out" / "suggested_0.5_seed5" / "dataset")["train"]
    assert sum(rows["annotated_glands"]) == len(drawn[1]["glands"])

    script.ran.clear()
    monkeypatch.setattr(script, "execute", lambda command, log: script.ran.append((Path(command[1]).stem, command)))
    (tmp_path / "out" / "suggested_0.5_seed5" / "evaluation").rename(tmp_path / "gone")
    assert script.main() == 0
    assert [name for name, _ in script.ran] == ["evaluate"]


@pytest.mark.parametrize("other", [("--config", "full"), ("--backbone", "encoder"), ("--split", "testB"),
                                   ("--train-options", "--steps 200"), ("--dataset", "others")])
def test_one_folder_is_for_one_curve(script, tmp_path, monkeypatch, capsys, other):
    monkeypatch.setattr(script, "run_choice", lambda *_: None)
    monkeypatch.setattr(script, "write_record", lambda _: tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, checksum in (("data", "a" * 64), ("moved", "a" * 64), ("others", "b" * 64)):
        Path(name).mkdir()
        (Path(name) / "provenance.json").write_text(json.dumps({"splits": {}, "data_sha256": checksum}))
    words = ["scripts/annotation_curve.py", "--dataset", "data", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    assert (script.main(), script.main()) == (0, 0)
    monkeypatch.setattr(sys, "argv", [*words, "--dataset", "moved"])
    assert script.main() == 0
    monkeypatch.setattr(sys, "argv", [*words, *other])
    assert script.main() == 2
    assert f"holds another grid ({other[0]} " in capsys.readouterr().err


def test_what_is_no_dataset_is_an_error_in_a_line(script, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["scripts/annotation_curve.py", "--dataset", str(tmp_path), "--out", str(tmp_path)])
    assert script.main() == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: not a dataset folder")
