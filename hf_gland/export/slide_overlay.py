"""A slide's thumbnail with its glands outlined, drawn while they are found."""

from typing import BinaryIO

import numpy as np
from PIL import Image
from scipy import ndimage

from hf_gland.errors import HfGlandError
from hf_gland.export.slide_writer import SlideInfo, SlideWriter
from hf_gland.glands import PredictedGlands
from hf_gland.instances import EIGHT_NEIGHBOURS, framed
from hf_gland.labels import class_colour
from hf_gland.options import ExportOptions

FINE = 2  # pixels of the thumbnail per pixel of the prediction, from which lines are wider than one pixel


class OverlayWriter(SlideWriter):
    """PNG of the thumbnail; a gland's outline takes its class's colour and lies on the gland's own pixels."""

    def __init__(self, file: BinaryIO, slide: SlideInfo, options: ExportOptions):
        if slide.thumbnail is None:
            raise HfGlandError(f"{slide.name}: there is no thumbnail, which the overlay needs")
        self._file, self._thumbnail = file, slide.thumbnail
        self._scale = np.divide(slide.thumbnail.shape[:2], slide.hw)
        self._outlines = np.zeros(slide.thumbnail.shape[:2], np.uint8)

    def add_glands(self, part: PredictedGlands) -> None:
        padded = framed(part.instances)
        own = padded[1:-1, 1:-1]
        rim = (own > 0) & ((padded[:-2, 1:-1] != own) | (padded[2:, 1:-1] != own)
                           | (padded[1:-1, :-2] != own) | (padded[1:-1, 2:] != own))
        place = np.nonzero(rim)
        y, x = (((along + from_start + 0.5) * scale).astype(int)
                for along, from_start, scale in zip(place, part.origin_yx, self._scale, strict=True))
        self._outlines[y, x] = part.class_map[place]

    def finish(self) -> None:
        lines = self._outlines
        if self._scale.max() > 1 / FINE:
            lines = ndimage.grey_dilation(lines, footprint=EIGHT_NEIGHBOURS)
        drawn = self._thumbnail.copy()
        for class_id in np.unique(lines[lines > 0]):
            drawn[lines == class_id] = class_colour(int(class_id))
        Image.fromarray(drawn).save(self._file, "PNG")
