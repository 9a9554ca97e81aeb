"""One image with its dense truth, as every source gives it and before anything is annotated sparsely."""

from dataclasses import dataclass

import numpy as np

from hf_gland.errors import DatasetError
from hf_gland.imaging.pixel_size import check_mpp
from hf_gland.instances import check_instances
from hf_gland.labels import MaskError, check_mask


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
