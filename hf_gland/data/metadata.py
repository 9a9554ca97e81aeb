"""`metadata.csv`: what is known about each image of a folder beside its pixels."""

import csv
import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class ImageTable:
    """The lines of one metadata file (its `path`), by image_id."""

    path: Path
    lines: Mapping[str, ImageMetadata]


def read_metadata(path: Path) -> ImageTable:
    """The lines of a CSV file with a header line, separated by commas or semicolons.

    `image_id` is required, the other `COLUMNS` are optional, in any case; further ones are left out, with a warning. An
    image_id may have the file's suffix (`known_of`). Raises DatasetError naming the file and line.
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
    return ImageTable(path, found)


def known_of(image: Path, image_id: str, table: ImageTable | None, patient_pattern: str = "") -> ImageMetadata:
    """What the table says of an image, by its id with or without the file's suffix, and nothing if there is no table.

    A patient whom it does not name is found in the file's name, without suffix, by the group of `patient_pattern` ("": not
    looked for). Raises DatasetError where the line is missing or doubled, or the pattern finds nobody.
    """
    known = ImageMetadata()
    if table is not None:
        lines = [table.lines[key] for key in (image_id, f"{image_id}{image.suffix}") if key in table.lines]
        if len(lines) != 1:
            raise DatasetError(f"{table.path}: has {'no line' if not lines else 'two lines'} for {image_id} ({image}); "
                               f"{'add' if not lines else 'keep'} one")
        known = lines[0]
    if known.patient_id or not patient_pattern:
        return known
    match = re.search(patient_pattern, image.stem)
    if match is None or not match[1]:
        raise DatasetError(f"{image}: patient pattern '{patient_pattern}' matches "
                           f"{'nothing' if match is None else 'no patient'} in the name '{image.stem}'")
    return replace(known, patient_id=match[1])


def check_patient_pattern(pattern: str) -> None:
    """Raise DatasetError unless it is empty or a regular expression with one group."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise DatasetError(f"patient pattern '{pattern}' is not a regular expression ({error})") from error
    if pattern and groups != 1:
        raise DatasetError(f"patient pattern '{pattern}' must hold exactly one (group)")
