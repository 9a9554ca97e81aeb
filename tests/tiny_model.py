"""A random SegFormer small enough for tests, saved as training saves one."""

from pathlib import Path

import torch
from tiny import NETWORK
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil


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
    SegformerImageProcessorPil(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.2, 0.1]).save_pretrained(folder)
    return folder
