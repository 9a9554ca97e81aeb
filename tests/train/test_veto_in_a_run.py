"""Which images of a run the annotator's marks take out of the bank."""

import numpy as np
import pytest
import torch
from tiny import TWO_LEVELS, tiny_settings, write_dataset
from training import run_training

from hf_gland.flat_arrays import FlatArrays
from hf_gland.model.backbones import load_student
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import save_model_folder
from hf_gland.train.checkpoint import checkpoint_paths

SIZES = [(64, 80), (72, 80), (80, 80)] * 2


def few_strokes(mask, instances):
    """300 px of a gland in every image; of stroma 80 px, but 240 px in the tallest images."""
    sparse = np.full(mask.shape, 255, np.uint8)
    sparse[np.unravel_index(np.flatnonzero(instances == 1)[:300], mask.shape)] = 1
    sparse[:3 if mask.shape[0] == 80 else 1] = 0
    return sparse


@pytest.fixture(scope="module")
def gland_everywhere(tmp_path_factory):
    """A model that calls every pixel a gland, with a probability of 0.88."""
    model = load_student("random:segformer", ("background", "gland"), None, TWO_LEVELS)
    with torch.no_grad():
        model.decode_head.classifier.weight.zero_()
        model.decode_head.classifier.bias.copy_(torch.tensor([0.0, 2.0]))
    folder = tmp_path_factory.mktemp("backbone") / "model"
    save_model_folder(folder, model, model, Preprocessing())
    return folder


@pytest.fixture(scope="module")
def images_in_the_bank(gland_everywhere, tmp_path_factory):
    """For settings: which images the bank has an opinion on, after a step that changes next to nothing."""
    folder = tmp_path_factory.mktemp("veto")
    dataset = write_dataset(folder / "data", sparse=few_strokes, splits=("train",))

    def measure(name, **settings):
        run = run_training(folder / name, tiny_settings(
            dataset, backbone=str(gland_everywhere), model_kwargs="", steps=1, warmup_fraction=0.0, refreshes=1,
            learning_rate=1e-9, ema_start=1.0, ema_end=1.0, border_px=0.0, **settings))
        bank = FlatArrays(checkpoint_paths(run)[-1] / "bank.u8", 2, SIZES)
        return [bool(bank[i].any()) for i in range(len(SIZES))]

    return measure


def test_marks_of_both_classes_weigh_alike_though_fewer_pixels_are_stroma(images_in_the_bank):
    """All marks: 1800 px of gland, 800 of stroma, so that a pixel of stroma counts 1800 / 800 = 2.25 times as much. In the
    tallest images 240 px of stroma outweigh 300 of gland, in the others 80 do not; unweighted they nowhere would."""
    assert images_in_the_bank("balanced") == [True, True, False] * 2


@pytest.mark.parametrize("settings", [{"veto": False}, {"fusion": False}], ids=["no veto", "no fusion"])
def test_without_veto_or_without_fusion_marks_take_nothing_out(images_in_the_bank, settings):
    assert images_in_the_bank(next(iter(settings)), **settings) == [True] * 6
