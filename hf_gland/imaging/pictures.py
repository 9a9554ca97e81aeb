"""Any picture a user may hold, as the uint8 RGB array a network expects, with what should be known about the way there."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, TiffImagePlugin

from hf_gland.errors import ImageError
from hf_gland.imaging.opening import (
    MAX_PIXELS,
    ORIENTATION_TAG,
    TIFF_STARTS,
    check_size,
    displayable,
    first_bytes,
    named_errors,
    open_image,
    refuse_several,
)
from hf_gland.imaging.pixel_size import stated_pixel_size
from hf_gland.imaging.tiff_pages import inspect_tiff, open_level

ImageSource = str | Path | Image.Image | np.ndarray


@dataclass(frozen=True, eq=False)
class Picture:
    """rgb uint8 [H, W, 3], and where it came from.

    name: what messages call it; full_hw: (height, width) in the file, turned as rgb is; mpp: µm per pixel of the *file's*
    picture as the file states it, or None, and mpp_source: what in the file does so; orientation: how the file stores it, as
    in EXIF (1: upright); pages: pictures in the file, of which `page` (from 1) was taken; notes: sentences for the user;
    origin_xy: of a part of a slide, its top left corner in pixels of the slide, and full_hw is then the part's own size.
    """

    rgb: np.ndarray
    name: str
    full_hw: tuple[int, int]
    mpp: float | None = None
    mpp_source: str = ""
    orientation: int = 1
    pages: int = 1
    page: int = 1
    notes: tuple[str, ...] = ()
    origin_xy: tuple[int, int] = (0, 0)

    @property
    def reduction(self) -> float:
        """Pixels of the file per pixel here (1: unchanged)."""
        return max(self.full_hw) / max(self.rgb.shape[:2])

    @property
    def stem(self) -> str:
        return Path(self.name).stem or "picture"


def read_rgb(source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS,
             upright: bool = True) -> np.ndarray:
    """A picture as uint8 [H, W, 3] RGB.

    `source`: a file (see `read_picture`), a PIL image, or an array: uint8 or uint16, [H, W] grey, [H, W, 1], [H, W, 3]
    RGB or [H, W, 4] RGBA. `name` is what errors call the picture (default: its file); `upright`: see `read_picture`.
    Raises ImageError.
    """
    if isinstance(source, np.ndarray):
        return _rgb_from_array(source, name or "array", max_pixels)
    if isinstance(source, Image.Image):
        label = name or str(getattr(source, "filename", "")) or "image"
        with named_errors(label):
            check_size(label, source.height, source.width, max_pixels)
            refuse_several(source, label)
            return _to_rgb(ImageOps.exif_transpose(source) if upright else source, label)
    return read_picture(source, name=name, max_pixels=max_pixels, upright=upright).rgb


def read_picture(path: str | Path, *, name: str | None = None, max_pixels: int = MAX_PIXELS,
                 max_side_px: int | None = None, page: int | None = None, upright: bool = True) -> Picture:
    """Read a PNG, JPEG, TIFF, BMP or WebP file of at most `max_pixels`, reduced to `max_side_px` if that is less.

    The camera's orientation tag is applied, unless `upright` is False: then pixels lie as the file stores them, as viewers
    that count a file's pixels (QuPath, ImageJ) show them. Grey is repeated over the channels; transparency is laid over
    white, the colour of an empty slide; CMYK and other colour spaces are converted; of 16 bits the upper 8 are kept. Of a
    pyramid the largest level is read, or the smallest that is large enough for `max_side_px`; of a stack, `page` (from 1;
    None: there must be one alone). `name` is what errors call the picture (default: its path). Raises ImageError.
    """
    path = Path(path)
    label = name or displayable(path)
    if first_bytes(path, label).startswith(TIFF_STARTS):
        picture = _from_tiff(path, label, max_pixels, max_side_px, page, upright)
    elif page not in (None, 1):
        raise ImageError(f"{label}: has no page {page}; it holds 1")
    else:
        picture = _from_one(path, label, max_pixels, max_side_px, upright)
    return picture if max_side_px is None else reduced(picture, max_side_px)


def _from_tiff(path: Path, name: str, max_pixels: int, side: int | None, page: int | None,
               upright: bool) -> Picture:
    pages = inspect_tiff(path, name)
    if page is None and pages.count > 1:
        raise ImageError(f"{name}: holds {pages.count} pictures (a stack); save the one that is meant as a file of its own")
    number = 1 if page is None else page
    levels, level = pages.levels_of(number), pages.level_for(number, side, max_pixels)
    notes: tuple[str, ...] = ()
    if pages.count > 1:
        notes = (f"The file holds {pages.count} pages; this is page {number}.",)
    elif level is not levels[0]:
        notes = (f"Pyramid of {len(levels)} levels: the one of {level.hw[1]}×{level.hw[0]} px was read.",)
    with open_level(path, name, level, max_pixels) as image:
        return _picture(image, name, levels[0].hw, notes, pages.count, number, upright)


def _from_one(path: Path, name: str, max_pixels: int, side: int | None, upright: bool) -> Picture:
    with open_image(path, name, max_pixels=None) as image:
        full_hw = image.height, image.width
        if side is not None and isinstance(image, JpegImagePlugin.JpegImageFile) and _has_one_scan(path):
            # Such a JPEG can be decoded at 1/2, 1/4 or 1/8 of its size straight away.
            image.draft(None, (min(side, image.width), min(side, image.height)))
        check_size(name, image.height, image.width, max_pixels)
        refuse_several(image, name)
        return _picture(image, name, full_hw, upright=upright)


def _has_one_scan(path: Path) -> bool:
    """Whether a JPEG holds everything in one scan; of any other the decoder keeps the whole at full size in memory."""
    parts = -1
    with path.open("rb") as file:
        file.seek(2)
        while len(head := file.read(4)) == 4 and head[0] == 0xFF:
            marker, body = head[1], file.read(int.from_bytes(head[2:]) - 2 & 0xFFFF)
            if marker in (0xC0, 0xC1) and len(body) > 5:
                parts = body[5]
            elif marker in (0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)):
                return False
            elif marker == 0xDA:
                return body[:1] == bytes([max(parts, 0)])
    return False


def _picture(image: Image.Image, name: str, full_hw: tuple[int, int], notes: tuple[str, ...] = (), pages: int = 1,
             page: int = 1, upright: bool = True) -> Picture:
    """Decode an opened image."""
    notes, (mpp, mpp_source) = (*notes, *_colour_notes(image)), stated_pixel_size(image)
    orientation = image.getexif().get(ORIENTATION_TAG, 1)
    if not upright and isinstance(image, TiffImagePlugin.TiffImageFile):
        image.load()  # which turns a TIFF upright, and forgets the tag: turned back by the opposite one
        image.getexif()[ORIENTATION_TAG] = {6: 8, 8: 6}.get(orientation, orientation)
        ImageOps.exif_transpose(image, in_place=True)
    elif upright:
        ImageOps.exif_transpose(image, in_place=True)
    rgb = _to_rgb(image, name)
    if orientation in range(2, 9):
        notes = (*notes, "The file stores the picture turned or mirrored; " + (
            "it was set upright, and coordinates count pixels of the upright picture." if upright else
            f"coordinates count its pixels as stored, without the camera's orientation tag ({orientation})."))
    if upright and orientation in range(5, 9):
        full_hw = full_hw[::-1]
    return Picture(rgb, name, full_hw, mpp, mpp_source, orientation, pages, page, notes)


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return _rgb_from_array(np.asarray(image).astype(np.uint16), name, image.height * image.width)
    if image.mode in ("I", "F"):
        raise ImageError(f"{name}: {image.mode} pixels (32-bit) have no fixed white; save it as 8-bit RGB first")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    image.load()  # so that what the conversion raises is about the conversion
    try:
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))
    except ValueError as error:
        raise ImageError(f"{name}: {image.mode} pixels cannot be converted to RGB; save it as RGB first") from error


def _colour_notes(image: Image.Image) -> tuple[str, ...]:
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


def _rgb_from_array(array: np.ndarray, name: str, max_pixels: int) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name}: an array must be uint8 or uint16 of shape [H, W], [H, W, 3] or [H, W, "
                         f"4]; got {list(array.shape)} of {array.dtype}. Scale floats to 0-255 and convert "
                         "them first")
    height, width = array.shape[:2]
    check_size(name, height, width, max_pixels)
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if channels == 1:
        return np.repeat(array.reshape(height, width, 1), 3, axis=2)
    if channels == 4:
        alpha = array[..., 3:].astype(np.uint32)
        over_white = array[..., :3] * alpha + 255 * (255 - alpha)
        return ((over_white + 127) // 255).astype(np.uint8)
    return np.require(array, requirements=["C", "W"])


def reduced(picture: Picture, side: int) -> Picture:
    """The picture at no more than `side` px; the reduction counts from the file's own size."""
    rgb, notes = picture.rgb, picture.notes
    if (longer := max(rgb.shape[:2])) > side:
        height, width = (max(round(length * side / longer), 1) for length in rgb.shape[:2])
        rgb = np.array(Image.fromarray(rgb).resize((width, height), Image.Resampling.LANCZOS))
    full_h, full_w = picture.full_hw
    if max(full_h, full_w) > max(rgb.shape[:2]):
        notes = (f"Reduced from {full_w}×{full_h} to {rgb.shape[1]}×{rgb.shape[0]} px (limit: {side} px a side). "
                 "GeoJSON coordinates are those of the original file.", *notes)
    return replace(picture, rgb=rgb, notes=notes)
