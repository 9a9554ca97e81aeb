from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from tiny import NETWORK, dense_truth, no_truth, picture, write_dataset
from torch import nn
from training import forget_accelerator

from hf_gland.config import make_config
from hf_gland.data.build import load_local
from hf_gland.data.store import build_store
from hf_gland.flat_arrays import FlatArrays
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.labels import MaskError
from hf_gland.method.pseudo_labels import PseudoLabels, quantise
from hf_gland.method.veto import contradicted
from hf_gland.metrics.pixel import confusion_matrix, pixel_metrics
from hf_gland.model.backbones import load_student
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import predicted_maps
from hf_gland.options import Tiling
from hf_gland.train import refresh as refresh_module
from hf_gland.train.refresh import check_rows, image_predictor, validate

SCALING = Preprocessing(by_division=True)


@pytest.fixture(scope="module")
def accelerator():
    forget_accelerator()
    return Accelerator(cpu=True)


@pytest.fixture(scope="module")
def teacher():
    """Random, but with opinions: its probabilities differ from place to place, and from an image to its mirror image."""
    torch.manual_seed(0)
    model = load_student("random:segformer", ("background", "gland"), None, NETWORK).eval()
    with torch.no_grad():
        model.decode_head.classifier.weight.mul_(400)
    return model


@pytest.fixture(scope="module")
def store(tiny_dataset, tmp_path_factory):
    return build_store(load_local(tiny_dataset)["train"], tmp_path_factory.mktemp("store"), 2, None, None)


def by_hand(teacher, image, views=2):
    """The mean over an image and its mirror image at four fifths of its size of the probabilities, float32 [C, H, W]."""
    pixels = torch.from_numpy(np.array(image))[None].float()
    straight = predicted_maps(teacher, SCALING(pixels))[0]
    if views == 1:
        return straight
    hw = pixels.shape[2:]
    smaller = F.interpolate(pixels.flip(3), size=[round(0.8 * side) for side in hw], mode="bilinear", antialias=True)
    return (straight + F.interpolate(predicted_maps(teacher, SCALING(smaller)), size=hw, mode="bilinear")[0].flip(2)) / 2


def bank_of(folder, store, weights=(1.0, 1.0), **settings):
    """The pseudo-labels of a run in `folder`, without a veto unless `settings` say so."""
    method = make_config({"border_px": 0.0} | (settings or {"veto": False})).method
    return PseudoLabels(method, folder, store.sizes, np.array(weights), store.sparse)


def refresh(pseudo_labels, step, store, teacher, accelerator):
    """Make them anew from `teacher`; the file they are in."""
    predict = refresh_module.image_predictor(teacher, SCALING, accelerator, Tiling(96, views=2))
    pseudo_labels.refresh(step, lambda index: predict(store.images[index]), accelerator)
    return pseudo_labels.path


class GlandAbove(nn.Module):
    """Calls the upper half of every image a gland, and is sure of it."""

    config = SimpleNamespace(id2label={0: "background", 1: "gland"})

    def forward(self, pixel_values):
        logits = torch.zeros(len(pixel_values), 2, *pixel_values.shape[2:])
        logits[:, 1] = 3 - 6 * (torch.arange(pixel_values.shape[2]) >= 40)[:, None].float()
        return SimpleNamespace(logits=logits)


def test_the_bank_has_no_opinion_where_the_images_own_labels_contradict_the_teacher(store, accelerator, tmp_path):
    weights = np.array([100.0, 1.0])
    plain, checked = bank_of(tmp_path / "plain", store), bank_of(tmp_path / "checked", store, weights, veto=True)
    for pseudo_labels in (plain, checked):
        refresh(pseudo_labels, 3, store, GlandAbove(), accelerator)
    before, after, histograms = plain.lookup(), checked.lookup(), checked.histograms
    gone = 0
    for i in range(len(store)):
        refuted = contradicted(before[i] / 255, store.sparse(i), weights)
        assert refuted[:32].all()  # the strip of stroma along the top says so
        assert not after[i][:, refuted].any()
        assert np.array_equal(after[i][:, ~refuted], before[i][:, ~refuted])
        gone += int(refuted.sum())
    assert histograms.sum() == sum(h * w for h, w in store.sizes) - gone > 0


def test_the_bank_holds_the_probabilities_of_every_whole_image_averaged_over_views(store, teacher, accelerator, tmp_path):
    pseudo_labels = bank_of(tmp_path / "bank", store)
    assert pseudo_labels.lookup() is None
    path = refresh(pseudo_labels, 3, store, teacher, accelerator)
    assert [p.name for p in path.parent.iterdir()] == [path.name] == ["step-000003.u8"]
    assert path.stat().st_size == pseudo_labels.num_bytes
    bank, histograms = FlatArrays(path, 2, store.sizes), pseudo_labels.histograms
    expected = np.zeros((2, 256), np.int64)
    for i in range(len(store)):
        stored, one_view = (quantise(by_hand(teacher, store.images[i], views)) for views in (2, 1))
        assert np.abs(stored.astype(int) - one_view).max() > 5
        assert np.abs(bank[i].astype(int) - stored).max() <= 1  # rounding
        assert np.abs(bank[i].sum(0, dtype=int) - 255).max() <= 1
        np.add.at(expected, (bank[i].argmax(0).ravel(), bank[i].max(0).ravel()), 1)
    assert np.array_equal(histograms, expected)


def test_a_refresh_replaces_the_bank_only_once_it_is_whole(store, teacher, accelerator, tmp_path, monkeypatch):
    pseudo_labels = bank_of(tmp_path, store)
    path = refresh(pseudo_labels, 1, store, teacher, accelerator)
    before, reader = path.read_bytes(), FlatArrays(path, 2, store.sizes)
    held = [reader[i].copy() for i in range(len(store))]
    predicted = []

    def interrupted(model, *others, **options):
        def predict(image):
            predicted.append(path.read_bytes())
            if len(predicted) == 4:
                raise KeyboardInterrupt
            return torch.full((2, *image.shape[1:]), 0.5)
        return predict

    with monkeypatch.context() as patch:
        patch.setattr(refresh_module, "image_predictor", interrupted)
        with pytest.raises(KeyboardInterrupt):
            refresh(pseudo_labels, 1, store, teacher, accelerator)
    assert predicted == [before] * 4
    assert path.read_bytes() == before
    with torch.no_grad():
        teacher.decode_head.classifier.bias.add_(torch.tensor([0.0, 1.0]))
    refresh(pseudo_labels, 1, store, teacher, accelerator)  # over what the interruption left
    assert path.read_bytes() != before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert refresh(pseudo_labels, 2, store, teacher, accelerator) == tmp_path / "step-000002.u8"
    assert [p.name for p in tmp_path.iterdir()] == ["step-000002.u8"]
    assert all(np.array_equal(reader[i], held[i]) for i in range(len(store)))  # whoever read the old one still does


def test_large_images_are_tiled(store, teacher, accelerator):
    predict = image_predictor(teacher, SCALING, accelerator, Tiling(64))
    probabilities = predict(store.images[0])
    assert probabilities.shape == (2, *store.sizes[0])
    torch.testing.assert_close(probabilities.sum(0), torch.ones(store.sizes[0]))


def test_a_disk_without_room_is_an_error_before_any_work(store, teacher, accelerator, tmp_path, file_size_limit):
    file_size_limit(1000)
    pseudo_labels = bank_of(tmp_path, store)
    with pytest.raises(OSError, match=r"step-000001\.part"):
        refresh(pseudo_labels, 1, store, teacher, accelerator)
    assert not (tmp_path / "step-000001.u8").exists()
    assert pseudo_labels.path is None


@pytest.mark.parametrize("dense", [dense_truth, no_truth])
def test_validation_is_the_pixel_metrics_on_labelled_pixels_at_the_images_own_size(teacher, accelerator, tmp_path, dense):
    rows = load_local(write_dataset(tmp_path / "data", dense=dense))["validation"]
    scores = validate(rows, teacher, SCALING, 2, accelerator, mpp=0.8)
    segmenter = GlandSegmenter(teacher, Preprocessing(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
                               {0: "background", 1: "gland"}, mpp=0.8, device="cpu")
    counted = {"": np.zeros((2, 2), np.int64), "dense_": np.zeros((2, 2), np.int64)}
    for i, row in enumerate(rows):
        found = segmenter.probabilities(np.asarray(row["image"]), 0.5).argmax(0)
        counted[""] += confusion_matrix(found, np.asarray(row["sparse_mask"]), 2)
        counted["dense_"] += confusion_matrix(found, picture(20 + i, 2)[1], 2)
    assert ("dense_mIoU" in scores) == (dense is dense_truth)
    for prefix, confusion in counted.items():
        expected = pixel_metrics(confusion)
        for key in ("mIoU", "mDice", "gland_iou", "gland_dice"):
            if f"{prefix}{key}" in scores:
                assert scores[f"{prefix}{key}"] == pytest.approx(expected[key], abs=1e-6), key


def test_a_validation_row_that_cannot_be_measured_is_found_before_the_run_starts(tmp_path):
    rows = [dict(row) for row in load_local(write_dataset(tmp_path / "data", mpp=None))["validation"]]
    check_rows(rows, 2, None, None)
    check_rows(rows, 2, 0.8, 0.5)
    with pytest.raises(ValueError, match=r"validation-0.*pixel size is unknown"):
        check_rows(rows, 2, 0.8, None)
    wrong = rows[1]["mask"].copy()
    wrong.putpixel((3, 2), 7)
    with pytest.raises(MaskError, match="validation-1: mask values 7"):
        check_rows([rows[0], rows[1] | {"mask": wrong}], 2, None, None)
    with pytest.raises(ValueError, match="validation-1: has no sparse mask to validate on"):
        check_rows([rows[0], rows[1] | {"sparse_mask": None}], 2, None, None)
