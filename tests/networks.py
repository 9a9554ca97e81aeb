"""Networks small enough for tests of the model's parts."""

import torch
from tiny import NETWORK

from hf_gland.model.backbones import load_student

BINARY = ("background", "gland")
THREE = ("background", "benign", "malignant")


def tiny_student(class_names=BINARY, mpp=0.5, **overrides):
    """A SegFormer with random weights, the same at each call."""
    torch.manual_seed(0)
    return load_student("random:segformer", class_names, mpp, NETWORK | overrides)
