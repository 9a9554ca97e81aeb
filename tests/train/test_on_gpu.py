"""Training on a CUDA device: in each of its precisions, and taken up again."""

import json
import math

import numpy as np
import pytest
import torch
from datasets import load_dataset
from tiny import NO_DROPOUT, tiny_settings
from training import read_records, run_training, weights

from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.options import Tiling
from hf_gland.train.checkpoint import checkpoint_paths
from hf_gland.train.loop import Interrupted
from hf_gland.train.stop import StopRequests

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
STEPS = 60


def losses(run):
    return [record["loss"] for record in read_records(run) if "loss" in record]


def notes(run):
    return json.loads((run / "model" / "training_metrics.json").read_text())


@pytest.fixture(scope="module")
def gpu_run(tiny_dataset, tmp_path_factory):
    """The folder of a run in a precision; each is made once."""
    made = {}

    def run(precision):
        if precision not in made:
            made[precision] = run_training(tmp_path_factory.mktemp(precision) / "run",
                                           tiny_settings(tiny_dataset, steps=STEPS, mode="full", learning_rate=2e-3,
                                                         mixed_precision=precision))
        return made[precision]
    return run


@pytest.mark.parametrize(("precision", "name"), [("no", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_run_learns_in_every_precision_and_says_which_and_where(gpu_run, precision, name):
    run = gpu_run(precision)
    found = losses(run)
    assert len(found) == STEPS
    assert all(math.isfinite(loss) for loss in found)
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:5])
    assert notes(run)["precision"] == name
    assert notes(run)["hardware"] == torch.cuda.get_device_name()
    assert {tensor.dtype for tensor in weights(run).values() if tensor.is_floating_point()} == {torch.float32}


def test_what_was_learned_on_the_gpu_is_what_the_processor_sees(gpu_run, tiny_dataset):
    model = gpu_run("no") / "model"
    picture = np.asarray(load_dataset(str(tiny_dataset), split="validation")[0]["image"])
    there, here = (GlandSegmenter.from_pretrained(model, device=device).predict(
        picture, tiling=Tiling(precision="float32")) for device in ("cuda", "cpu"))
    assert 0.02 < (here.class_map == 1).mean() < 0.9
    assert (there.class_map == here.class_map).mean() > 0.98


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_a_run_that_was_interrupted_goes_on_where_it_was(tiny_dataset, tmp_path, monkeypatch, precision):
    """Kernels of the GPU add up in any order, so the same steps give nearly the same losses, not the same bits."""
    settings = tiny_settings(tiny_dataset, NO_DROPOUT, steps=20, save_every=5, mixed_precision=precision, cutmix=0.0)
    whole = losses(run_training(tmp_path / "whole", settings))
    due = iter([False] * 11 + [True])
    with monkeypatch.context() as patch:
        patch.setattr(StopRequests, "due", property(lambda self: next(due)))
        with pytest.raises(Interrupted):
            run_training(tmp_path / "cut", settings)
    assert checkpoint_paths(tmp_path / "cut")[-1].name.endswith("12")
    run_training(tmp_path / "cut", settings, resume=True)
    assert losses(tmp_path / "cut") == pytest.approx(whole, rel=0.2)
    assert [r["step"] for r in read_records(tmp_path / "cut")] == list(range(1, 21))
