"""A picture of what was annotated: images in rows, ways of annotating in columns."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from hf_gland.data.sparsify import STYLES, SparsifyConfig, annotation_rng, sparsify
from hf_gland.labels import IGNORE_INDEX, class_colour

DIM = 0.62  # how far an unlabelled pixel fades to white
TINT = 0.45
CELL_PX = 320


def overlay(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: labelled pixels tinted and edged in their class's colour, unlabelled ones faded.

    image uint8 [H, W, 3]; mask uint8 [H, W], 255 = unlabelled.
    """
    picture = image.astype(np.float32)
    picture = np.where((mask == IGNORE_INDEX)[..., None], picture + DIM * (255 - picture), picture)
    for class_id in np.unique(mask[mask != IGNORE_INDEX]):
        here = mask == class_id
        colour = np.array(class_colour(int(class_id)), np.float32)
        picture[here] = (1 - TINT) * picture[here] + TINT * colour
        picture[here & ~ndimage.binary_erosion(here, border_value=1)] = colour
    return picture.round().astype(np.uint8)


def contact_sheet(rows: Sequence[tuple[str, np.ndarray, Sequence[np.ndarray]]], titles: Sequence[str],
                  ) -> Image.Image:
    """Draw rows of (image id, image, one mask per title) as a grid; each cell is at most `CELL_PX` on its long side."""
    line_px, gap = 18, 6
    scales = [CELL_PX / max(image.shape[:2]) for _, image, _ in rows]
    heights = [max(round(image.shape[0] * s), 1) + line_px + gap for (_, image, _), s in zip(rows, scales, strict=True)]
    sheet = Image.new("RGB", (len(titles) * (CELL_PX + gap) + gap, line_px + gap + sum(heights)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, title in enumerate(titles):
        draw.text((gap + column * (CELL_PX + gap), gap // 2), title, "black", font)
    top = line_px + gap
    for (image_id, image, masks), scale, height in zip(rows, scales, heights, strict=True):
        for column, mask in enumerate(masks):
            left = gap + column * (CELL_PX + gap)
            share = 100 * float((mask != IGNORE_INDEX).mean())
            draw.text((left, top), f"{image_id}  {share:.1f} % labelled", "black", font)
            cell = Image.fromarray(overlay(image, mask))
            size = max(round(cell.width * scale), 1), max(round(cell.height * scale), 1)
            sheet.paste(cell.resize(size, Image.Resampling.LANCZOS), (left, top + line_px))
        top += height
    return sheet


def style_sheet(rows: Sequence[Mapping[str, Any]], config: SparsifyConfig | None, seed: int) -> Image.Image:
    """Dataset rows as they were annotated, and, where the dense mask is known, as every other style would do it, but for
    `images`, which chooses among all images of a split.

    `rows`: decoded rows in the columns of `FEATURES`; `config`: how they were annotated, None if by hand.
    """
    base = config or SparsifyConfig()
    others = [replace(base, style=style, budget=base.budget if isinstance(base.budget, float) else 0.2)
              for style in STYLES if style != "images" and (config is None or style != config.style)]
    if any(row["mask"] is None for row in rows):
        others = []
    titles = ["as built" if config is None else _title(config), *map(_title, others)]
    cells = []
    for row in rows:
        mask = None if row["mask"] is None else np.asarray(row["mask"])
        instances = None if row["instances"] is None else np.asarray(row["instances"])
        masks = [np.asarray(row["sparse_mask"])]
        if mask is not None:
            masks += [sparsify(mask, instances, other, annotation_rng(seed, row["image_id"])).mask for other in others]
        cells.append((row["image_id"], np.asarray(row["image"].convert("RGB")), masks))
    return contact_sheet(cells, titles)


def _title(config: SparsifyConfig) -> str:
    return "full" if config.style == "full" else f"{config.style}, budget {config.budget}"
