"""One row of a dataset, before and after sparse annotation (the published columns are `FEATURES`)."""

from dataclasses import dataclass

import datasets
import numpy as np

from hf_gland.instances import check_instances
from hf_gland.labels import check_mask

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
        """Return self, or raise MaskError / ValueError that names the image."""
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"{self.image_id}: an image must be 8-bit RGB, got shape {self.image.shape} "
                             f"of {self.image.dtype}")
        if self.mpp is not None and not 0.01 <= self.mpp <= 100:
            raise ValueError(f"{self.image_id}: {self.mpp} µm per pixel is not a plausible pixel size (0.01-100)")
        if self.mask is not None:
            check_mask(self.mask, num_classes, self.image_id, image_hw=self.image.shape[:2])
        if self.instances is not None and self.mask is not None:
            check_instances(self.instances, self.mask, self.image_id)
        elif self.instances is not None and self.instances.shape != self.image.shape[:2]:
            raise ValueError(f"{self.image_id}: the map of gland ids is {self.instances.shape} but the image is "
                             f"{self.image.shape[:2]} (height, width)")
        return self
