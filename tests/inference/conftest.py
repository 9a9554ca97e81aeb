import json

import pytest
import torch
from torch import nn
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

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
    """A random SegFormer small enough for tests, saved as training saves one, for 0.5 µm per pixel."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], decoder_hidden_size=16,
                             num_attention_heads=[1, 1, 2, 2], id2label={0: "background", 1: "gland"},
                             label2id={"background": 0, "gland": 1})
    model = SegformerForSemanticSegmentation(config)
    model.config.mpp = 0.5
    model.save_pretrained(folder)
    SegformerImageProcessorPil(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.2, 0.1]).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["mpp"] == 0.5
    return folder
