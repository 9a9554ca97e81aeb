"""What the demo accepts and how much it keeps (one place, shown on the page and tested), and how it reads a picture."""

import re
from dataclasses import dataclass
from pathlib import Path

from hf_gland.errors import ImageError
from hf_gland.imaging.pictures import Picture
from hf_gland.imaging.pictures import read_picture as read_file

MEGAPIXEL = 1_000_000


@dataclass(frozen=True)
class Limits:
    """Bounds on uploads, work and memory.

    max_file_mb          size of an uploaded file.
    max_request_mb       size of any other request; the largest is a drawing.
    quota_mb             files of all visitors together; the oldest go first, and what is in use is never removed.
    max_decoded_px       pixels of a picture that has to be decoded whole before it can be made smaller.
    max_side_px          longer side of the picture that is segmented; larger ones are reduced, with a note.
    max_annotated_px     longer side of the picture that is annotated in the browser.
    max_working_px       pixels after resampling to the model's own pixel size.
    max_region_px        the same of a part of a slide.
    min_side_px          a picture narrower than this shows no gland.
    max_glands           glands kept, the largest first; more are specks of a model that sees nothing.
    smallest_gland_px    what is smaller is never a gland, whatever the slider says (px of the segmented picture).
    concurrency          model runs at a time. One uses all cores.
    queue_size           requests waiting; further ones are told to come back.
    store_mb             memory for results, of all visitors together; the least recently used go first.
    keep_minutes         how long an unused result and its files are kept.
    """

    max_file_mb: int = 200
    max_request_mb: int = 32
    quota_mb: int = 2048
    max_decoded_px: int = 100 * MEGAPIXEL
    max_side_px: int = 4096
    max_annotated_px: int = 2048
    max_working_px: int = 25 * MEGAPIXEL
    max_region_px: int = 16 * MEGAPIXEL
    min_side_px: int = 32
    max_glands: int = 2000
    smallest_gland_px: int = 20
    concurrency: int = 1
    queue_size: int = 40
    store_mb: int = 1024
    keep_minutes: float = 30.0


class SentFile(str):
    """The path of an upload. `own_name`: what the file is called on the visitor's computer."""

    __slots__ = ("own_name",)
    own_name: str

    @classmethod
    def of(cls, path: str, own_name: str) -> "SentFile":
        """Characters that cannot be seen are dropped: a name that is copied into a terminal must not control it."""
        sent = cls(path)
        sent.own_name = "".join(c for c in re.split(r"[\\/]", own_name)[-1] if c.isprintable()) or Path(path).name
        return sent


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
    check_large_enough(picture, limits)
    return picture


def check_large_enough(picture: Picture, limits: Limits) -> None:
    """Raise ImageError for a picture whose file is too small to show a gland."""
    if min(picture.full_hw) < limits.min_side_px:
        raise ImageError(f"{picture.name}: {picture.full_hw[1]}×{picture.full_hw[0]} px is too small to show a gland; at "
                         f"least {limits.min_side_px} px each way are needed")
