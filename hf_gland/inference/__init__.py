"""Predicting: `GlandSegmenter.from_pretrained(...).predict(image, mpp)`."""

from hf_gland.imaging.pictures import ImageError, read_rgb
from hf_gland.imaging.resample import PixelSizeError
from hf_gland.inference.glands import Gland, GlandPrediction, glands_from_probabilities
from hf_gland.inference.segmenter import GlandSegmenter, ModelError, PixelSizeWarning

__all__ = ["Gland", "GlandPrediction", "GlandSegmenter", "ImageError", "ModelError", "PixelSizeError",
           "PixelSizeWarning", "glands_from_probabilities", "read_rgb"]
