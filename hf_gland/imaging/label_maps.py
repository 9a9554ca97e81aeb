"""Pictures and label maps from files, with every way a file can be unusable told apart."""

import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from hf_gland.errors import DatasetError
from hf_gland.labels import MaskError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
MAX_PIXELS = 100_000_000  # 300 MB as RGB; whole slides are cut into tiles first
# What Pillow raises on damaged files, found by changing their bytes (UnidentifiedImageError is an OSError).
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, TypeError, OverflowError, struct.error,
                   Image.DecompressionBombError)
_ORIENTATION_TAG = 0x0112
_IMAGE_MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK")
_LABEL_MODES = ("L", "P", "1", "I;16", "I;16B", "I")


def read_image(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB from a PNG, JPEG, TIFF or BMP file; transparent pixels become white. Raises DatasetError."""
    picture = _open(path)
    if picture.mode not in _IMAGE_MODES:
        raise DatasetError(f"{path}: pixels of type '{picture.mode}' are not 8-bit colour; convert the image to 8-bit RGB")
    if picture.has_transparency_data:
        layered = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return np.array(picture.convert("RGB"))


def read_labels(path: Path) -> np.ndarray:
    """Integers [H, W] (uint8, or int32 for 16 and 32 bits) from a single-channel file.

    Palette images give their indices; grey stored as RGB is accepted, colour is not. Raises DatasetError.
    """
    picture = _open(path)
    if picture.mode in ("RGB", "RGBA"):
        channels = np.asarray(picture)[..., :3]
        if not (channels == channels[..., :1]).all():
            raise DatasetError(f"{path}: is a colour picture; a mask holds one class number per pixel")
        return channels[..., 0].copy()
    if picture.mode not in _LABEL_MODES:
        raise DatasetError(f"{path}: pixels of type '{picture.mode}' cannot be class numbers; save it as 8- or 16-bit grey")
    labels = np.array(picture)
    return labels.astype(np.uint8 if picture.mode in ("L", "P", "1") else np.int32)


def map_mask(labels: np.ndarray, name: str, mask_values: Mapping[int, int] | None) -> np.ndarray:
    """uint8 mask from the file's numbers; `mask_values` maps them to classes (or 255), None takes them as they are.

    Raises MaskError naming the numbers that have no class.
    """
    values = np.unique(labels)
    allowed = range(256) if mask_values is None else mask_values.keys()
    if stray := [int(v) for v in values if int(v) not in allowed]:
        shown = ", ".join(map(str, stray[:8])) + (", …" if len(stray) > 8 else "")
        hint = "; JPEG alters mask values, export PNG" if name.lower().endswith((".jpg", ".jpeg")) else ""
        raise MaskError(f"{name}: mask values {shown} have no class; name them with --mask-values FROM=CLASS,…{hint}")
    if mask_values is None:
        return labels.astype(np.uint8)
    classes = np.array([mask_values[int(v)] for v in values], np.uint8)
    return classes[np.searchsorted(values, labels)]


def _open(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # judged just below, by our own bound
            picture = Image.open(path, formats=FORMATS)
        if picture.width * picture.height > MAX_PIXELS:
            raise Image.DecompressionBombError(f"{picture.width}×{picture.height} px")
        pages = getattr(picture, "n_frames", 1)
        if pages != 1:
            raise DatasetError(f"{path}: holds {pages} pages; save the one that is meant as a file of its own")
        if picture.getexif().get(_ORIENTATION_TAG, 1) != 1:
            raise DatasetError(f"{path}: is stored turned or mirrored (EXIF orientation), which masks are usually not; "
                               "save it upright")
        picture.load()
    except Image.DecompressionBombError as error:
        raise DatasetError(f"{path}: too large ({error}); at most {MAX_PIXELS / 1e6:.0f} million pixels, "
                           "cut it into tiles") from error
    except UnidentifiedImageError as error:
        raise DatasetError(f"{path}: not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
    except DatasetError:
        raise
    except DECODING_ERRORS as error:
        raise DatasetError(f"{path}: damaged or cut short ({error}); export or copy it again") from error
    return picture
