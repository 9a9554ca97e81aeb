"""An uploaded file as the picture that is segmented, with everything the user should know about the way there."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from gland_space.limits import MEGAPIXEL, Limits
from gland_space.pixel_size import stated_mpp
from gland_space.tiff_pages import Pages, inspect_tiff, read_level
from hf_gland.imaging.pictures import ImageError, read_rgb

FORMATS = "PNG, JPEG, TIFF, BMP or WebP"
# Told apart by their first bytes. Pillow's own search would try some forty formats more, one of which hands files to an
# outside interpreter (PostScript). GIF is read for the sake of a message about animations.
_READERS = ((b"\x89PNG", PngImagePlugin.PngImageFile), (b"BM", BmpImagePlugin.BmpImageFile),
            (b"RIFF", WebPImagePlugin.WebPImageFile), (b"GIF8", GifImagePlugin.GifImageFile))


@dataclass(frozen=True, eq=False)
class Picture:
    """rgb uint8 [H, W, 3], what is segmented.

    name: the file's, made harmless; full_hw: (height, width) in the file; reduction: pixels of the file per pixel
    here (1 = unchanged); mpp: µm per pixel of the *file's* picture as the file states it, or None; pages: pictures
    in the file, of which `page` (from 1) was taken; notes: sentences for the user.
    """

    rgb: np.ndarray
    name: str
    full_hw: tuple[int, int]
    reduction: float = 1.0
    mpp: float | None = None
    pages: int = 1
    page: int = 1
    notes: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        return Path(self.name).stem or "picture"


def safe_name(name: str) -> str:
    """A file name without folders, control or shell characters: at most 80 of letters, digits, `_`, `-`, `.`."""
    base = re.split(r"[\\/]", name)[-1]
    stem, dot, suffix = base.rpartition(".")
    kept = re.sub(r"[^\w.-]+", "_", stem if dot else base).strip("._")[:70]
    suffix = re.sub(r"\W+", "", suffix)[:8] if dot else ""
    return f"{kept or 'picture'}{'.' + suffix if suffix else ''}"


def read_picture(path: str | Path, limits: Limits, *, page: int = 1, max_side_px: int | None = None) -> Picture:
    """Read a picture for segmentation, reduced to `max_side_px` (default: the limit) if it is larger.

    Of a pyramid the smallest level that is large enough is read; of a stack of pages, `page` (from 1). Raises
    ImageError with a message for the user.
    """
    path = Path(path)
    name = safe_name(path.name)
    side = max_side_px or limits.max_side_px
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as error:
        raise ImageError(f"{name}: cannot be read any more; please upload it again") from error
    if not start:
        raise ImageError(f"{name}: the file is empty")
    if start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        picture = _from_tiff(path, name, limits, page, side)
    elif page != 1:
        raise ImageError(f"{name}: has no page {page}; it holds 1")
    elif start[:3] == b"\xff\xd8\xff":
        picture = _from_jpeg(path, name, limits, side)
    else:
        picture = _from_other(path, name, start, limits)
    height, width = picture.full_hw
    if min(height, width) < limits.min_side_px:
        raise ImageError(f"{name}: {width}×{height} px is too small to show a gland; at least "
                         f"{limits.min_side_px} px each way are needed")
    return _reduced(picture, side)


def _from_tiff(path: Path, name: str, limits: Limits, page: int, side: int) -> Picture:
    pages = inspect_tiff(path, name)
    level = pages.level_for(page, side, limits.max_decoded_px)
    height, width = level.hw
    _check_size(name, height, width, limits.max_decoded_px)
    image = read_level(path, name, level)
    mpp = _tiff_mpp(path)
    notes = _tiff_notes(pages, page, level.hw)
    return Picture(read_rgb(image, name=name, max_pixels=limits.max_decoded_px), name, pages.full_hw(page), mpp=mpp,
                   pages=pages.count, page=page, notes=(*notes, *_mode_notes(image)))


def _tiff_mpp(path: Path) -> float | None:
    try:
        with TiffImagePlugin.TiffImageFile(path) as image:
            return stated_mpp(image)
    except (OSError, SyntaxError, ValueError):  # Pillow does not know this kind of TIFF; tifffile may
        return None


def _tiff_notes(pages: Pages, page: int, level_hw: tuple[int, int]) -> tuple[str, ...]:
    if pages.count > 1:
        return (f"The file holds {pages.count} pages; this is page {page}.",)
    if level_hw != pages.full_hw(page):
        return (f"Pyramid of {pages.levels} levels: the one of {level_hw[1]}×{level_hw[0]} px was read.",)
    return ()


def _from_jpeg(path: Path, name: str, limits: Limits, side: int) -> Picture:
    try:
        with JpegImagePlugin.JpegImageFile(path) as image:
            width, height = image.size
            # A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size straight away.
            image.draft(None, (min(side, width), min(side, height)))
            _check_size(name, image.height, image.width, limits.max_decoded_px)
            turned = image.getexif().get(0x0112, 1) >= 5  # stored lying on its side
            notes, mpp = _mode_notes(image), stated_mpp(image)
            rgb = read_rgb(image, name=name, max_pixels=limits.max_decoded_px)
    except Exception as error:  # Pillow raises whatever a broken file leads it into
        raise _damaged(name, error) from error
    return Picture(rgb, name, (width, height) if turned else (height, width), mpp=mpp, notes=notes)


def _from_other(path: Path, name: str, start: bytes, limits: Limits) -> Picture:
    reader = next((reader for signature, reader in _READERS if start.startswith(signature)), None)
    if start.startswith(b"PK"):
        raise ImageError(f"{name}: is a zip archive, not a picture; unpack it and upload one {FORMATS} file")
    if reader is None:
        raise ImageError(f"{name}: not a picture that can be read, whatever its name says; expected {FORMATS}")
    try:
        with reader(path) as image:
            _check_size(name, image.height, image.width, limits.max_decoded_px)
            notes, mpp = _mode_notes(image), stated_mpp(image)
            rgb = read_rgb(image, name=name, max_pixels=limits.max_decoded_px)
    except Exception as error:  # as above
        raise _damaged(name, error) from error
    return Picture(rgb, name, rgb.shape[:2], mpp=mpp, notes=notes)


def _damaged(name: str, error: Exception) -> ImageError:
    if isinstance(error, ImageError):
        return error
    return ImageError(f"{name}: the file is damaged or cut short ({error}); copy or export it again")


def _check_size(name: str, height: int, width: int, max_px: int) -> None:
    if height * width > max_px:
        raise ImageError(f"{name}: {width}×{height} px is {height * width / MEGAPIXEL:,.0f} million pixels, above the "
                         f"limit of {max_px / MEGAPIXEL:.0f} million; crop it, export it at a lower magnification, "
                         "or save it as a pyramidal TIFF")


def _mode_notes(image: Image.Image | np.ndarray) -> tuple[str, ...]:
    if isinstance(image, np.ndarray):
        return ("16-bit values were reduced to 8 bits.",) if image.dtype == np.uint16 else ()
    notes = []
    if image.mode == "CMYK":
        notes.append("CMYK colours were converted to RGB.")
    if image.has_transparency_data:
        notes.append("Transparent parts were laid over white.")
    if image.mode.startswith("I;16"):
        notes.append("16-bit values were reduced to 8 bits.")
    if image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16"):
        notes.append("The picture is grey; the model expects the colours of an H&E stain.")
    return tuple(notes)


def _reduced(picture: Picture, side: int) -> Picture:
    """The picture at no more than `side` px; the reduction counts from the file's own size."""
    height, width = picture.rgb.shape[:2]
    rgb, notes = picture.rgb, picture.notes
    if max(height, width) > side:
        shown = ImageOps.contain(Image.fromarray(rgb), (side, side), Image.Resampling.LANCZOS)
        rgb = np.array(shown)
    reduction = max(picture.full_hw) / max(rgb.shape[:2])
    if reduction > 1.0:
        full_h, full_w = picture.full_hw
        notes = (f"Reduced from {full_w}×{full_h} to {rgb.shape[1]}×{rgb.shape[0]} px (limit: {side} px a side). "
                 "GeoJSON coordinates are those of the original file.", *notes)
    return Picture(rgb, picture.name, picture.full_hw, reduction, picture.mpp, picture.pages,
                   picture.page, notes)
