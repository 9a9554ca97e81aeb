"""What the demo accepts, and how much it keeps: one place, shown on the page and tested."""

from dataclasses import dataclass

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
    min_side_px: int = 32
    max_glands: int = 2000
    smallest_gland_px: int = 20
    concurrency: int = 1
    queue_size: int = 40
    store_mb: int = 1024
    keep_minutes: float = 30.0
