"""What a network is fed: as its own image processor does it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, MobileViTImageProcessorPil, SegformerImageProcessorPil

from hf_gland.errors import ModelError
from hf_gland.model.preprocessing import Preprocessing, read_preprocessing

PROCESSORS = {
    "imagenet": SegformerImageProcessorPil(do_resize=False),
    "own mean": SegformerImageProcessorPil(do_resize=False, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.4, 0.3]),
    "no mean": SegformerImageProcessorPil(do_resize=False, do_normalize=False),
    "unscaled": SegformerImageProcessorPil(do_resize=False, do_rescale=False),
    "other scale": SegformerImageProcessorPil(do_resize=False, rescale_factor=1 / 127.5),
    "blue first": MobileViTImageProcessorPil(do_resize=False, do_center_crop=False),
    "blue first, off": MobileViTImageProcessorPil(do_resize=False, do_center_crop=False, do_flip_channel_order=False),
}

IMAGENET = Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
BLUE_FIRST = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), bgr=True)  # MobileViT's


@pytest.fixture
def pixels():
    """A picture whose channels differ."""
    return np.random.default_rng(0).integers((0, 60, 150), (90, 150, 256), (6, 9, 3)).astype(np.uint8)


def channels_first(pixels):
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


@pytest.mark.parametrize("name", PROCESSORS)
def test_a_models_own_processor_is_followed(tmp_path, pixels, name):
    PROCESSORS[name].save_pretrained(tmp_path)
    expected = PROCESSORS[name](Image.fromarray(pixels), return_tensors="pt")["pixel_values"][0]
    found = read_preprocessing(str(tmp_path), BLUE_FIRST if name.startswith("blue") else IMAGENET)
    torch.testing.assert_close(found(channels_first(pixels)), expected.float(), rtol=1e-5, atol=1e-5)
    found.image_processor().save_pretrained(tmp_path / "again")
    again = AutoImageProcessor.from_pretrained(tmp_path / "again")(Image.fromarray(pixels), return_tensors="pt")
    torch.testing.assert_close(again["pixel_values"][0].float(), expected.float(), rtol=1e-5, atol=1e-5)


def test_keys_that_are_missing_are_as_the_family_has_them(tmp_path, pixels):
    (tmp_path / "preprocessor_config.json").write_text('{"size": 512, "do_normalize": true}')
    assert read_preprocessing(str(tmp_path), IMAGENET).mean == (0.485, 0.456, 0.406)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    blue_first = read_preprocessing(str(tmp_path), BLUE_FIRST)(channels_first(pixels))
    assert torch.equal(blue_first, channels_first(pixels[..., ::-1]) * (1 / 255))


def test_without_a_file_the_family_decides_or_it_is_an_error(tmp_path):
    assert read_preprocessing(str(tmp_path), BLUE_FIRST, required=False) == BLUE_FIRST
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        read_preprocessing(str(tmp_path), IMAGENET)


@pytest.mark.parametrize("change", [{"image_std": 0}, {"image_std": [0.2, -0.1, 0.2]}, {"rescale_factor": 0},
                                    {"image_mean": float("nan")}, {"image_mean": [0.5, 0.5]}, {"rescale_factor": "big"}])
def test_numbers_that_scale_no_picture_are_errors_that_name_the_file(tmp_path, change):
    usual = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(usual | change))
    with pytest.raises(ModelError, match=r"preprocessor_config\.json cannot be used"):
        read_preprocessing(str(tmp_path), IMAGENET)


def test_training_divides_and_prediction_multiplies_as_ever(pixels):
    """The last bit decides what a long training ends with: neither may change."""
    images = channels_first(pixels)
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    assert torch.equal(Preprocessing(by_division=True)(images), (images.float() / 255 - mean) / std)
    assert torch.equal(Preprocessing()(images), (images.float() * (1 / 255) - mean) / std)
    batch = torch.stack([images, images.flip(2)])
    assert torch.equal(Preprocessing()(batch)[1], Preprocessing()(batch[1]))
