"""How much tissue a pixel shows: what is plausible, what a file states, and the size at which a model sees an image."""

import html
import re
from typing import Any

from PIL import Image

from hf_gland.errors import PixelSizeError
from hf_gland.imaging.opening import MAX_PIXELS

# Light microscopy of tissue: 100× oil immersion is about 0.05 µm per pixel, a 1× overview about 10.
PLAUSIBLE_MPP = (0.05, 20.0)
UM_PER_INCH = 25_400.0
_APERIO = re.compile(r"\bMPP\s*=\s*([0-9.]+)")
_OME = {axis: (re.compile(rf'\bPhysicalSize{axis}="([0-9.eE+-]+)"'), re.compile(rf'\bPhysicalSize{axis}Unit="([^"]+)"'))
        for axis in "XY"}
_IMAGEJ_UNIT = re.compile(r"^(y?)unit=(.*)$", re.MULTILINE)
_UM_PER_UNIT = {"nm": 0.001, "um": 1.0, "micron": 1.0, "microns": 1.0, "mm": 1000.0}
_IMAGE_DESCRIPTION, _X_RESOLUTION, _Y_RESOLUTION = 270, 282, 283


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
    """µm per pixel from OME, Aperio or ImageJ metadata, else from the resolution tags, and which of them; None and "" where
    nothing plausible is said.

    Printing resolutions (72 or 300 dots per inch) fall outside PLAUSIBLE_MPP and so count as nothing.
    """
    tags = getattr(image, "tag_v2", {})
    return _stated(_description(image), (tags.get(_X_RESOLUTION), tags.get(_Y_RESOLUTION)), image.info.get("dpi"))


def tiff_pixel_size(description: str, resolution_xy: tuple[float, float], resolution_unit: int) -> tuple[float | None, str]:
    """The same from the tags of a TIFF alone."""
    per_inch = {2: 1.0, 3: 2.54}.get(resolution_unit)
    x, y = resolution_xy
    return _stated(description, resolution_xy, None if per_inch is None else (x * per_inch, y * per_inch))


def _stated(description: str, resolution_xy: Any, dpi: Any) -> tuple[float | None, str]:
    return _first_plausible((_ome_mpp(description), "OME metadata"),
                            (_number(_APERIO.search(description)), "the Aperio header"),
                            (_imagej_mpp(description, resolution_xy), "ImageJ's calibration"),
                            (_um_per_pixel(dpi, UM_PER_INCH), "the resolution tags"))


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
    stated = []
    for size_pattern, unit_pattern in _OME.values():
        unit = unit_pattern.search(description)
        um = 1.0 if unit is None else _um_per_unit(html.unescape(unit[1]))
        if (size := _number(size_pattern.search(description))) is not None:
            stated.append(0.0 if um is None else size * um)
    return stated[0] if stated and _alike(stated[0], stated[-1]) else None


def _imagej_mpp(description: str, resolution_xy: Any) -> float | None:
    """ImageJ and Fiji leave the unit to their own description ("unit=micron"); the resolution tags then count pixels per
    such unit."""
    units = {um for _, unit in _IMAGEJ_UNIT.findall(description) if (um := _um_per_unit(unit)) is not None}
    if not description.startswith("ImageJ=") or len(units) != 1:
        return None
    return _um_per_pixel(resolution_xy, units.pop())


def _um_per_unit(unit: str) -> float | None:
    """None for what is no length on a slide, such as "pixel"."""
    return _UM_PER_UNIT.get(re.sub(r"µ|μ|\\u00B5", "u", unit.strip()))


def _number(match: re.Match[str] | None) -> float | None:
    try:
        return None if match is None else float(match[1])
    except ValueError:
        return None


def _um_per_pixel(resolution_xy: Any, unit_um: float) -> float | None:
    """From pixels per unit along x and y; None where they are no numbers, or not alike."""
    try:
        x, y = (float(value) for value in resolution_xy)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return unit_um / x if 0 < x < float("inf") and _alike(x, y) else None


def _alike(x: float, y: float) -> bool:
    """Whether pixels are square."""
    return abs(x - y) <= 0.02 * x
