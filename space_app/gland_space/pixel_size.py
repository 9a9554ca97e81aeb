"""The pixel size that a picture's file states about itself, as a suggestion to the user."""

import re
from collections.abc import Mapping
from typing import Any

from PIL import Image

from hf_gland.imaging.resample import PLAUSIBLE_MPP
from hf_gland.inference import PixelSizeError

UM_PER_INCH = 25_400.0
_APERIO = re.compile(r"\bMPP\s*=\s*([0-9.]+)")
_OME = re.compile(r'\bPhysicalSizeX="([0-9.eE+-]+)"')
_OME_UNIT = re.compile(r'\bPhysicalSizeXUnit="([^"]+)"')
_IMAGE_DESCRIPTION = 270


def stated_mpp(image: Image.Image) -> float | None:
    """µm per pixel from OME or Aperio metadata, else from the resolution tags; None where nothing plausible is said.

    Printing resolutions (72 or 300 dots per inch) fall outside PLAUSIBLE_MPP and so count as nothing.
    """
    description = _description(image)
    for mpp in (_ome_mpp(description), _number(_APERIO.search(description)), _resolution_mpp(image.info)):
        if mpp is not None and PLAUSIBLE_MPP[0] <= mpp <= PLAUSIBLE_MPP[1]:
            return round(mpp, 4)
    return None


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


def typed_mpp(text: str | None) -> float | None:
    """µm per pixel as typed, with a point or a comma; None for an empty field. Raises PixelSizeError."""
    typed = (text or "").strip().removesuffix("µm").strip().replace(",", ".")
    if not typed:
        return None
    try:
        return float(typed)
    except ValueError as error:
        raise PixelSizeError(f"The pixel size '{typed[:40]}' is not a number; a 20× scan has about 0.5 (µm per pixel), a "
                             "40× scan about 0.25. Leave it empty if it is unknown") from error


def shown_mpp(mpp: float | None) -> str:
    """A pixel size as the field shows it."""
    return "" if mpp is None else f"{mpp:g}"
