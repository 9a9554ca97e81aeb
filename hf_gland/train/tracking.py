"""What a run leaves behind to look at: metrics.jsonl (every step), trackers, and panels."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from PIL import Image
from tqdm import tqdm

from hf_gland.files import write_atomically
from hf_gland.labels import IGNORE_INDEX, class_colour


def cut_metrics(path: Path, step: int) -> None:
    """Drop what a run recorded after `step`, so that a resumed run records it once; and what cannot be read, with a
    warning: all but a last line that a kill cut short."""
    if not path.exists():
        return
    kept, lines = [], path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line.rstrip(b"\n") + b"\n")
        except (ValueError, TypeError, KeyError):
            if line.endswith(b"\n"):
                tqdm.write(f"warning: {path}: line {number} cannot be read and is dropped", file=sys.stderr)
    write_atomically(path, lambda file: file.writelines(kept))


def append_metrics(path: Path, record: dict[str, Any]) -> None:
    """Add one line to metrics.jsonl."""
    with open(path, "a") as file:
        file.write(json.dumps(record) + "\n")


def colour_labels(mask: np.ndarray) -> np.ndarray:
    """RGB uint8 [H, W, 3] of integer labels [H, W]; unlabelled pixels are grey."""
    table = np.array([class_colour(c) for c in range(IGNORE_INDEX + 1)], np.uint8)
    return table[mask]


def panel(images: np.ndarray, labels: list[np.ndarray]) -> np.ndarray:
    """One row per crop: the image (uint8 [B, H, W, 3]), then each label map ([B, H, W]) blended over it."""
    columns = [images]
    for maps in labels:
        colours = np.stack([colour_labels(m) for m in maps])
        columns.append((0.45 * images + 0.55 * colours).astype(np.uint8))
    return np.concatenate([np.concatenate(list(column), axis=0) for column in columns], axis=1)


def save_panel(accelerator: Accelerator, picture: np.ndarray, path: Path, step: int) -> None:
    """Write a panel as PNG and hand it to the trackers that take pictures."""
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(picture).save(path)
    for tracker in accelerator.trackers:
        if hasattr(tracker, "log_images"):
            layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
            tracker.log_images({"panels": picture[None]}, step=step, **layout)
