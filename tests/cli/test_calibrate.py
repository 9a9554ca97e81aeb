"""scripts/calibrate.py as its users call it."""

import json

import pytest
from processes import run_here
from tiny_model import save_tiny_model


@pytest.fixture
def model(tmp_path):
    """A model folder with the notes that training leaves in it."""
    folder = save_tiny_model(tmp_path / "model")
    (folder / "training_config.json").write_text(json.dumps({"train_split": "train"}))
    (folder / "training_metrics.json").write_text("{}")
    return folder


def calibrate(*arguments):
    return run_here("calibrate", arguments)


def test_the_temperature_is_fitted_on_held_out_patients_and_kept_in_the_config(model, tiny_dataset):
    status, stdout, stderr = calibrate(model, tiny_dataset, "--device", "cpu")
    assert status == 0, stderr
    temperature = json.loads((model / "config.json").read_text())["confidence_temperature"]
    assert temperature != 1
    assert f"confidence_temperature {temperature:.3f}, from 2 images of 'validation' (sparse labels)" in stdout


def test_patients_that_were_trained_on_are_refused(model, tiny_dataset):
    before = (model / "config.json").read_text()
    status, _, stderr = calibrate(model, tiny_dataset, "--split", "train")
    assert status == 2
    assert "was trained on split 'train'" in stderr
    assert "Traceback" not in stderr
    assert (model / "config.json").read_text() == before
