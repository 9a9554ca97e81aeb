"""Training images decoded once into flat memory-mapped files, at the training pixel size.

Reading a crop from here costs microseconds, where decoding a PNG costs milliseconds. Ragged sizes are allowed.
"""

import itertools
import json
import operator
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from tqdm import tqdm

from hf_gland.labels import IGNORE_INDEX, check_mask


class FlatArrays:
    """N uint8 arrays [planes, H_i, W_i] one after the other in one file; `self[i]` is a memory-mapped view."""

    def __init__(self, path: Path, planes: int, sizes: list[tuple[int, int]],
                 mode: Literal["r", "r+"] = "r"):
        self.planes, self.sizes = planes, sizes
        self.offsets = np.concatenate([[0], np.cumsum([planes * h * w for h, w in sizes])]).astype(np.int64)
        self.flat = np.memmap(path, np.uint8, mode, shape=(int(self.offsets[-1]),))

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> np.ndarray:
        h, w = self.sizes[index]
        return self.flat[self.offsets[index]:self.offsets[index + 1]].reshape(self.planes, h, w)


class TrainingStore:
    """images uint8 [3, H, W]; sparse and dense masks uint8 [H, W] (dense: 255 where there is no truth).

    `annotated` is false for images that were taken in without their labels.
    """

    def __init__(self, folder: Path):
        index = json.loads((folder / "index.json").read_text())
        self.sizes = [(h, w) for h, w in index["sizes"]]
        self.image_ids: list[str] = index["image_ids"]
        self.dense_known: list[bool] = index["dense_known"]
        self.annotated: list[bool] = index["annotated"]
        self.images = FlatArrays(folder / "images.u8", 3, self.sizes)
        self._sparse = FlatArrays(folder / "sparse.u8", 1, self.sizes)
        self._dense = FlatArrays(folder / "dense.u8", 1, self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def sparse(self, index: int) -> np.ndarray:
        return self._sparse[index][0]

    def dense(self, index: int) -> np.ndarray:
        return self._dense[index][0]


def working_size(image_hw: tuple[int, int], image_mpp: float | None, target_mpp: float | None,
                 name: str = "image") -> tuple[int, int]:
    """(height, width) of an image once resampled from its own pixel size to `target_mpp` (None: unchanged)."""
    if target_mpp is None:
        return image_hw
    if image_mpp is None:
        raise ValueError(f"{name}: the pixel size is unknown, but training is at {target_mpp} µm per pixel; set "
                         "missing_mpp to the µm per pixel of such images, or mpp to 0 to use pixels as they are")
    return (max(round(image_hw[0] * image_mpp / target_mpp), 1), max(round(image_hw[1] * image_mpp / target_mpp), 1))


def build_store(rows: Iterable[Mapping[str, Any]], folder: Path, num_classes: int, mpp: float | None,
                missing_mpp: float | None, *, dense_as_labels: bool = False, unlabelled: Iterable[Mapping[str, Any]] = (),
                progress: bool = True) -> TrainingStore:
    """Decode dataset rows into `folder`. With `dense_as_labels` the dense mask is the supervision ("full"). Of the
    `unlabelled` rows, which follow, no label is used: their sparse masks are 255 throughout.

    Masks are checked; MaskError / ValueError name the image, OSError the folder. `index.json` is written last:
    without it the store is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").unlink(missing_ok=True)
    try:
        both = itertools.chain(zip(rows, itertools.repeat(True)), zip(unlabelled, itertools.repeat(False)))
        index = _decode(both, folder, num_classes, mpp, missing_mpp, dense_as_labels,
                        progress_total=operator.length_hint(rows) + operator.length_hint(unlabelled) if progress else None)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise  # not about these files
        raise OSError(error.errno, f"{error.strerror} (the decoded images need room there)", str(folder)) from error
    if not index["sizes"]:
        raise ValueError("the training split is empty; nothing to learn from")
    (folder / "index.json").write_text(json.dumps(index))
    return TrainingStore(folder)


def _decode(rows: Iterable[tuple[Mapping[str, Any], bool]], folder: Path, num_classes: int, mpp: float | None,
            missing_mpp: float | None, dense_as_labels: bool, progress_total: int | None) -> dict[str, list]:
    """Write the pixels of `rows` (each with whether its labels count) one after the other; returns what `index.json`
    is to hold."""
    sizes, image_ids, dense_known, annotated = [], [], [], []
    with (open(folder / "images.u8", "wb") as images, open(folder / "sparse.u8", "wb") as sparse,
          open(folder / "dense.u8", "wb") as dense):
        for row, counts in tqdm(rows, desc="decoding images", unit="image", total=progress_total or None, leave=False,
                                disable=progress_total is None):
            name = row["image_id"]
            image = row["image"].convert("RGB")
            hw = working_size((image.height, image.width), row["mpp"] or missing_mpp, mpp, name)
            masks = []
            labels = row["mask"] if dense_as_labels else row["sparse_mask"]
            if not counts:
                labels = Image.new("L", image.size, IGNORE_INDEX)
            elif labels is None:
                raise ValueError(f"{name}: has no {'dense' if dense_as_labels else 'sparse'} mask to learn from; "
                                 + ("use sparse labels (mode refined or sparse-only)" if dense_as_labels
                                    else "rebuild the dataset with masks"))
            for mask in (labels, row["mask"]):
                if mask is not None:
                    check_mask(np.asarray(mask), num_classes, name, image_hw=(image.height, image.width))
                    mask = np.asarray(mask.resize(hw[::-1], Image.Resampling.NEAREST))
                masks.append(np.full(hw, IGNORE_INDEX, np.uint8) if mask is None else mask)
            pixels = np.asarray(image.resize(hw[::-1], Image.Resampling.LANCZOS, reducing_gap=3.0))
            images.write(np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes())
            sparse.write(masks[0].tobytes())
            dense.write(masks[1].tobytes())
            sizes.append(hw)
            image_ids.append(name)
            dense_known.append(row["mask"] is not None)
            annotated.append(counts)
    return {"sizes": sizes, "image_ids": image_ids, "dense_known": dense_known, "annotated": annotated}
