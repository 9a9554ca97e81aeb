"""Training images decoded once into flat memory-mapped files, at the training pixel size.

Reading a crop from here costs microseconds, where decoding a PNG costs milliseconds. Ragged sizes are allowed.
"""

import itertools
import json
import operator
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from hf_gland.data.gland_borders import border_targets
from hf_gland.data.schema import decoded
from hf_gland.errors import DatasetError
from hf_gland.files import write_text_atomically
from hf_gland.flat_arrays import FlatArrays
from hf_gland.imaging.pixel_size import working_hw
from hf_gland.imaging.resample import resample_image, resample_labels
from hf_gland.labels import BACKGROUND, IGNORE_INDEX, check_mask


class TrainingStore:
    """The decoded images: `images[i]` uint8 [3, H, W], `sparse(i)` and `truth(i)` uint8 [H, W] of classes and 255.

    `sparse` is what the run learns from: what an annotator drew, or in mode full the dense mask. `truth` is the dense mask,
    255 throughout where none is known (`truth_known` false). `border(i)` uint8 [H, W]: see `border_targets`; None where
    the run does not learn it. `annotated` is false for images whose labels do not count, `labelled` for those and for
    images that have none.
    """

    def __init__(self, folder: Path):
        index = json.loads((folder / "index.json").read_text())
        self.sizes = [(h, w) for h, w in index["sizes"]]
        self.image_ids: list[str] = index["image_ids"]
        self.truth_known: list[bool] = index["truth_known"]
        self.annotated: list[bool] = index["annotated"]
        self.labelled: list[bool] = index["labelled"]
        self.images = FlatArrays(folder / "images.u8", 3, self.sizes)
        self._sparse = FlatArrays(folder / "sparse.u8", 1, self.sizes)
        self._truth = FlatArrays(folder / "truth.u8", 1, self.sizes)
        border = folder / "border.u8"
        self._border = FlatArrays(border, 1, self.sizes) if border.exists() else None

    def __len__(self) -> int:
        return len(self.sizes)

    def sparse(self, index: int) -> np.ndarray:
        return self._sparse[index][0]

    def truth(self, index: int) -> np.ndarray:
        return self._truth[index][0]

    def border(self, index: int) -> np.ndarray | None:
        return None if self._border is None else self._border[index][0]

    def label_counts(self) -> np.ndarray:
        """int64 [256]: pixels of all images by their label, IGNORE_INDEX the unlabelled ones."""
        return sum((np.bincount(self.sparse(i).ravel(), minlength=IGNORE_INDEX + 1) for i in range(len(self))),
                   start=np.zeros(IGNORE_INDEX + 1, np.int64))


def check_labels(label_counts: np.ndarray, dataset: str, *, truth_as_labels: bool, assume_background: bool) -> None:
    """Raise DatasetError unless there is something to learn: a gland pixel, and what tells it from the rest.

    `label_counts`: of a store; `truth_as_labels`: they are the dense masks; `assume_background`: unlabelled pixels count as
    background. Training without one negative pixel calls everything a gland.
    """
    if label_counts[1:IGNORE_INDEX].sum() == 0:
        raise DatasetError(f"{dataset}: no training image has a labelled gland pixel; " + (
            "check the masks, and how their numbers were read (build_dataset --mask-values)" if truth_as_labels
            else "outline some glands"))
    if label_counts[BACKGROUND] == 0 and not assume_background:
        raise DatasetError(f"{dataset}: no pixel is labelled as background, so nothing tells a gland from the rest. " + (
            "The dense masks call every pixel a gland; check them" if truth_as_labels else
            "Rebuild it with --background rim+scribble, or train with --warmup_background assume"))


def working_size(image_hw: tuple[int, int], image_mpp: float | None, target_mpp: float | None,
                 name: str) -> tuple[int, int]:
    """(height, width) of an image at the training pixel size `target_mpp`, µm (None: its own pixels).

    Raises DatasetError where the image's own is unknown, PixelSizeError where it is implausible.
    """
    if target_mpp is not None and image_mpp is None:
        raise DatasetError(f"{name}: the pixel size is unknown, but training is at {target_mpp} µm per pixel; set "
                           "missing_mpp to the µm per pixel of such images, or mpp to 0 to use pixels as they are")
    return working_hw(image_hw, image_mpp, target_mpp, name)


def build_store(rows: Iterable[Mapping[str, Any]], folder: Path, num_classes: int, mpp: float | None,
                missing_mpp: float | None, *, truth_as_labels: bool = False, unlabelled: Iterable[Mapping[str, Any]] = (),
                border_px: float = 0.0) -> TrainingStore:
    """Decode dataset rows into `folder`, resampled to `mpp` µm per pixel (None: each image's own pixels).

    `missing_mpp`: pixel size of rows that state none. `truth_as_labels`: learn from the dense masks (mode full). No label
    of the `unlabelled` rows, which follow the others, is used: their sparse masks are 255 throughout. `border_px`: width of
    the border of glands (0: none). Raises an HfGlandError that names the image, or OSError that names the folder.
    `index.json` is written last: without it the store is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("index.json", "border.u8"):
        (folder / name).unlink(missing_ok=True)
    try:
        both = itertools.chain(zip(decoded(rows), itertools.repeat(True)),
                               zip(decoded(unlabelled), itertools.repeat(False)))
        shown = tqdm(both, desc="decoding images", unit="image", leave=False, disable=None,
                     total=operator.length_hint(rows) + operator.length_hint(unlabelled) or None)
        index = _decode(shown, folder, num_classes, mpp, missing_mpp, truth_as_labels, border_px)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise  # not about these files
        raise OSError(error.errno, f"{error.strerror} (the decoded images need room there)", str(folder)) from error
    if not index["sizes"]:
        raise DatasetError("the training split is empty; nothing to learn from")
    write_text_atomically(folder / "index.json", json.dumps(index))
    return TrainingStore(folder)


def _decode(rows: Iterable[tuple[Mapping[str, Any], bool]], folder: Path, num_classes: int, mpp: float | None,
            missing_mpp: float | None, truth_as_labels: bool, border_px: float) -> dict[str, list]:
    """Write the pixels of `rows` (each with whether its labels count) one after the other; returns what `index.json`
    is to hold."""
    sizes, image_ids, truth_known, annotated, labelled = [], [], [], [], []
    with (open(folder / "images.u8", "wb") as images, open(folder / "sparse.u8", "wb") as sparse,
          open(folder / "truth.u8", "wb") as truth,
          open(folder / "border.u8", "wb") if border_px else nullcontext() as border):
        for row, counts in rows:
            name = row["image_id"]
            image = row["image"].convert("RGB")
            hw = working_size((image.height, image.width), missing_mpp if row["mpp"] is None else row["mpp"], mpp, name)
            masks = []
            labels = row["mask"] if truth_as_labels else row["sparse_mask"]
            if not counts:
                labels = Image.new("L", image.size, IGNORE_INDEX)
            elif labels is None:
                raise DatasetError(f"{name}: has no {'dense' if truth_as_labels else 'sparse'} mask to learn from; "
                                 + ("use sparse labels (mode refined or sparse-only)" if truth_as_labels
                                    else "rebuild the dataset with masks"))
            for mask in (labels, row["mask"]):
                if mask is not None:
                    check_mask(np.asarray(mask), num_classes, name, image_hw=(image.height, image.width))
                    mask = resample_labels(np.asarray(mask), hw)
                masks.append(np.full(hw, IGNORE_INDEX, np.uint8) if mask is None else mask)
            pixels = resample_image(np.asarray(image), hw)
            images.write(np.ascontiguousarray(pixels.transpose(2, 0, 1)).tobytes())
            sparse.write(masks[0].tobytes())
            truth.write(masks[1].tobytes())
            if border:
                border.write(_border(masks[0], row.get("instances") if counts else None, border_px).tobytes())
            sizes.append(hw)
            image_ids.append(name)
            truth_known.append(row["mask"] is not None)
            annotated.append(counts)
            labelled.append(bool((masks[0] != IGNORE_INDEX).any()))
    return {"sizes": sizes, "image_ids": image_ids, "truth_known": truth_known, "annotated": annotated, "labelled": labelled}


def _border(labels: np.ndarray, instances: Image.Image | None, border_px: float) -> np.ndarray:
    """Border targets of labels uint8 [H, W] at the training pixel size; `instances`: gland ids of the picture as it was."""
    ids = None if instances is None else resample_labels(np.asarray(instances).astype(np.int32), labels.shape)
    return border_targets(labels, ids, border_px)
