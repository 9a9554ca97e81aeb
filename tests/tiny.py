"""A dataset and a network small enough to train in a second, and the settings that fit them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hf_gland.config import all_settings
from hf_gland.data.build import About, build_dataset
from hf_gland.data.digest import combined_digest, row_digest
from hf_gland.data.sample import Sample
from hf_gland.data.sparsify import SparseAnnotation

CLASS_NAMES = ("background", "gland", "other gland")
STAINS = np.array([[228, 170, 200], [110, 60, 140], [60, 120, 110]], float)  # one per class: easy to learn
NETWORK = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2],
           "decoder_hidden_size": 16}
TWO_LEVELS = {"num_encoder_blocks": 2, "hidden_sizes": [8, 16], "depths": [1, 1], "num_attention_heads": [1, 2],
              "patch_sizes": [7, 3], "strides": [4, 2], "sr_ratios": [8, 4], "mlp_ratios": [4, 4],
              "decoder_hidden_size": 16}  # for runs of many steps: half the operations
NO_DROPOUT = {"drop_path_rate": 0.0, "classifier_dropout_prob": 0.0, "hidden_dropout_prob": 0.0,
              "attention_probs_dropout_prob": 0.0}

Masks = Callable[[np.ndarray, np.ndarray], np.ndarray | None]


def picture(index: int, num_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two round glands on stroma: image uint8 [H, W, 3], mask uint8 [H, W], instances uint16 [H, W]."""
    rng = np.random.default_rng([7, index])
    height, width = 64 + 8 * (index % 3), 80
    y, x = np.mgrid[:height, :width]
    mask, instances = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint16)
    for gland, (cy, cx) in enumerate([(height * 0.3, width * 0.3), (height * 0.7, width * 0.65)], start=1):
        disc = (y - cy) ** 2 + (x - cx) ** 2 < rng.uniform(11, 15) ** 2
        mask[disc], instances[disc] = 1 + (gland + index) % (num_classes - 1), gland
    image = (STAINS[mask] + rng.normal(0, 8, (height, width, 3))).clip(0, 255).astype(np.uint8)
    return image, mask, instances


def one_gland_and_a_strip(mask: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """The usual sparse labels: gland 1 whole, and stroma along the top."""
    sparse = np.full(mask.shape, 255, np.uint8)
    sparse[instances == 1] = mask[instances == 1]
    sparse[:8] = 0
    return sparse


def dense_truth(mask: np.ndarray, instances: np.ndarray) -> np.ndarray:
    return mask


def no_truth(mask: np.ndarray, instances: np.ndarray) -> None:
    return None


def write_dataset(out: Path, num_classes: int = 2, sparse: Masks = one_gland_and_a_strip,
                  dense: Masks = dense_truth, mpp: float | None = 0.5,
                  splits: tuple[str, ...] = ("train", "validation"), ids: bool = True) -> Path:
    """A dataset folder as `build_dataset` makes it, with the masks that `sparse` and `dense` give, and gland ids."""
    def rows(split: str) -> Iterator[tuple[Sample, SparseAnnotation]]:
        for i in range(6 if split == "train" else 2):
            image, mask, instances = picture(i + 20 * (split != "train"), num_classes)
            truth, drawn = dense(mask, instances), sparse(mask, instances)
            sample = Sample(image, truth, instances if ids and np.array_equal(truth, mask) else None, f"{split}-{i}",
                            f"patient-{split}-{i}", "tiny", mpp=mpp)
            yield sample, SparseAnnotation(drawn, 1, 2, float((drawn != 255).mean()), 2)

    build_dataset({split: rows(split) for split in splits}, out,
                  About(CLASS_NAMES[:num_classes], "tiny", "mit", {"style": "glands"}))
    return out


def tiny_settings(dataset: Path, network: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """Settings of a run of about a second; no setting of the method is left to its default, which may change.

    What has no effect beside the `changes` is left out. The teacher follows fast and the thresholds are low, so that
    there are pseudo-labels at all.
    """
    usual = {
        "backbone": "random:segformer", "model_kwargs": json.dumps(TWO_LEVELS | (network or {})), "mpp": 0.0,
        "steps": 12, "batch_size": 4, "crop_px": 32, "scale_min": 0.8, "scale_max": 1.25, "refresh_tile_px": 64,
        "learning_rate": 5e-3, "head_lr_factor": 5.0, "lr_warmup_fraction": 0.05, "mixed_precision": "no",
        "mode": "refined", "warmup_fraction": 0.25, "refresh": "bank", "refreshes": 3, "refresh_growth": 1.6,
        "loss": "separate", "pseudo_weight": 0.5, "pseudo_ramp": 0.2, "dice_weight": 1.0, "warmup_background": "none",
        "ema_start": 0.5, "ema_end": 0.9, "threshold": "cosine", "threshold_start": 0.7, "threshold_end": 0.5,
        "tracker": "none", "validation_split": "", "validate_every": 0, "panels_every": 0, "save_every": 0}
    values = {name: s.default for name, s in all_settings().items()} | usual | changes
    with_effect = {name: value for name, value in usual.items() if not all_settings()[name].why_idle(values)}
    return {"dataset": str(dataset)} | with_effect | changes


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def dataset_digest(splits: Mapping[str, Iterable[Mapping[str, Any]]]) -> str:
    """`data_sha256` of rows by split, read back from wherever they were put."""
    return combined_digest(row_digest(split, row) for split, rows in splits.items() for row in rows)
