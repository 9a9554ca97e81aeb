"""What was drawn in the browser: checked, counted, and packed as the folder and the row that training takes."""

import base64
import binascii
import io
import json
import re
import shlex
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from gland_space.analysis import data_uri
from hf_gland.data.build import About, build_dataset
from hf_gland.data.metadata import COLUMNS
from hf_gland.data.sample import Sample
from hf_gland.data.sparsify import as_drawn
from hf_gland.errors import HfGlandError
from hf_gland.export.polygons import region_polygons
from hf_gland.imaging.pictures import Picture
from hf_gland.imaging.pixel_size import check_mpp
from hf_gland.labels import BACKGROUND, BINARY_CLASSES, IGNORE_INDEX, check_mask, class_colour

SOURCE = "annotated in the browser"
_PNG_URI = "data:image/png;base64,"
MOST_BYTES = 80  # of an id: file names hold 255


class AnnotationError(HfGlandError):
    """What was drawn or typed cannot be used; the message is for the user."""


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture and its sparse mask, uint8 [H, W] of 0..C-1 and 255 (unlabelled); mpp µm per pixel of `picture.rgb`."""

    picture: Picture
    mask: np.ndarray
    image_id: str
    patient_id: str
    mpp: float | None


def decode_mask(uri: str, picture: Picture, num_classes: int) -> np.ndarray:
    """The sparse mask that the browser sends: a PNG whose red channel holds the labels. Raises AnnotationError."""
    if not isinstance(uri, str) or not uri.startswith(_PNG_URI):
        raise AnnotationError("Nothing has been drawn yet: outline at least one gland.")
    try:
        with Image.open(io.BytesIO(base64.b64decode(uri[len(_PNG_URI):], validate=True)), formats=["PNG"]) as image:
            if image.size != picture.rgb.shape[1::-1]:
                raise AnnotationError("The drawing belongs to another picture; load the picture again.")
            mask = np.array(image.convert("RGB"))[..., 0]
    except (binascii.Error, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise AnnotationError("The drawing could not be read; please try again.") from error
    check_mask(mask, num_classes, picture.name)
    return mask


def make_drawing(picture: Picture, mask: np.ndarray, image_id: str, patient_id: str, file_mpp: float | None) -> Drawing:
    """Check what was drawn and typed. `file_mpp`: µm per pixel of the file's picture.

    Raises AnnotationError or PixelSizeError.
    """
    if (mask == IGNORE_INDEX).all():
        raise AnnotationError("Nothing has been drawn yet: outline at least one gland.")
    mpp = None if file_mpp is None else check_mpp(file_mpp * picture.reduction, picture.name)
    return Drawing(picture, mask, _identifier(image_id or picture.stem, "image id"),
                   _identifier(patient_id, "patient id") if patient_id.strip() else "",
                   mpp)


def _identifier(text: str, what: str) -> str:
    """A name that is one part of a path on any system, and one cell of a table that stays text."""
    text = unicodedata.normalize("NFC", text.strip())
    if not re.fullmatch(r"\w[\w.-]*(?<!\.)", text) or len(text.encode()) > MOST_BYTES:
        raise AnnotationError(f"The {what} may hold letters, digits, '_', '-' and '.' (not at its end), at most "
                              f"{MOST_BYTES} bytes of them.")
    if re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", text):
        raise AnnotationError(f"The {what} '{text}' is the name of a device on Windows; choose another.")
    return text


def budget(mask: np.ndarray, num_classes: int) -> str:
    """What was spent, in words: outlined glands, and the shares labelled as gland and as stroma."""
    counted = as_drawn(mask, None, None)
    stroma, labelled = float((mask == BACKGROUND).mean()), counted.labelled_fraction
    glands = counted.annotated_glands
    if labelled == 0:
        return "Nothing labelled yet."
    text = (f"{glands} gland{'' if glands == 1 else 's'} outlined · {100 * labelled:.2f} % of the pixels labelled "
            f"({100 * (labelled - stroma):.2f} % gland, {100 * stroma:.2f} % stroma)")
    if stroma == 0:
        text += " · add a stroke of stroma: without any, training has to assume what is not gland"
    return text


def encode_mask(mask: np.ndarray) -> str:
    """A mask uint8 [H, W] as `decode_mask` reads it."""
    return data_uri(np.repeat(mask[..., None], 3, axis=2), "PNG")


def mask_file(drawing: Drawing, folder: Path) -> Path:
    """The sparse mask as an 8-bit PNG in `folder`."""
    path = folder / f"{drawing.image_id}_sparse_mask.png"
    Image.fromarray(drawing.mask).save(path)
    return path


def geojson_file(drawing: Drawing, class_names: Sequence[str], folder: Path) -> Path:
    """What was drawn as annotations that QuPath opens, in pixels of the picture's file, or of the slide it is a part of."""
    scale = np.divide(drawing.picture.full_hw[::-1], drawing.mask.shape[::-1])
    features = [{"type": "Feature",
                 "geometry": {"type": "Polygon", "coordinates": [
                     (ring * scale + drawing.picture.origin_xy).tolist() for ring in rings]},
                 "properties": {"objectType": "annotation", "classification": {
                     "name": "stroma" if index == BACKGROUND else name, "color": list(class_colour(index))}}}
                for index, name in enumerate(class_names) for rings in region_polygons(drawing.mask == index)]
    path = folder / f"{drawing.image_id}_annotation.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), "ascii")
    return path


def dataset_file(drawing: Drawing, class_names: Sequence[str], folder: Path) -> Path:
    """A zip of the drawing, in `folder`.

    `annotations/` is what `scripts/build_dataset.py folder --style as-is` reads, `dataset/` the finished row in the
    project's schema, README.txt the commands that go on from there.
    """
    target = folder / f"{drawing.image_id}_annotation.zip"
    with tempfile.TemporaryDirectory(dir=folder) as place:
        work = Path(place)
        _write_folder(drawing, work / "annotations")
        sample = Sample(drawing.picture.rgb, None, None, drawing.image_id, drawing.patient_id, SOURCE, mpp=drawing.mpp)
        build_dataset({"train": [(sample, as_drawn(drawing.mask, None, None))]}, work / "dataset",
                      About(class_names, SOURCE, "unknown", {"style": "as-is"}))
        (work / "README.txt").write_text(readme(class_names, bool((drawing.mask == BACKGROUND).any())), "utf-8")
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path for path in work.rglob("*") if path.is_file()):
                archive.write(file, file.relative_to(work))
    return target


def _write_folder(drawing: Drawing, root: Path) -> None:
    for name, pixels in (("images", drawing.picture.rgb), ("masks", drawing.mask)):
        (root / name).mkdir(parents=True)
        Image.fromarray(pixels).save(root / name / f"{drawing.image_id}.png")
    known = {"image_id": drawing.image_id, "patient_id": drawing.patient_id,
             "mpp": "" if drawing.mpp is None else f"{drawing.mpp:g}", "split": "train"}
    (root / "metadata.csv").write_text(
        f"{','.join(COLUMNS)}\n{','.join(known.get(column, '') for column in COLUMNS)}\n", "utf-8")


SAVED: dict[str, tuple[str, Callable[[Drawing, Sequence[str], Path], Path]]] = {  # title of the button, and who writes
    "mask": ("Sparse mask (PNG)", lambda drawing, _, folder: mask_file(drawing, folder)),
    "geojson": ("GeoJSON for QuPath", geojson_file),
    "rows": ("Dataset row (zip)", dataset_file)}


def build_command(class_names: Sequence[str]) -> str:
    """The command that turns the unpacked folder into a dataset."""
    names = "" if tuple(class_names) == BINARY_CLASSES else \
        " --class-names " + " ".join(shlex.quote(" ".join(name.split())) for name in class_names)
    return f"python scripts/build_dataset.py folder --root annotations --style as-is{names} --out data/mine"


def readme(class_names: Sequence[str], has_stroma: bool) -> str:
    """What the zip holds, and the commands that train on it: indented lines that begin with `python`."""
    assume = "" if has_stroma else " --warmup_background assume"
    why = "" if has_stroma else "\nNo stroma is labelled: training first assumes that what is not outlined is stroma.\n"
    values = ", ".join(f"{index} {' '.join(name.split())}" for index, name in enumerate(class_names))
    return f"""Sparse gland annotations, drawn in the browser.

annotations/   images, masks and metadata.csv
dataset/       the same as finished rows (Parquet), which training reads as they are

Mask values: {values}, {IGNORE_INDEX} unlabelled (which is not background).

More images can be added to annotations/ (and a line for each to metadata.csv); then

  {build_command(class_names)}

and train with

  python scripts/train.py --config demo --dataset data/mine{assume} --out runs/mine
{why}"""
