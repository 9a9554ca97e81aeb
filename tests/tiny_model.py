"""A random SegFormer small enough for tests, saved as training saves one."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny import NETWORK
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

from hf_gland.inference import GlandSegmenter, Tiling


def save_tiny_model(folder: Path, mpp: float | None = 0.5) -> Path:
    """Two classes, of most pixels sure, for images of `mpp` µm per pixel; colours are normalised by an unusual mean and
    deviation."""
    torch.manual_seed(0)
    names = {0: "background", 1: "gland"}
    model = SegformerForSemanticSegmentation(
        SegformerConfig(**NETWORK, id2label=names, label2id={name: i for i, name in names.items()}))
    with torch.no_grad():
        model.decode_head.classifier.weight *= 20
    model.config.mpp = mpp
    model.save_pretrained(folder)
    processor = SegformerImageProcessorPil(do_resize=False, image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.2, 0.1])
    processor.save_pretrained(folder)
    return folder


def assert_lines_agree(text: str, name: str, model: Path, picture: str, folder: Path) -> None:
    """The lines of Markdown that predict `picture` with transformers alone, run on a picture of no round size, leave the
    gland mask of GlandSegmenter in `mask`. `model`: the folder that stands for the model they call `name`."""
    (lines,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "np.pad" in block]
    assert name in lines
    assert picture in lines
    rgb = np.kron(np.random.default_rng(0).integers(0, 2, (4, 5, 3)) * 255, np.ones((20, 20, 1)))[:77, :98].astype(np.uint8)
    Image.fromarray(rgb).save(folder / picture)
    left: dict[str, Any] = {}
    exec(lines.replace(picture, str(folder / picture)).replace(name, str(model)), left)
    segmenter = GlandSegmenter.from_pretrained(model, device="cpu")
    here = np.asarray(left["mask"]) > 0
    ours = segmenter.probabilities(rgb, tiling=Tiling(precision="float32", match_stain=False)).argmax(axis=0) == 1
    assert left["found"]["label"] == segmenter.id2label[1]
    assert 0.05 < ours.mean() < 0.95
    assert (here & ours).sum() >= 0.99 * (here | ours).sum()
