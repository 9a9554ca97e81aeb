"""Label maps (class masks, gland ids) from files: one number per pixel, or an error where a file has two readings."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, JpegImagePlugin, TiffImagePlugin, WebPImagePlugin

from hf_gland.imaging.opening import ORIENTATION_TAG, displayable, open_image, refuse_several
from hf_gland.imaging.tiff_storage import is_plain
from hf_gland.labels import MaskError

_SAVE = "save it as 8-bit grey PNG that holds the class numbers"
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")
_PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 262, 0


def read_labels(path: Path, name: str | None = None) -> np.ndarray:
    """Integers [H, W] (uint8, or int32 for 16 and 32 bits) from a single-channel file, or one of equal channels.

    Palette images give their indices, if the colours shown do not say otherwise. What has two readings is refused:
    transparency, inverted or low-bit grey, lossy compression, a palette that shows index 0 as white and 1 as black.
    Raises ImageError (not readable) and MaskError (not labels).
    """
    label = name or displayable(path)
    with open_image(path, label) as picture:
        refuse_several(picture, label)
        _check_storage(picture, label)
        picture.load()
        return _numbers(picture, label)


def map_mask(labels: np.ndarray, name: str, mask_values: Mapping[int, int] | None) -> np.ndarray:
    """uint8 mask from the file's numbers; `mask_values` maps them to classes (or 255), None takes them as they are.

    Raises MaskError naming the numbers that have no class.
    """
    values = np.unique(labels)
    allowed = range(256) if mask_values is None else mask_values.keys()
    if stray := [int(v) for v in values if int(v) not in allowed]:
        shown = ", ".join(map(str, stray[:8])) + (", …" if len(stray) > 8 else "")
        raise MaskError(f"{name}: mask values {shown} have no class; name them with --mask-values FROM=CLASS,…")
    if mask_values is None:
        return labels.astype(np.uint8)
    classes = np.array([mask_values[int(v)] for v in values], np.uint8)
    return classes[np.searchsorted(values, labels)]


def _check_storage(picture: ImageFile.ImageFile, name: str) -> None:
    """Refuse what changes the numbers on the way into the file, or leaves open which are meant."""
    if (isinstance(picture, JpegImagePlugin.JpegImageFile | WebPImagePlugin.WebPImageFile)
            or picture.info.get("compression") in _LOSSY_TIFF):
        raise MaskError(f"{name}: JPEG and WebP compression alters mask values; export PNG")
    if getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:
        raise MaskError(f"{name}: its numbers are stored inverted (white is zero), so 0 may mean either; {_SAVE}")
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and not is_plain(picture):
        raise MaskError(f"{name}: its numbers are stored colour by colour in 16 bits; {_SAVE}")
    tile = picture.tile[0].args if picture.tile else ""
    layout = str(tile[0] if isinstance(tile, tuple) and tile else tile)
    if layout.startswith(("L;2", "L;4")):
        raise MaskError(f"{name}: holds grey of {layout[2]} bits, whose numbers programs read differently; {_SAVE}")
    if picture.getexif().get(ORIENTATION_TAG, 1) != 1:
        raise MaskError(f"{name}: is stored turned or mirrored (EXIF orientation), which its image may not be; save it "
                        "upright")


def _numbers(picture: Image.Image, name: str) -> np.ndarray:
    if picture.mode in ("RGBA", "LA", "RGB"):
        channels = np.asarray(picture)
        if picture.mode != "RGB" and (channels[..., -1] != 255).any():
            raise MaskError(f"{name}: has transparent parts, which may be drawn or left out; flatten it and {_SAVE}")
        colours = channels[..., :1 if picture.mode == "LA" else 3]
        if (colours != colours[..., :1]).any():
            raise MaskError(f"{name}: is a colour picture; a mask holds one class number per pixel: {_SAVE}")
        return colours[..., 0].copy()
    if picture.mode in ("L", "P", "1") and not (picture.mode == "P" and "transparency" in picture.info):
        labels = np.array(picture).astype(np.uint8)
        if picture.mode == "P":
            _check_palette(picture, np.flatnonzero(np.bincount(labels.ravel(), minlength=256)), name)
        return labels
    if picture.mode.startswith("I"):
        return np.array(picture).astype(np.int32)
    kind = f"'{picture.mode}'{' with transparency' if picture.mode == 'P' else ''}"
    raise MaskError(f"{name}: pixels of type {kind} cannot be class numbers; {_SAVE}")


def _check_palette(picture: Image.Image, used: np.ndarray, name: str) -> None:
    """Raise MaskError where the colours of the indices in use contradict their order.

    No contradiction: greys that are the indices themselves; greys that rise with the index, 0 and no other being black;
    colours, as programs give them to classes, unless index 0 is coloured and another one is black or white.
    """
    palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if used[-1] >= len(palette):
        return
    shown = palette[used].astype(int)
    grey = (shown == shown[:, :1]).all(axis=1)
    if grey.all():
        values = shown[:, 0]
        agrees = (values == used).all() or bool(((values == 0) == (used == 0)).all() and (np.diff(values) > 0).all())
    else:
        extremes = grey & np.isin(shown[:, 0], (0, 255))
        agrees = used[0] != 0 or bool(grey[0]) or not extremes.any()
    if not agrees:
        raise MaskError(f"{name}: its palette shows index {used[0]} as RGB {tuple(map(int, shown[0]))}, so that colours and "
                        f"numbers say different things; {_SAVE}")
