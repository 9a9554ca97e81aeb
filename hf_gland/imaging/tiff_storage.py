"""TIFFs stored in ways that Pillow cannot decode, or decodes wrongly: tifffile decodes them, and Pillow gets them plain."""

import io
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from hf_gland.errors import ImageError

_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _CHANNELS, _PLANAR = 258, 259, 262, 274, 277, 284
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_WEBP, _SEPARATE = 50001, 2
_INVERTED_GREY, _GREY, _RGB = 0, 1, 2  # PhotometricInterpretation
_SAVE = "save it as an 8-bit RGB TIFF without compression, or as PNG"


def is_plain(image: TiffImagePlugin.TiffImageFile) -> bool:
    """Whether Pillow decodes an opened TIFF rightly. Of 16 bits it takes bytes for pixels where they are stored colour by
    colour, and black for white where 0 is white; WebP is missing from its wheels."""
    tags = image.tag_v2
    separate = tags.get(_PLANAR) == _SEPARATE and tags.get(_CHANNELS, 1) > 1
    misread = max(tags.get(_BITS, (1,))) > 8 and (separate or tags.get(_PHOTOMETRIC) == _INVERTED_GREY)
    return not misread and tags.get(_COMPRESSION) != _WEBP


def plain_copy(tiff: BinaryIO, name: str, hw: tuple[int, int]) -> io.BytesIO:
    """The first picture of an opened TIFF, of `hw` (height, width) px, as a TIFF without compression, with its description,
    resolution and orientation.

    Grey, RGB and RGBA of 8 and 16 bits, whatever their order and compression (planar, JPEG 2000, JPEG XL, WebP, …). Raises
    ImageError for other pixels, and where tifffile is missing; whatever else a broken file leads tifffile into.
    """
    try:
        import imagecodecs  # noqa: F401  without it tifffile opens what it cannot decode
        import tifffile
    except ImportError as error:
        raise ImageError(f"{name}: this kind of TIFF needs tifffile; install it with: pip install 'hf_gland[slides]', or "
                         f"{_SAVE}") from error
    tiff.seek(0)
    with tifffile.TiffFile(tiff) as file:
        page: Any = file.pages[0]
        channels, separate = page.samplesperpixel, page.planarconfig == _SEPARATE
        known = (page.photometric, channels) in ((_INVERTED_GREY, 1), (_GREY, 1), (_RGB, 3), (_RGB, 4))
        if not known or page.dtype not in (np.uint8, np.uint16):
            kind = getattr(page.photometric, "name", page.photometric)
            raise ImageError(f"{name}: holds {page.dtype} pixels of {channels} channels ({kind}), whose "
                             f"colours are not fixed; {_SAVE}")
        if (page.imagelength, page.imagewidth, page.imagedepth) != (*hw, 1):
            raise ValueError("its directory gives two sizes")
        pixels = page.asarray().reshape((channels, *hw) if separate else (*hw, channels))
        pixels = np.moveaxis(pixels, 0, -1) if separate else pixels
        pixels = np.iinfo(pixels.dtype).max - pixels if page.photometric == _INVERTED_GREY else pixels
        orientation, x, y, unit = map(page.tags.valueof, (_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT))
        plain = io.BytesIO()
        tifffile.imwrite(
            plain, pixels[..., 0] if channels == 1 else pixels, photometric="minisblack" if channels == 1 else "rgb",
            extrasamples=["unassalpha"] if channels == 4 else None, metadata=None, description=page.description.encode(),
            resolution=(x, y) if x and y else None, resolutionunit=unit,
            extratags=[(_ORIENTATION, "H", 1, int(orientation), True)] if orientation else ())
    plain.seek(0)
    return plain
