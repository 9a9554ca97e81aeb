"""The timings: both sides do the same work in the same precision, and every stage that is named is really timed."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_settings
from tiny_model import save_tiny_model
from training import forget_accelerator

from hf_gland.config import make_config

SCRIPT = Path(__file__).parents[1] / "scripts" / "benchmark.py"


@pytest.fixture
def benchmark(monkeypatch):
    """The script as a module, with as few repetitions as there can be."""
    spec = importlib.util.spec_from_file_location("benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("BLOCKS", "BLOCK_STEPS", "REFRESH_REPEATS", "STAGE_REPEATS"):
        monkeypatch.setattr(module, name, 1)
    monkeypatch.setattr(module, "make_fast", lambda: None)
    return module


def test_inference_is_timed_at_the_models_pixel_size_in_one_precision(benchmark, tmp_path, monkeypatch):
    model = save_tiny_model(tmp_path / "model", mpp=1.0)
    (tmp_path / "images").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (96, 128, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    copies = benchmark.at_the_models_size(tmp_path / "images", 0.5, 1.0, 32, tmp_path)
    assert [Image.open(path).size for path in copies] == [(64, 32)] * 2
    monkeypatch.setattr(sys, "argv", ["benchmark.py", "inference", "--model", str(model), "--images",
                                      str(tmp_path / "images"), "--mpp", "0.5", "--precision", "float32", "--out",
                                      str(tmp_path / "out" / "inference.json")])
    assert benchmark.main() == 0
    figures = json.loads((tmp_path / "out" / "inference.json").read_text())
    assert (figures["precision"], figures["images"]) == ("float32 for both", 2)
    assert {"torch", "transformers"} <= figures["versions"].keys()
    for other in ("transformers' pipeline", "the bare network"):
        assert min(figures["ratios"][f"a folder of images, images per second / those of {other}"].values()) > 0
    assert all(took > 0 for stage, took in figures["stages_ms"].items() if not stage.startswith("resampling"))
    assert "an image, while others are under way" in figures["stages_ms"]


def test_a_refined_step_is_timed_stage_by_stage(benchmark, tiny_dataset):
    forget_accelerator()
    figures = benchmark.step_ratio(make_config(tiny_settings(tiny_dataset, steps=2, refreshes=1, num_workers=0)))
    assert figures["precision"] == "float32 for both"
    stages = {"crops of images, labels and bank", "student forward", "threshold and fusion", "loss", "backward",
              "gradient clipping", "optimiser", "teacher update"}
    assert figures["stages_ms"].keys() == {*stages, "all else"}
    assert all(figures["stages_ms"][stage] > 0 for stage in stages)
    assert len(figures["ratios"]) == 3
