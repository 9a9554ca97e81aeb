"""Colours of the page's pictures: the classes' own, and cividis for confidence, which all eyes read alike."""

import base64
import io
from functools import cache

import matplotlib
import numpy as np
from PIL import Image

from hf_gland.labels import class_colour


def hex_colour(class_id: int) -> str:
    return "#" + bytes(class_colour(class_id)).hex()


@cache
def cividis() -> np.ndarray:
    """uint8 [256, 3], dark blue (least sure) to yellow (surest)."""
    return np.round(matplotlib.colormaps["cividis"](np.arange(256))[:, :3] * 255).astype(np.uint8)


def confidence_picture(confidence: np.ndarray, lowest: float) -> np.ndarray:
    """uint8 [H, W, 3] of float [H, W] confidence from `lowest` (a guess among the classes) to 1."""
    level = (np.clip(confidence, lowest, 1) - lowest) / (1 - lowest)
    return cividis()[np.round(level * 255).astype(np.uint8)]


def data_uri(pixels: np.ndarray, kind: str) -> str:
    """A `data:` address of uint8 [H, W] or [H, W, 3], as PNG (exact) or JPEG."""
    buffer = io.BytesIO()
    options = {"compress_level": 3} if kind == "PNG" else {"quality": 92, "subsampling": 0}
    Image.fromarray(pixels).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
