"""A saved model's confidence, fitted to what held-out patients show and written into its config."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hf_gland.errors import HfGlandError
from hf_gland.files import write_text_atomically
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.labels import IGNORE_INDEX
from hf_gland.metrics.temperature import fit_temperature, sample_pixels
from hf_gland.model.identity import TEMPERATURE_KEY

PIXELS_PER_IMAGE = 20_000


def temperature_of_rows(segmenter: GlandSegmenter, rows: Iterable[Mapping[str, Any]], *, mask: str = "sparse_mask",
                        seed: int = 0) -> tuple[float, int]:
    """The temperature that fits `segmenter`'s confidence to labelled pixels of `rows`, and how many images had some.

    `mask`: the column with the labels, `sparse_mask` or `mask` (dense). Rows without a label there are passed over;
    the model's present temperature, if it has one, counts as 1. Raises HfGlandError where no row has a label.
    """
    before, segmenter.temperature = segmenter.temperature, 1.0
    rng, probabilities, truth = np.random.default_rng(seed), [], []
    try:
        for row in tqdm(rows, desc="measuring confidence", unit="image", leave=False):
            labels = None if row[mask] is None else np.asarray(row[mask])
            if labels is None or (labels == IGNORE_INDEX).all():
                continue
            predicted = segmenter.probabilities(np.asarray(row["image"].convert("RGB")), row["mpp"], name=row["image_id"])
            chosen, classes = sample_pixels(predicted, labels, PIXELS_PER_IMAGE, rng)
            probabilities.append(chosen)
            truth.append(classes)
    finally:
        segmenter.temperature = before
    if not truth:
        raise HfGlandError(f"no image has a labelled pixel in '{mask}', so there is nothing to fit a temperature on")
    return fit_temperature(np.concatenate(probabilities, axis=1), np.concatenate(truth)), len(truth)


def write_temperature(folder: Path, temperature: float) -> None:
    """Set `confidence_temperature` in the config.json of a model folder; the weights stay as they are. Raises OSError."""
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8")) | {TEMPERATURE_KEY: round(temperature, 4)}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    write_text_atomically(path, text)
