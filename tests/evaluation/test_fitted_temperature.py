import json

import numpy as np
import pytest
from PIL import Image
from tiny_model import save_tiny_model

from hf_gland.evaluation.fitted_temperature import temperature_of_rows, write_temperature
from hf_gland.inference.segmenter import GlandSegmenter


def row(seed, right, mask="sparse_mask", other=None):
    """Grey tiles as sure as 0.88 of being gland (DarkIsGland), of which a share `right` are."""
    rng = np.random.default_rng(seed)
    image = Image.fromarray(np.full((64, 64, 3), 102, np.uint8))  # darkness 0.1: logits ∓1
    truth = (rng.random((64, 64)) < right).astype(np.uint8)
    truth[:, :16] = 255
    return {"image": image, "mpp": None, "image_id": f"image-{seed}", "mask": other, mask: Image.fromarray(truth)}


@pytest.mark.parametrize("right", [0.6, 0.75, 0.88, 0.97])
def test_the_fitted_confidence_is_the_share_that_was_right(dark_is_gland, right):
    segmenter = dark_is_gland()
    temperature, images = temperature_of_rows(segmenter, [row(seed, right) for seed in range(4)])
    assert images == 4
    segmenter.temperature = temperature
    confidence = segmenter.probabilities(np.full((64, 64, 3), 102, np.uint8)).max(axis=0)
    assert confidence.mean() == pytest.approx(right, abs=0.02)


def test_the_present_temperature_does_not_matter_and_is_kept(dark_is_gland):
    segmenter = dark_is_gland(temperature=3.0)
    rows = [row(0, 0.8)]
    assert temperature_of_rows(segmenter, rows) == temperature_of_rows(dark_is_gland(), rows)
    assert segmenter.temperature == 3.0


def test_dense_masks_on_request_and_rows_without_labels_are_passed_over(dark_is_gland):
    rows = [row(0, 0.6, "mask"), row(1, 0.97) | {"mask": None}]
    rows[0]["sparse_mask"] = Image.new("L", (64, 64), 255)
    sparse, dense = (temperature_of_rows(dark_is_gland(), rows, mask=m) for m in ("sparse_mask", "mask"))
    assert sparse[1] == dense[1] == 1
    assert sparse[0] < 1 < dense[0]


def test_no_label_at_all_is_an_error(dark_is_gland):
    with pytest.raises(ValueError, match="no image has a labelled pixel in 'mask'"):
        temperature_of_rows(dark_is_gland(), [row(0, 0.5)], mask="mask")


def test_what_is_written_is_what_the_model_loads_with(tmp_path):
    folder = save_tiny_model(tmp_path / "model", mpp=0.5)
    before = json.loads((folder / "config.json").read_text())
    write_temperature(folder, 1.23456)
    assert GlandSegmenter.from_pretrained(folder).temperature == 1.2346
    assert json.loads((folder / "config.json").read_text()) == before | {"confidence_temperature": 1.2346}
