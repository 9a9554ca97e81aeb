"""scripts/evaluate.py as its users call it."""

import json

import pytest
from processes import run_script, start
from tiny import tiny_settings
from training import forget_accelerator

from hf_gland.config import make_config
from hf_gland.train.loop import make_accelerator, train


@pytest.fixture(scope="module")
def model(tiny_dataset, tmp_path_factory):
    forget_accelerator()
    config, run = make_config(tiny_settings(tiny_dataset, steps=2)), tmp_path_factory.mktemp("run") / "run"
    return train(config, run, make_accelerator(config, run), note={"command": "train it", "recipe": "tiny"})


def evaluate(*arguments):
    process = start(run_script, "evaluate.py", [str(a) for a in arguments])
    return process.wait(), process.stdout, process.stderr


def test_each_split_gets_a_record_a_table_and_pictures(model, tiny_dataset, tmp_path):
    status, stdout, stderr = evaluate(model, tiny_dataset, "--split", "validation", "--out", tmp_path / "out", "--bootstrap",
                                      "20", "--keep-joined", "--variant", "joined", "--results", tmp_path / "results")
    assert status == 0, stderr
    (path,) = (tmp_path / "results").glob("*.json")
    record = json.loads(path.read_text())
    assert (record["variant"], record["post_processing"]["split_touching"], record["tiling"]["flips"]) == (
        "joined", False, False)
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert f"| {record['metrics']['mIoU']:.1f} |" in stdout
    assert {"metrics.md", "validation_per_image.csv"} <= {p.name for p in (tmp_path / "out").iterdir()}
    assert len(list((tmp_path / "out").glob("validation_*_validation-*.png"))) == 3  # worst, median and best


@pytest.mark.parametrize("unusual", ["--keep-joined", "--flips", "--student"])
def test_an_unusual_measurement_takes_no_other_ones_place(model, tiny_dataset, tmp_path, unusual):
    status, _, stderr = evaluate(model, tiny_dataset, "--split", "validation", "--out", tmp_path / "out", "--results",
                                 tmp_path / "results", unusual)
    assert status == 2
    assert f"--results with {unusual} needs --variant" in stderr
    assert not list(tmp_path.iterdir())
