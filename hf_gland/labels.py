"""What the numbers in a mask mean.

`0` is stroma (background), `1..C-1` are gland classes, and `255` is a pixel that nobody labelled. Unlabelled
is not background: no loss, metric or statistic in this project may treat it as such.
"""

from collections.abc import Sequence

import numpy as np

from hf_gland.errors import HfGlandError

BACKGROUND = 0
IGNORE_INDEX = 255
BINARY_CLASSES = ("background", "gland")

# Okabe and Ito's colour-blind-safe colours (https://jfly.uni-koeln.de/color/), the gland class first.
CLASS_COLOURS = (
    (0, 0, 0),
    (0, 158, 115),
    (213, 94, 0),
    (0, 114, 178),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
)
UNLABELLED_COLOUR = (128, 128, 128)


class MaskError(HfGlandError):
    """A mask breaks the convention above; the message names the mask and the remedy."""


def class_colour(class_id: int) -> tuple[int, int, int]:
    """RGB (0-255) of a class; gland classes beyond the palette reuse it in turn, 255 is grey."""
    if class_id == IGNORE_INDEX:
        return UNLABELLED_COLOUR
    if class_id == BACKGROUND:
        return CLASS_COLOURS[0]
    return CLASS_COLOURS[1 + (class_id - 1) % (len(CLASS_COLOURS) - 1)]


def check_class_names(class_names: Sequence[str]) -> tuple[str, ...]:
    """The class names as a tuple; raises ValueError unless there are 2 to 255 non-empty ones that differ in more than the
    case of their letters, and none after the first is called background."""
    names = tuple(class_names)
    folded = [name.casefold() for name in names]
    if (not 2 <= len(names) <= IGNORE_INDEX or len(set(folded)) != len(names) or not all(names)
            or BINARY_CLASSES[BACKGROUND] in folded[1:]):
        raise ValueError(f"class names must be 2 to {IGNORE_INDEX} distinct words, background first; got {names}")
    return names


def check_mask(mask: np.ndarray, num_classes: int, name: str, *, image_hw: tuple[int, int] | None = None) -> None:
    """Raise MaskError unless `mask` is a uint8 [H, W] array of 0..num_classes-1 and 255.

    `name` (a file or image id) is quoted in the message; with `image_hw` the size must match the image's.
    """
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise MaskError(f"{name}: a mask must be 8-bit single-channel, got shape {mask.shape} of {mask.dtype}")
    if image_hw is not None and mask.shape != tuple(image_hw):
        raise MaskError(f"{name}: the mask is {mask.shape[0]}×{mask.shape[1]} px but its image is "
                        f"{image_hw[0]}×{image_hw[1]} px (height×width); export both at the same size")
    present = np.flatnonzero(np.bincount(mask.ravel(), minlength=256))
    bad = [int(v) for v in present if v >= num_classes and v != IGNORE_INDEX]
    if bad:
        shown = ", ".join(map(str, bad[:8])) + (", …" if len(bad) > 8 else "")
        raise MaskError(f"{name}: mask values {shown} are not classes; allowed are 0 to {num_classes - 1} and "
                        f"{IGNORE_INDEX} (unlabelled). Map them first, or name more classes")


def check_reference(pixels: Sequence[int] | np.ndarray) -> None:
    """Raise MaskError if the reference masks of a whole split hold 0 and 255 and nothing else.

    `pixels`: how many pixels of the split have each value, [256]. There 255 almost always stands for gland; taken for
    unlabelled, it would make every prediction right.
    """
    present = np.flatnonzero(pixels)
    if present.tolist() == [BACKGROUND, IGNORE_INDEX]:
        raise MaskError("the reference masks hold 0 and 255 alone. 255 means unlabelled, so there is no gland to compare "
                        "with; where it is to mean gland, pass 1 instead (mask == 255)")
