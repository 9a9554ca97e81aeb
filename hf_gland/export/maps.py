"""Predictions as images of numbers, for other programs to read."""

from typing import BinaryIO

import numpy as np
from PIL import Image

from hf_gland.errors import HfGlandError
from hf_gland.glands import PredictedGlands
from hf_gland.options import ExportOptions

MOST_INSTANCES = 2**16 - 1


def write_mask(file: BinaryIO, prediction: PredictedGlands, options: ExportOptions) -> None:
    """8-bit grey PNG of class ids (0 background, 1 the first gland class, …): dark to the eye, exact to programs."""
    Image.fromarray(prediction.class_map).save(file, "PNG")


def write_instances(file: BinaryIO, prediction: PredictedGlands, options: ExportOptions) -> None:
    """16-bit grey PNG of gland ids, 0 = none; raises HfGlandError beyond 65535 glands."""
    count = int(prediction.instances.max(initial=0))
    if count > MOST_INSTANCES:
        raise HfGlandError(f"{prediction.name}: {count} glands do not fit 16 bits; raise the smallest gland area")
    Image.fromarray(prediction.instances.astype(np.uint16)).save(file, "PNG")


def write_confidence(file: BinaryIO, prediction: PredictedGlands, options: ExportOptions) -> None:
    """16-bit grey PNG of the confidence: divide by 65535 to get the probability of the predicted class."""
    levels = np.round(prediction.confidence.astype(np.float64) * 65535).astype(np.uint16)
    Image.fromarray(levels).save(file, "PNG")
