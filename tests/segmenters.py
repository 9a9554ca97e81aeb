"""Segmenters whose answers are known, as fixtures for the tests of inference and evaluation."""

import pytest
import torch
from tiny_model import save_tiny_model
from torch import nn

from hf_gland.inference.segmenter import GlandSegmenter, Preprocessing


class DarkIsGland(nn.Module):
    """A network whose answer is known: a pixel is gland as surely as it is dark, at a quarter of the size."""

    def forward(self, pixel_values):
        darkness = nn.functional.avg_pool2d(0.5 - pixel_values.mean(dim=1, keepdim=True), 4, ceil_mode=True)
        return type("Output", (), {"logits": torch.cat([-10 * darkness, 10 * darkness], dim=1)})


@pytest.fixture
def dark_is_gland():
    """Build a segmenter around DarkIsGland: `dark_is_gland(mpp=…, temperature=…)`."""
    def build(**options):
        scaling = Preprocessing(rescale=1 / 255, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        return GlandSegmenter(DarkIsGland(), scaling, {0: "background", 1: "gland"}, device="cpu", **options)
    return build


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A saved model with random weights, for 0.5 µm per pixel."""
    return save_tiny_model(tmp_path_factory.mktemp("model"), mpp=0.5)
