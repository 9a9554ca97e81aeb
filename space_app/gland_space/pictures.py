"""An uploaded file as the picture that is segmented, with everything the user should know about the way there."""

import re
from pathlib import Path

from gland_space.limits import Limits
from hf_gland.errors import ImageError
from hf_gland.imaging.pictures import Picture
from hf_gland.imaging.pictures import read_picture as read_file


def safe_name(name: str) -> str:
    """A file name without folders, control or shell characters: at most 80 of letters, digits, `_`, `-`, `.`."""
    base = re.split(r"[\\/]", name)[-1]
    stem, dot, suffix = base.rpartition(".")
    kept = re.sub(r"[^\w.-]+", "_", stem if dot else base).strip("._")[:70]
    suffix = re.sub(r"\W+", "", suffix)[:8] if dot else ""
    return f"{kept or 'picture'}{'.' + suffix if suffix else ''}"


def read_picture(path: str | Path, limits: Limits, *, page: int = 1, max_side_px: int | None = None) -> Picture:
    """Read a picture for segmentation, reduced to `max_side_px` (default: the limit) if it is larger.

    Of a pyramid the smallest level that is large enough is read; of a stack of pages, `page` (from 1). Pixels lie as the
    file stores them, as for `predict` and QuPath. Raises ImageError with a message for the user.
    """
    path = Path(path)
    name = safe_name(path.name)
    if not path.is_file():
        raise ImageError(f"{name}: cannot be read any more; please upload it again")
    picture = read_file(path, name=name, max_pixels=limits.max_decoded_px, page=page,
                        max_side_px=max_side_px or limits.max_side_px, upright=False)
    if min(picture.full_hw) < limits.min_side_px:
        raise ImageError(f"{name}: {picture.full_hw[1]}×{picture.full_hw[0]} px is too small to show a gland; at least "
                         f"{limits.min_side_px} px each way are needed")
    return picture
