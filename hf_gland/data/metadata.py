"""`metadata.csv`: what is known about each image of a folder beside its pixels."""

import csv
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from hf_gland.errors import DatasetError

COLUMNS = ("image_id", "patient_id", "grade", "mpp", "split")


@dataclass(frozen=True)
class ImageMetadata:
    """One line. Empty text and None stand for what the file does not say; mpp is µm per pixel."""

    patient_id: str = ""
    grade: str = ""
    mpp: float | None = None
    split: str = ""


def read_metadata(path: Path) -> dict[str, ImageMetadata]:
    """`{image_id: ImageMetadata}` from a CSV file with a header line, separated by commas or semicolons.

    `image_id` is required, the other `COLUMNS` are optional, in any case; further ones are left out, with a warning. An
    image file's suffix in image_id is dropped by the caller. Raises DatasetError naming the file and line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: cannot be read as UTF-8 text ({error})") from error
    header = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if ";" in header and "," not in header else ",")
    try:
        lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    except csv.Error as error:
        raise DatasetError(f"{path}: not a CSV table ({error})") from error
    names = [name.casefold().replace(" ", "_") for name in lines[0][1]] if lines else []
    if "image_id" not in names:
        raise DatasetError(f"{path}: the first line must name the columns, image_id among them (optional: "
                           f"{', '.join(COLUMNS[1:])}); it reads: {header.strip()[:80]}")
    if doubled := [name for name in names if name and names.count(name) > 1]:
        raise DatasetError(f"{path}: the column '{doubled[0]}' comes twice; keep one")
    if more := [name for name in names if name and name not in COLUMNS]:
        warnings.warn(f"{path}: columns left out: {', '.join(more)} (used are {', '.join(COLUMNS)})", stacklevel=2)
    found: dict[str, ImageMetadata] = {}
    for number, cells in lines[1:]:
        if not any(cells):
            continue
        if len(cells) != len(names):
            raise DatasetError(f"{path}: line {number} has {len(cells)} cells, the header {len(names)}")
        row = dict(zip(names, cells, strict=True))
        if not row["image_id"] or row["image_id"] in found:
            problem = f"image_id '{row['image_id']}' comes twice" if row["image_id"] else "image_id is empty"
            raise DatasetError(f"{path}: line {number}: {problem}")
        try:
            mpp = float(row["mpp"]) if row.get("mpp") else None
        except ValueError as error:
            raise DatasetError(f"{path}: line {number}: mpp '{row['mpp']}' is not a number (µm per pixel)") from error
        found[row["image_id"]] = ImageMetadata(row.get("patient_id", ""), row.get("grade", ""), mpp,
                                               row.get("split", ""))
    return found
