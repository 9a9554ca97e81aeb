"""Predictions as images of numbers, for other programs to read."""

from pathlib import Path

import numpy as np
from PIL import Image

from hf_gland.files import write_atomically
from hf_gland.inference.glands import GlandPrediction

MOST_INSTANCES = 2**16 - 1


def write_mask(path: str | Path, prediction: GlandPrediction) -> Path:
    """8-bit grey PNG of class ids (0 background, 1 the first gland class, …): dark to the eye, exact to programs."""
    return _write_png(path, prediction.class_map)


def write_instances(path: str | Path, prediction: GlandPrediction) -> Path:
    """16-bit grey PNG of gland ids, 0 = none; raises ValueError beyond 65535 glands."""
    count = int(prediction.instances.max(initial=0))
    if count > MOST_INSTANCES:
        raise ValueError(f"{path}: {count} glands do not fit 16 bits; raise the smallest gland area")
    return _write_png(path, prediction.instances.astype(np.uint16))


def write_confidence(path: str | Path, prediction: GlandPrediction) -> Path:
    """16-bit grey PNG of the confidence: divide by 65535 to get the probability of the predicted class."""
    return _write_png(path, np.round(prediction.confidence.astype(np.float64) * 65535).astype(np.uint16))


def _write_png(path: str | Path, array: np.ndarray) -> Path:
    return write_atomically(path, lambda file: Image.fromarray(array).save(file, "PNG"))
