import contextlib

import numpy as np
import pytest
import torch
from tiny import tiny_settings

from hf_gland.config import make_config
from hf_gland.data.build import load_local
from hf_gland.data.store import build_store
from hf_gland.labels import IGNORE_INDEX
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import full_size_logits
from hf_gland.train import tagger
from hf_gland.train.tagger import patch_tags, tag_loss, train_tagger


def patch(*shares):
    """A mask of 10×10 px with these shares of the gland classes 1, 2, …"""
    flat = np.zeros(100, np.uint8)
    start = 0
    for c, share in enumerate(shares, start=1):
        flat[start:start + round(100 * share)] = c
        start += round(100 * share)
    return torch.from_numpy(flat.reshape(10, 10))


def test_a_tag_is_the_class_that_covers_most_and_doubtful_patches_have_none():
    dense = torch.stack([patch(0, 0), patch(0.2, 0), patch(0.3, 0.4), patch(0.1, 0), patch(0.1, 0.15), patch(1.0, 0)])
    assert patch_tags(dense, 3).tolist() == [0, 1, 2, IGNORE_INDEX, IGNORE_INDEX, 1]


def test_a_patch_is_without_glands_below_one_percent_and_one_of_glands_from_twenty_on():
    dense = torch.zeros(6, 20, 20, dtype=torch.uint8)
    for mask, pixels in zip(dense, (3, 4, 39, 79, 80, 81), strict=True):  # of 400
        mask.view(-1)[:pixels] = 1
    assert patch_tags(dense, 2).tolist() == [0, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX, 1, 1]


def test_rare_tags_count_as_much_as_common_ones():
    logits = torch.randn(6, 2, requires_grad=True)
    tags = torch.tensor([1, 1, 1, 1, 0, IGNORE_INDEX])
    each = torch.nn.functional.cross_entropy(logits[:5], tags[:5], reduction="none")
    torch.testing.assert_close(tag_loss(logits, tags), (each[:4].mean() + each[4]) / 2)
    nothing = tag_loss(logits, torch.full((6,), IGNORE_INDEX))
    nothing.backward()
    assert nothing == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("seed", [0])
def test_the_tagger_learns_the_tags_from_the_pixels(tiny_dataset, tmp_path, seed):
    store = build_store(load_local(tiny_dataset)["train"], tmp_path, 2, None, None, truth_as_labels=True)
    config = make_config(tiny_settings(tiny_dataset, steps=60, crop_px=32, seed=seed))
    model = train_tagger(config, store, ("background", "gland"))
    first, again = (train_tagger(config.changed(steps=3), store, ("background", "gland")) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    gland, background = [], []
    for i in range(len(store)):
        with torch.no_grad():
            logits = full_size_logits(model, Preprocessing()(torch.from_numpy(store.images[i].copy())[None]))[0]
        sure = logits[1] - logits[0]
        truth = torch.from_numpy(store.truth(i).copy())
        gland.append(sure[truth == 1].mean())
        background.append(sure[truth == 0].mean())
    assert torch.stack(gland).mean() > torch.stack(background).mean() + 0.5


@pytest.mark.parametrize(("precision", "scaled"), [(torch.float16, True), (torch.bfloat16, False), (torch.float32, False)])
def test_gradients_are_scaled_where_they_would_vanish_in_float16(tiny_dataset, tmp_path, monkeypatch, precision, scaled):
    """A GPU would be needed to compute in float16; here, that the scale is put on and taken off again."""
    made = []

    class Scaler(torch.amp.GradScaler):
        def __init__(self, device, enabled):
            made.append((device, enabled))
            super().__init__("cpu", enabled=enabled)

    store = build_store(load_local(tiny_dataset)["train"], tmp_path, 2, None, None, truth_as_labels=True)
    config = make_config(tiny_settings(tiny_dataset, steps=2, crop_px=32))
    plain = train_tagger(config, store, ("background", "gland"))
    monkeypatch.setattr(tagger, "resolve_precision", lambda device, wanted: precision)
    monkeypatch.setattr(tagger, "autocast", lambda device, precision: contextlib.nullcontext())
    monkeypatch.setattr(torch.amp, "GradScaler", Scaler)
    found = train_tagger(config, store, ("background", "gland"))
    assert made == [("cuda" if torch.cuda.is_available() else "cpu", scaled)]
    for a, b in zip(plain.parameters(), found.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
