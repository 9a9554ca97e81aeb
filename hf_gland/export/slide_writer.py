"""What writes an output of a slide while the slide goes by: glands one after the other, maps from top to bottom."""

from dataclasses import dataclass

import numpy as np

from hf_gland.glands import PredictedGlands


@dataclass(frozen=True, eq=False)
class SlideInfo:
    """What is known beforehand: the slide's name, the prediction's height and width, its µm per pixel (None: unknown), and a
    small picture of the same field, uint8 [h, w, 3] (None: there is none).
    """

    name: str
    hw: tuple[int, ...]
    mpp: float | None
    thumbnail: np.ndarray | None = None

    @classmethod
    def of(cls, prediction: PredictedGlands) -> "SlideInfo":
        """The same of a picture."""
        return cls(prediction.name, prediction.class_map.shape, prediction.mpp, prediction.rgb)


class SlideWriter:
    """A writer takes what it needs and leaves the rest; the file is its caller's to close."""

    def add_glands(self, part: PredictedGlands) -> None:
        """The glands of a part of the slide, complete."""

    def add_classes(self, rows: np.ndarray) -> None:
        """The next rows of class ids after clean-up, uint8 [h, W]."""

    def add_confidence(self, rows: np.ndarray) -> None:
        """The next rows of the highest class probability in percent, uint8 [h, W], 0 where nothing was predicted."""

    def finish(self) -> None:
        """Nothing comes any more."""
