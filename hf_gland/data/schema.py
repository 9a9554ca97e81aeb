"""One row of a dataset, before and after sparse annotation (the published columns are `FEATURES`)."""

from dataclasses import dataclass

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hf_gland.errors import DatasetError
from hf_gland.imaging.pixel_size import check_mpp
from hf_gland.instances import check_instances
from hf_gland.labels import MaskError, check_mask

FEATURES = datasets.Features({
    "image": datasets.Image(mode="RGB"),
    "sparse_mask": datasets.Image(mode="L"),
    "mask": datasets.Image(mode="L"),
    "instances": datasets.Image(),
    "image_id": datasets.Value("string"),
    "patient_id": datasets.Value("string"),
    "source": datasets.Value("string"),
    "grade": datasets.Value("string"),
    "mpp": datasets.Value("float32"),
    "labelled_fraction": datasets.Value("float32"),
    "annotated_glands": datasets.Value("int32"),
    "total_glands": datasets.Value("int32"),
})
PIXEL_COLUMNS = tuple(name for name, feature in FEATURES.items() if isinstance(feature, datasets.Image))


@dataclass(frozen=True)
class Sample:
    """One image with its dense truth, as a source reads it.

    image uint8 [H, W, 3] RGB; mask uint8 [H, W] of 0..C-1 and 255, or None (an image without truth);
    instances uint16 [H, W] gland ids, 0 = none, or None; mpp µm per pixel, or None when unknown.
    `patient_id` groups the images of one patient: splits never separate them.
    """

    image: np.ndarray
    mask: np.ndarray | None
    instances: np.ndarray | None
    image_id: str
    patient_id: str
    source: str
    grade: str = ""
    mpp: float | None = None

    def check(self, num_classes: int) -> "Sample":
        """Return self, or raise an HfGlandError that names the image."""
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise DatasetError(f"{self.image_id}: an image must be 8-bit RGB, got shape {self.image.shape} "
                               f"of {self.image.dtype}")
        if self.mpp is not None:
            check_mpp(self.mpp, self.image_id)
        if self.mask is not None:
            check_mask(self.mask, num_classes, self.image_id, image_hw=self.image.shape[:2])
        if (ids := self.instances) is not None:
            if ids.shape != self.image.shape[:2]:
                raise MaskError(f"{self.image_id}: the map of gland ids is {ids.shape} but the image is "
                                f"{self.image.shape[:2]} (height, width)")
            if not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() > 65535:
                raise MaskError(f"{self.image_id}: gland ids must be whole numbers from 0 to 65535, got {ids.dtype} from "
                                f"{ids.min()} to {ids.max()}")
            if self.mask is not None:
                check_instances(ids, self.mask, self.image_id)
        return self


def check_images(rows: pa.Table, where: str) -> None:
    """Raise DatasetError naming the first row of `rows` (columns of `FEATURES`) that has no image, or holds the name of a
    file in place of one: `datasets` would open whatever path a row names, and fetch it from http:// or inside zip://."""
    for column in PIXEL_COLUMNS:
        if not pa.types.is_struct(rows.schema.field(column).type):
            raise DatasetError(f"{where}: column {column} holds {rows.schema.field(column).type}, not images; make the "
                               "dataset with build_dataset")
        start = 0
        for cells in rows[column].chunks:
            empty = pc.is_null(pc.struct_field(cells, "bytes")).to_numpy(zero_copy_only=False)
            there = cells.is_valid().to_numpy(zero_copy_only=False)
            if column == "image" and not there.all():
                index = start + int(np.argmin(there))
                raise DatasetError(f"{where}: row {index} ({rows['image_id'][index]}) has no image; remove the row")
            if (empty & there).any():
                index = start + int(np.argmax(empty & there))
                raise DatasetError(f"{where}: row {index} ({rows['image_id'][index]}): {column} names a file "
                                   f"({rows[column][index]['path']}) and does not hold it, and files that a dataset names "
                                   "are not opened. If you trust it, load it with `datasets` and publish it again with "
                                   "push_to_hub, which puts the images themselves into the rows")
            start += len(cells)
