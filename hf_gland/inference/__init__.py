"""Predicting: `GlandSegmenter.from_pretrained(...).predict(image, mpp)`."""

from hf_gland.errors import ImageError, ModelError, PixelSizeError
from hf_gland.imaging.pictures import read_rgb
from hf_gland.inference.glands import Gland, GlandPrediction, glands_from_probabilities
from hf_gland.inference.segmenter import GlandSegmenter, PixelSizeWarning
from hf_gland.options import PostProcessing, Tiling

__all__ = ["Gland", "GlandPrediction", "GlandSegmenter", "ImageError", "ModelError", "PixelSizeError",
           "PixelSizeWarning", "PostProcessing", "Tiling", "glands_from_probabilities", "read_rgb"]
