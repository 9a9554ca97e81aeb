"""Any picture a user may hold, as the uint8 RGB array a network expects, or an error that says why not."""

import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hf_gland.errors import HfGlandError

# Predicting an image this large takes about 3 GB (measured: 46 bytes per pixel); slides need another road.
MAX_PIXELS = 8192 * 8192
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")

ImageSource = str | Path | Image.Image | np.ndarray


class ImageError(HfGlandError):
    """A picture cannot be used; the message names it and the remedy."""


def read_rgb(source: ImageSource, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """A picture as uint8 [H, W, 3] RGB.

    `source`: a file, a PIL image, or an array: uint8 or uint16, [H, W] grey, [H, W, 1], [H, W, 3] RGB or
    [H, W, 4] RGBA. The camera's orientation tag is applied. Grey is repeated over the channels;
    transparency is laid over white, the colour of an empty slide; CMYK and other colour spaces are
    converted; 16-bit values are divided by 257, so that 65535 is white. Of several pages the first is taken
    if it is the largest (a pyramid). `name` is what errors call the picture (default: its file). Raises
    ImageError.
    """
    if isinstance(source, np.ndarray):
        return _rgb_from_array(source, name or "array", max_pixels)
    if isinstance(source, Image.Image):
        return _rgb_from_pil(source, name or getattr(source, "filename", "") or "image", max_pixels)
    path = Path(source)
    label = name or str(path)
    if path.is_dir() or not path.exists():
        raise ImageError(f"{label}: {'is a folder, not an image' if path.is_dir() else 'no such file'}")
    try:
        with warnings.catch_warnings():
            # Pillow warns above its own limit and refuses at twice that; ours is lower and says what to do.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return _rgb_from_pil(image, label, max_pixels)
    except Image.DecompressionBombError as error:
        raise ImageError(_too_large(label, max_pixels)) from error
    except UnidentifiedImageError as error:
        raise ImageError(f"{label}: not an image that can be read, whatever its name says; expected one of "
                         f"{', '.join(s[1:] for s in IMAGE_SUFFIXES)}") from error
    except PermissionError as error:
        raise ImageError(f"{label}: no permission to read it") from error


def find_images(sources: Iterable[str | Path], leave_out: Path | None = None) -> dict[Path, Path]:
    """Each image file named or found below a named folder, with the name its results go by.

    Folders are searched to any depth for IMAGE_SUFFIXES, hidden files and the folder `leave_out` excepted.
    The name is the path without its suffix: relative to the folder that was searched, or the bare name of a
    file named outright. Raises ImageError for a folder without images, or for two images that would go by
    the same name.
    """
    stems: dict[Path, Path] = {}
    for source in map(Path, sources):
        found = [source]
        if source.is_dir():
            found = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES
                     and path.is_file() and not path.name.startswith(".")
                     and (leave_out is None or not path.resolve().is_relative_to(leave_out.resolve()))]
            if not found:
                raise ImageError(f"{source}: holds no image ({', '.join(s[1:] for s in IMAGE_SUFFIXES)})")
        for path in found:
            name = path.relative_to(source) if source.is_dir() else Path(path.name)
            stems.setdefault(path, name.with_suffix(""))
    first: dict[Path, Path] = {}
    for path, stem in stems.items():
        if first.setdefault(stem, path) != path:
            raise ImageError(f"{first[stem]} and {path} would both be written as {stem}; rename one, or predict "
                             "them apart")
    return stems


def _rgb_from_pil(image: Image.Image, name: str, max_pixels: int) -> np.ndarray:
    if image.width * image.height > max_pixels:
        raise ImageError(_too_large(name, max_pixels, image.height, image.width))
    if 0 in image.size:
        raise ImageError(f"{name}: the image is empty ({image.width}×{image.height} px)")
    try:
        _check_single_picture(image, name)
        return _to_rgb(ImageOps.exif_transpose(image), name)
    except ImageError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's, on broken data
        raise ImageError(f"{name}: the file is damaged or cut short ({error}); copy or export it "
                         "again") from error


def _check_single_picture(image: Image.Image, name: str) -> None:
    """Leave a file of several pages at its first if that is the whole picture; refuse animations, stacks."""
    pages = getattr(image, "n_frames", 1)
    if pages == 1 or image.format == "MPO":  # MPO: a camera's JPEG with a preview behind it
        return
    sizes = []
    if image.format == "TIFF":
        for page in range(pages):
            image.seek(page)
            sizes.append(image.width * image.height)
        image.seek(0)
    if not sizes or max(sizes[1:]) >= sizes[0]:
        raise ImageError(f"{name}: holds {pages} pictures (an animation or a stack); save the one to "
                         "segment as a file of its own")


def _to_rgb(image: Image.Image, name: str) -> np.ndarray:
    if image.mode.startswith("I;16"):
        return _rgb_from_array(np.asarray(image).astype(np.uint16), name, MAX_PIXELS)
    if image.mode in ("I", "F"):
        raise ImageError(f"{name}: {image.mode} pixels (32-bit) have no fixed white; save it as 8-bit RGB "
                         "first")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    image.load()  # so that what the conversion raises is about the conversion
    try:
        return np.array(image.convert("RGB"))
    except ValueError as error:
        raise ImageError(f"{name}: {image.mode} pixels cannot be converted to RGB; save it as RGB "
                         "first") from error


def _rgb_from_array(array: np.ndarray, name: str, max_pixels: int) -> np.ndarray:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name}: an array must be uint8 or uint16 of shape [H, W], [H, W, 3] or [H, W, "
                         f"4]; got {list(array.shape)} of {array.dtype}. Scale floats to 0-255 and convert "
                         "them first")
    height, width = array.shape[:2]
    if 0 in (height, width):
        raise ImageError(f"{name}: the image is empty ({width}×{height} px)")
    if height * width > max_pixels:
        raise ImageError(_too_large(name, max_pixels, height, width))
    if array.dtype == np.uint16:
        array = ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if channels == 1:
        return np.repeat(array.reshape(height, width, 1), 3, axis=2)
    if channels == 4:
        alpha = array[..., 3:].astype(np.uint32)
        over_white = array[..., :3] * alpha + 255 * (255 - alpha)
        return ((over_white + 127) // 255).astype(np.uint8)
    return np.require(array, requirements=["C", "W"])


def _too_large(name: str, max_pixels: int, height: int | None = None, width: int | None = None) -> str:
    size = f"{width}×{height} px" if height and width else "too many pixels"
    limit = f"{max_pixels / 1e6:.0f} million"
    return f"{name}: {size}, above the limit of {limit}; crop it or cut it into regions first"
