"""Gland segmentation from a few outlined glands per image.

>>> from hf_gland import GlandSegmenter
>>> segmenter = GlandSegmenter.from_pretrained("path/to/model")  # doctest: +SKIP
>>> segmenter.predict("biopsy.png", mpp=0.5).save("biopsy")      # doctest: +SKIP
"""

import importlib
from typing import Any

__version__ = "0.1.0"
# Imported when first asked for: they need torch, and `import hf_gland` is to stay light.
_PUBLIC = {"GlandSegmenter": "hf_gland.inference", "GlandPrediction": "hf_gland.inference", "Tiling": "hf_gland.options",
           "PostProcessing": "hf_gland.options", "ExportOptions": "hf_gland.options", "HfGlandError": "hf_gland.errors"}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'hf_gland' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
