"""A picture for a card that shows no real image: the model's prediction on a synthetic one."""

from pathlib import Path

from hf_gland.data.sources.synthetic.images import iter_synthetic
from hf_gland.export.overlay import write_comparison
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.options import Tiling

PICTURE_SEED = 1_000_003  # an image of no dataset
SYNTHETIC_CLASSES = 3  # most that the generator draws


def prediction_picture(model: Path, path: Path) -> None:
    """PNG of truth, prediction and confidence on a synthetic image that no dataset holds; the same every time."""
    segmenter = GlandSegmenter.from_pretrained(model, device="cpu")
    sample = next(iter(iter_synthetic("test", seed=PICTURE_SEED, images=1,
                                      num_classes=min(len(segmenter.id2label), SYNTHETIC_CLASSES))))
    assert sample.mask is not None
    prediction = segmenter.predict(sample.image, sample.mpp, Tiling(precision="float32"), name=sample.image_id)
    write_comparison(path, sample.image, sample.mask, prediction)
