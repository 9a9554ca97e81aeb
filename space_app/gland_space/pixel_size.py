"""The pixel size as it is typed into its field and shown there."""

from hf_gland.errors import PixelSizeError


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
