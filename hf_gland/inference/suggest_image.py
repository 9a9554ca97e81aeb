"""Places worth outlining on a whole picture or slide, block by block."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from hf_gland.export.geojson_masks import Region, paint
from hf_gland.export.geojson_read import Annotation
from hf_gland.imaging.slides import Box, Slide, slide_mpp
from hf_gland.imaging.tissue import tissue_mask
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.inference.suggest import EVERY_GLAND, Place, is_suggestion, places_of, uncertainty

BLOCK_PX = 4096  # side of what is predicted at once, at the model's pixel size


def image_places(segmenter: GlandSegmenter, slide: Slide, mpp: float | None, drawn: Sequence[Annotation] = (),
                 grade: str = "") -> tuple[float, list[Place]]:
    """Pixels of the file for each that the model sees, and the places of one image, in pixels that the model sees.

    `mpp`: µm per pixel of the file (None: what it states, else what the model assumes); `drawn`: what is outlined on it
    already, suggestions that nobody looked at apart. Glands that a block cuts are left out, and where there are several
    blocks those without tissue. Raises ImageError and PixelSizeError.
    """
    known = mpp is not None or slide.mpp_xy is not None
    image_mpp = slide_mpp(slide, mpp)[0][0] if known else segmenter.missing_mpp
    scale = segmenter.mpp / image_mpp if segmenter.mpp and image_mpp else 1.0
    hw = tuple(max(round(side / scale), 1) for side in slide.hw)
    outlines = [a.polygons for a in drawn if a.polygons and not is_suggestion(a)]
    found: list[Place] = []
    blocks = list(_blocks(hw))
    tissue = tissue_mask(slide, (image_mpp, image_mpp)) if image_mpp and len(blocks) > 1 else np.ones((1, 1), bool)
    for left, top, right, bottom in blocks:
        (y, y_end), (x, x_end) = ((start * side // whole, -(-end * side // whole)) for start, end, side, whole in zip(
            (top, left), (bottom, right), tissue.shape, hw, strict=True))
        if tissue.any() and not tissue[y:y_end, x:x_end].any():
            continue
        part_hw = bottom - top, right - left
        corner = np.array([left, top]) * scale
        size = np.minimum(np.array([right - left, bottom - top]) * scale, np.array(slide.hw[::-1]) - corner)
        rgb = slide.region(Box(*corner.tolist(), *size.tolist()), part_hw).rgb
        seen = segmenter.predict(rgb, segmenter.mpp, post=EVERY_GLAND, name=slide.name)
        regions = [Region(number, 1, [[(ring - corner) / scale for ring in rings] for rings in polygons])
                   for number, polygons in enumerate(outlines, start=1)]
        outlined = paint(regions, part_hw, slide.name)[0] > 0
        for place in places_of(uncertainty(seen.confidence, len(seen.id2label)), seen.class_map, seen.instances, outlined,
                               image=slide.name, grade=grade):
            height, width = place.hw
            moved = replace(place, left=place.left + left, top=place.top + top)
            cut = (moved.left == left > 0 or moved.top == top > 0 or moved.left + width == right < hw[1]
                   or moved.top + height == bottom < hw[0])
            if not (cut and place.class_id):
                found.append(moved)
    return scale, found


def _blocks(hw: tuple[int, ...]) -> Iterator[tuple[int, int, int, int]]:
    """Left, top, right, bottom of the parts of an image that are predicted one by one."""
    for top in range(0, hw[0], BLOCK_PX):
        for left in range(0, hw[1], BLOCK_PX):
            yield left, top, min(left + BLOCK_PX, hw[1]), min(top + BLOCK_PX, hw[0])
