"""What a run is to predict: pictures and slides, named, found in folders or by a pattern, or listed in a table."""

import csv
import glob
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from hf_gland.errors import HfGlandError, ImageError
from hf_gland.export.formats import FORMATS, output_paths, slide_paths
from hf_gland.imaging.find import Found, find_images, natural_key
from hf_gland.imaging.opening import displayable
from hf_gland.imaging.pixel_size import check_mpp
from hf_gland.imaging.slides import is_large_picture, is_slide

COLUMNS = ("path", "mpp", "roi")


@dataclass(frozen=True)
class Request:
    """One file, the name its results go by (a path without suffix), whether it goes through as a slide, and what is given
    for it: `mpp`, µm per pixel, and `roi`, a GeoJSON file of outlines; None: what the file states, and its tissue."""

    path: Path
    stem: Path
    slide: bool
    mpp: float | None = None
    roi: Path | None = None


def read_requests(sources: Iterable[str | Path], out: Path, mpp: float | None = None,
                  roi: Path | None = None) -> tuple[list[Request], list[str]]:
    """Everything that `sources` name, each once, with stems below `out`; and what was left out.

    A source is a file, a folder, a pattern (`*`, `**`), or a CSV table with a column `path` (relative to the table's folder)
    and, if need be, `mpp` and `roi`, which take the place of the `mpp` and `roi` given for all. Raises HfGlandError.
    """
    given: dict[Path, tuple[float | None, Path | None]] = {}
    plain: list[Path] = []
    for source in map(Path, sources):
        if source.suffix.lower() == ".csv" and source.is_file():
            plain += _listed(source, given)
        elif not source.exists() and glob.has_magic(str(source)):
            plain += _matches(source, out)
        else:
            plain.append(source)
    found, notes = find_images(plain, leave_out=out)
    written = {path for stem in found.values() for path in _results(out.resolve() / stem)}
    overwritten = Found()
    requests = []
    for path, stem in found.items():
        if path.resolve() in written:  # `imgs/* --out imgs`, the second time
            overwritten.leave_out(path, "results of other images go there")
            continue
        own_mpp, own_roi = given.get(path, (None, None))
        requests.append(Request(path, out / stem, _is_slide(path), mpp if own_mpp is None else own_mpp, own_roi or roi))
    notes += overwritten.notes()
    if outlined := [request.path for request in requests if request.roi is not None and not request.slide]:
        notes.append(f"outlined regions are for slides; the whole of {displayable(outlined[0])}"
                     + (f" and {len(outlined) - 1} more" if len(outlined) > 1 else "") + " is predicted")
    return requests, notes


def _results(stem: Path) -> list[Path]:
    """Where results of an image can go, be it a picture or a slide."""
    return [*output_paths(stem, FORMATS), *slide_paths(stem, FORMATS).values()]


def _matches(pattern: Path, out: Path) -> list[Path]:
    """What a pattern matches, without what lies below `out`, results of before, unless the pattern begins further down."""
    matches = [Path(match) for match in sorted(glob.glob(str(pattern), recursive=True), key=natural_key)]
    if not matches:
        raise ImageError(f"{displayable(pattern)}: no file matches")
    begin, results = Path(*takewhile(lambda part: not glob.has_magic(part), pattern.parts)).resolve(), out.resolve()
    if results not in begin.parents:
        matches = [match for match in matches if not match.resolve().is_relative_to(results)]
    if not matches:
        raise ImageError(f"{displayable(pattern)}: what matches lies where results are written; give --out a folder of its "
                         "own")
    return matches


def _listed(table: Path, given: dict[Path, tuple[float | None, Path | None]]) -> list[Path]:
    """The paths of a table; what it gives for each is added to `given`, the same of tables before. No row goes unheeded."""
    name = displayable(table)
    with table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        header = reader.fieldnames or ()
        if "path" not in header or set(header) - set(COLUMNS):
            raise HfGlandError(f"{name}: the columns must be path and, if need be, mpp and roi; found {', '.join(header)}")
        rows = list(reader)
    listed = []
    for line, row in enumerate(rows, start=2):
        where = f"{name}, line {line}"
        if not (row["path"] or "").strip():
            raise HfGlandError(f"{where}: no path")
        try:
            mpp = check_mpp(float(row["mpp"]), where) if (row.get("mpp") or "").strip() else None
        except ValueError as error:
            raise error if isinstance(error, HfGlandError) else HfGlandError(
                f"{where}: mpp {row['mpp']!r} is no number") from error
        roi = table.parent / row["roi"].strip() if (row.get("roi") or "").strip() else None
        path = table.parent / row["path"].strip()
        if path in given:
            raise HfGlandError(f"{where}: {displayable(path)} is listed already; give it one row, with all its "
                               "outlines in one GeoJSON")
        if path.is_dir() and (mpp, roi) != (None, None):
            raise HfGlandError(f"{where}: mpp and roi are for files; list those of {displayable(path)} one by one")
        given[path] = mpp, roi
        listed.append(path)
    if not listed:
        raise HfGlandError(f"{name}: lists no file")
    return listed


def _is_slide(path: Path) -> bool:
    try:
        return is_slide(path) or is_large_picture(path)
    except ImageError:
        return False  # said when it is read
