"""How much tissue a pixel shows: what is plausible, what a file states, and the size at which a model sees an image."""

import re
from collections.abc import Mapping
from typing import Any

from PIL import Image

from hf_gland.errors import PixelSizeError
from hf_gland.imaging.opening import MAX_PIXELS

# Light microscopy of tissue: 100× oil immersion is about 0.05 µm per pixel, a 1× overview about 10.
PLAUSIBLE_MPP = (0.05, 20.0)
UM_PER_INCH = 25_400.0
_APERIO = re.compile(r"\bMPP\s*=\s*([0-9.]+)")
_OME = re.compile(r'\bPhysicalSizeX="([0-9.eE+-]+)"')
_OME_UNIT = re.compile(r'\bPhysicalSizeXUnit="([^"]+)"')
_IMAGE_DESCRIPTION = 270


def check_mpp(mpp: float, name: str = "image") -> float:
    """`mpp` (µm per pixel) to six digits, so that 0.62 and its 32-bit copy in a dataset are the same.

    Raises PixelSizeError outside PLAUSIBLE_MPP.
    """
    low, high = PLAUSIBLE_MPP
    if not low <= mpp <= high:  # also refuses NaN
        raise PixelSizeError(f"{name}: {mpp:g} µm per pixel is not a plausible pixel size ({low}-{high}); a "
                             "20× scan has about 0.5, a 40× scan about 0.25")
    return float(f"{mpp:.6g}")


def working_hw(image_hw: tuple[int, int], image_mpp: float | None, model_mpp: float | None,
               name: str = "image") -> tuple[int, int]:
    """(height, width) at which a model sees an image, in training and after: its own unless both pixel sizes are known.

    Halves are rounded up. Raises PixelSizeError for an implausible pixel size, or when resampling would give more pixels
    than MAX_PIXELS.
    """
    if image_mpp is None or model_mpp is None:
        return image_hw
    image_mpp, model_mpp = check_mpp(image_mpp, name), check_mpp(model_mpp, "the model")
    height, width = (max(int(side * image_mpp / model_mpp + 0.5 + 1e-9), 1) for side in image_hw)
    if height * width > MAX_PIXELS:
        raise PixelSizeError(f"{name}: at the model's {model_mpp:g} µm per pixel an image of "
                             f"{image_hw[1]}×{image_hw[0]} px with {image_mpp:g} µm per pixel would have "
                             f"{width}×{height} px, above the limit of {MAX_PIXELS / 1e6:.0f} million; "
                             "check the pixel size, or crop the image")
    return height, width


def stated_pixel_size(image: Image.Image) -> tuple[float | None, str]:
    """µm per pixel from OME or Aperio metadata, else from the resolution tags, and which of them; None and "" where nothing
    plausible is said.

    Printing resolutions (72 or 300 dots per inch) fall outside PLAUSIBLE_MPP and so count as nothing.
    """
    mpp, source = described_pixel_size(_description(image))
    return (mpp, source) if mpp is not None else _first_plausible((_resolution_mpp(image.info), "the resolution tags"))


def described_pixel_size(description: str) -> tuple[float | None, str]:
    """The same from the text of a TIFF's ImageDescription alone."""
    return _first_plausible((_ome_mpp(description), "OME metadata"),
                            (_number(_APERIO.search(description)), "the Aperio header"))


def _first_plausible(*found: tuple[float | None, str]) -> tuple[float | None, str]:
    for mpp, source in found:
        if mpp is not None and PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
            return round(mpp, 4), source
    return None, ""


def _description(image: Image.Image) -> str:
    tags = getattr(image, "tag_v2", None)
    value = "" if tags is None else tags.get(_IMAGE_DESCRIPTION, "")
    if not isinstance(value, str):
        return ""
    try:
        return value.encode("latin-1").decode("utf-8")  # Pillow takes every byte for a letter; OME writes UTF-8
    except UnicodeError:
        return value


def _ome_mpp(description: str) -> float | None:
    unit = _OME_UNIT.search(description)
    if unit is not None and unit[1] not in ("µm", "&#181;m", "&#xB5;m", "um"):
        return None
    return _number(_OME.search(description))


def _number(match: re.Match[str] | None) -> float | None:
    try:
        return None if match is None else float(match[1])
    except ValueError:
        return None


def _resolution_mpp(info: Mapping[Any, Any]) -> float | None:
    try:
        x, y = (float(value) for value in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not (0 < x < float("inf") and abs(x - y) <= 0.02 * x):
        return None
    return UM_PER_INCH / x
