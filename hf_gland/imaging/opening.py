"""Opening a picture's file: which formats, how large, and every way to fail as an ImageError that names the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from hf_gland.errors import HfGlandError, ImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
FORMATS = "PNG, JPEG, TIFF, BMP or WebP"
# Predicting an image this large takes about 3 GB (measured: 46 bytes per pixel); slides need another road.
MAX_PIXELS = 8192 * 8192
# Bounds what one instruction of a run-length code can make a decoder write: 255 rows.
MAX_SIDE_PX = 2**17
ORIENTATION_TAG = 0x0112
TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Told apart by their first bytes. Pillow's own search would try some forty formats more, one of which hands files to an
# outside interpreter (PostScript). GIF is read for the sake of a message about animations.
_READERS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\x89PNG", PngImagePlugin.PngImageFile), (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    *((start, TiffImagePlugin.TiffImageFile) for start in TIFF_STARTS), (b"BM", BmpImagePlugin.BmpImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile), (b"GIF8", GifImagePlugin.GifImageFile))


def displayable(path: str | Path) -> str:
    """A path as text that can be printed and written as UTF-8, whatever bytes its name holds."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Turn what the file system or a decoder raises inside the `with` into an ImageError that starts with `name`.

    Every Exception counts: decoders raise whatever a broken file leads them into (of some 3,000 damaged files, 69
    raised something that no list of Pillow's own errors held).
    """
    try:
        yield
    except HfGlandError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name}: is a folder, not an image") from error
    except PermissionError as error:
        raise ImageError(f"{name}: no permission to read it") from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for the memory of this machine; crop it first") from error
    except Exception as error:
        why = (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
        raise ImageError(f"{name}: the file is damaged or cut short ({why}); copy or export it again") from error


def first_bytes(source: Path | BinaryIO, name: str) -> bytes:
    """The 16 bytes that tell the format; raises ImageError where there is no file, or an empty one."""
    with named_errors(name):
        if isinstance(source, Path):
            with source.open("rb") as file:
                start = file.read(16)
        else:
            start = source.read(16)
            source.seek(0)
    if not start:
        raise ImageError(f"{name}: the file is empty")
    return start


@contextmanager
def open_image(source: Path | BinaryIO, name: str, max_pixels: int | None = MAX_PIXELS) -> Iterator[ImageFile.ImageFile]:
    """A Pillow image of which the header alone has been read, and whose size is within bounds (None: not checked yet).

    Whatever goes wrong here or while it is decoded inside the `with` becomes an ImageError.
    """
    start = first_bytes(source, name)
    reader = next((reader for signature, reader in _READERS if start.startswith(signature)), None)
    if start.startswith(b"PK"):
        raise ImageError(f"{name}: is a zip archive, not an image; unpack it first")
    if reader is None:
        raise ImageError(f"{name}: not an image that can be read, whatever its name says; expected {FORMATS}")
    with named_errors(name):
        try:
            opened = reader(source)
        except SyntaxError as error:  # Pillow's word for a header that it cannot make sense of
            if reader is not TiffImagePlugin.TiffImageFile:
                raise
            raise ImageError(f"{name}: a TIFF that is damaged, or stored in a way that is not read here ({error}); save it "
                             "as 8-bit PNG") from error
        with opened as image:
            if max_pixels is not None:
                check_size(name, image.height, image.width, max_pixels)
            yield image


def check_size(name: str, height: int, width: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raise ImageError for a picture without pixels, or with more than are to be decoded."""
    if height < 1 or width < 1:
        raise ImageError(f"{name}: the image is empty ({width}×{height} px)")
    if height * width > max_pixels or max(height, width) > MAX_SIDE_PX:
        raise ImageError(f"{name}: {width}×{height} px, above the limit of {max_pixels / 1e6:.0f} million; crop it, cut it "
                         "into regions, or export it at a lower magnification first")


def refuse_several(image: Image.Image, name: str) -> None:
    """Raise ImageError for an animation or a stack: nobody said which of its pictures is meant."""
    if getattr(image, "is_animated", False):
        raise ImageError(f"{name}: holds several pictures (an animation or a stack); save the one that is meant as a "
                         "file of its own")
