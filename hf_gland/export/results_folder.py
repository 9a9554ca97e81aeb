"""A folder of predictions: what became of each image, and the glands of all images in one table."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hf_gland.errors import HfGlandError
from hf_gland.export.formats import FORMATS, output_paths
from hf_gland.export.table import COLUMNS, csv_text
from hf_gland.files import write_atomically
from hf_gland.imaging.opening import displayable

RECORD, JOURNAL, TABLE = "predictions.json", "predictions.jsonl", "glands.csv"
OTHERS, BACKEND, USUAL_BACKEND = "other_settings", "backend", "torch"
UNFINISHED, BEGUN = "unfinished", "begun"
# Of the settings, those that change no result beyond rounding: a run may go on with others.
# The precision that "auto" came to is a setting of its own; back-ends are compared with torch when they are exported.
_FREE = {"tiling.batch_size", "tiling.precision", BACKEND}


class ResultsFolder:
    """RECORD and TABLE of one folder, never behind by more than the image in hand.

    RECORD holds the model, the settings and an entry for each image. While a run goes on its entries are lines of
    JOURNAL, which its end folds into RECORD; where a run was killed, the next one does so. TABLE grows with each image.
    Images go by the text that `displayable` makes of their path. One whose path is given in another way is known again by
    its `stem`: where its results go, without the formats' endings. Where results of other settings are kept beside new
    ones, their entries say under OTHERS which settings these were, and under BACKEND which one it was, where it was another.
    Entries list their result files with checksums; UNFINISHED lists those of images that a run was to do again and did not
    come to, and of one that it was stopped at. Files that neither lists are not of this program.
    """

    def __init__(self, out: Path, model: str, settings: Mapping[str, Any], *, overwrite: bool = False):
        """Raises HfGlandError where results of other settings would get mixed with new ones, unless `overwrite`."""
        self.out = out
        settings = json.loads(_json(settings))  # as it will be read back
        self.record: dict[str, Any] = {"model": model, "settings": settings, "images": {}}
        if (before := _read(out)) is not None:
            if (changed := other_settings(before["settings"], settings)) and not overwrite:
                raise HfGlandError(f"{out / RECORD}: the results there were made with other settings "
                                   f"({', '.join(changed)}); give another --out, or --overwrite")
            for image, entry in before["images"].items():
                others = other_settings(_flat(before["settings"]) | entry.pop(OTHERS, {}), settings)
                backend = entry.pop(BACKEND, before["settings"].get(BACKEND, USUAL_BACKEND))
                same = backend == settings.get(BACKEND, USUAL_BACKEND)
                self.record["images"][image] = entry | ({OTHERS: others} if others else {}) | (
                    {} if same else {BACKEND: backend})
            if left := before[UNFINISHED]:
                self.record[UNFINISHED] = left
        self._image_of = {file: image for image, entry in self.record["images"].items() for file in entry.get("files", ())}
        self._before: dict[str, dict[str, Any]] = {}  # of each result file the entry that `adding` takes away

    def entry(self, image: str, stem: Path) -> dict[str, Any]:
        """What the record says of an image, by whatever path it was given then; empty where it says nothing."""
        names = [self._image_of[file] for file in self._files(stem) if file in self._image_of]
        return self.record["images"].get(names[0] if names else image, {})

    def holds(self, image: str, stem: Path, path: Path, formats: Iterable[str], mpp: float | None = None) -> bool:
        """Whether `image` was finished without an error, in all of `formats`, from the very bytes that `path` holds now,
        with these settings, and with `mpp` as its given pixel size, if that is another than the settings'."""
        entry = self.entry(image, stem)
        files = {file_text(output, self.out) for output in output_paths(stem, formats)}
        return files <= set(entry.get("files", ())) and self._same(entry, file_sha256(path), mpp)

    def _same(self, entry: Mapping[str, Any], sha256: str | None, mpp: float | None) -> bool:
        """Whether an entry is of a picture's bytes, of these settings, and of `mpp` as the given pixel size."""
        return (entry.get("given_mpp", self.record["settings"].get("mpp")) == mpp
                and not {"error", OTHERS} & entry.keys() and "sha256" in entry and entry["sha256"] == sha256)

    def changed(self, stem: Path, formats: Iterable[str]) -> Path | None:
        """The first result file of `formats` that is no longer as it was written, as where its outlines were mended."""
        listed = _listed(self.record)
        return next((path for path in output_paths(stem, formats) if os.path.exists(path)
                     and not self._as_written(path, listed)), None)

    def begin(self, stem: Path, formats: Iterable[str]) -> None:
        """Note, inside `adding`, which files are about to be written: if the run is stopped meanwhile, they are its own."""
        files = [file_text(path, self.out) for path in output_paths(stem, formats)]
        self.record.setdefault(UNFINISHED, {}).update(dict.fromkeys(files))
        with (self.out / JOURNAL).open("ab") as journal:
            journal.write(_json({BEGUN: files}) + b"\n")

    def tidy(self, stem: Path, rewritten: Collection[Path] = (), sha256: str | None = None,
             mpp: float | None = None) -> dict[str, str | None]:
        """Remove, inside `adding`, the result files of before that were not `rewritten`, but for those changed since.

        What was made with these settings of the very picture, whose bytes have `sha256`, stays too, and is returned as
        entries list it.
        """
        listed, same = self.record.get(UNFINISHED, {}), dict[str, str | None]()
        for path in output_paths(stem, FORMATS):
            if path in rewritten or not os.path.exists(path) or not self._as_written(path, listed):
                continue
            file = file_text(path, self.out)
            if sha256 is not None and self._same(self._before.get(file, {}), sha256, mpp):
                same[file] = listed[file]
            else:
                path.unlink()
        return same

    @contextmanager
    def adding(self, todo: Mapping[str, Path]) -> Iterator[Callable[..., None]]:
        """Inside the `with`, `add(image, entry, rows)` notes what became of an image and its glands' rows (see
        `table.gland_rows`). The old entries and rows of the images `todo`, with their stems, go first.
        """
        files = {file for stem in todo.values() for file in self._files(stem)}
        before, left = self.record["images"], self.record.pop(UNFINISHED, {})
        kept = {image for image, entry in before.items() if image not in todo and files.isdisjoint(entry.get("files", ()))}
        self.record["images"] = {image: entry for image, entry in before.items() if image in kept}
        for image in before.keys() - kept:
            left |= _checksums(before[image])
            self._before |= dict.fromkeys(before[image].get("files", ()), before[image])
        if left:
            self.record[UNFINISHED] = left
        rows = _rows_of(self.out / TABLE, kept)
        self._write_record()
        write_atomically(self.out / TABLE, lambda file: file.write(csv_text(rows)))
        (self.out / JOURNAL).write_bytes(b"")
        try:
            with (self.out / TABLE).open("ab") as table, (self.out / JOURNAL).open("ab") as journal:
                def add(image: str, entry: Mapping[str, Any], rows: Iterable[Mapping[str, Any]] = ()) -> None:
                    self.record["images"][image] = dict(entry)
                    self._settle(todo[image], entry)
                    text = csv_text(({**row, "image": image} for row in rows), header=False)
                    for file, added in ((table, text), (journal, _json({"image": image, **entry}) + b"\n")):
                        file.write(added)
                        file.flush()

                yield add
        finally:
            self._write_record()
            (self.out / JOURNAL).unlink(missing_ok=True)

    def _as_written(self, path: Path, listed: Mapping[str, str | None]) -> bool:
        """Whether a file is one of `listed`, and has the checksum that is listed, if one is."""
        file = file_text(path, self.out)
        return file in listed and listed[file] in (None, file_sha256(path))

    def _settle(self, stem: Path, entry: Mapping[str, Any]) -> None:
        """Take from UNFINISHED what `entry` lists now, and what there is no more."""
        left = self.record.get(UNFINISHED, {})
        for path in output_paths(stem, FORMATS):
            if (file := file_text(path, self.out)) in entry.get("files", ()) or not os.path.exists(path):
                left.pop(file, None)
        if not left:
            self.record.pop(UNFINISHED, None)

    def _files(self, stem: Path) -> list[str]:
        return [file_text(path, self.out) for path in output_paths(stem, FORMATS)]

    def _write_record(self) -> None:
        write_atomically(self.out / RECORD, lambda file: file.write(_json(self.record, indent=2) + b"\n"))


def other_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What results of `old` settings were made with, as `group.name`, where `new` ones would make others."""
    before, after = _flat(old), _flat(new)
    return {key: before.get(key) for key in sorted((before.keys() | after.keys()) - _FREE)
            if before.get(key) != after.get(key)}


def file_text(path: Path, out: Path) -> str:
    """A result file as an entry lists it under `files`."""
    return displayable(path.relative_to(out).as_posix())


def listed_files(out: Path) -> dict[str, str | None]:
    """The result files of pictures that the records of a folder tell of, with the checksum of each where they have one.

    Raises HfGlandError for a record that is none.
    """
    record = _read(out)
    return {} if record is None else _listed(record)


def changed_since(path: Path) -> str:
    """What to say of a result file that was changed."""
    return f"{displayable(path)} is no longer as it was written and is not replaced; move it away, or give --overwrite"


def read_table(path: Path, columns: Collection[str]) -> Iterator[dict[str, str]]:
    """The rows of a table that has `columns`, and maybe others; raises HfGlandError for what is no such table."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheet programs begin UTF-8 with a mark
            reader = csv.DictReader(file)
            if not set(columns) <= set(reader.fieldnames or ()):
                raise HfGlandError(f"{path}: not a table of predictions, or no longer separated by commas, as where a "
                                   "spreadsheet program saved it; move it away, or give another --out")
            yield from reader
    except (UnicodeDecodeError, csv.Error) as error:
        raise HfGlandError(f"{path}: no table in UTF-8 ({error}), as where a spreadsheet program saved it; move it away, or "
                           "give another --out") from error


def file_sha256(path: Path) -> str | None:
    """Checksum of a file; None where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _json(value: object, indent: int | None = None) -> bytes:
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of groups as `group.name`."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= {f"{key}.{name}": v for name, v in value.items()} if isinstance(value, dict) else {key: value}
    return flat


def _read(out: Path) -> dict[str, Any] | None:
    """The record of a folder, and what the journal of a killed run adds; its last line may be cut short."""
    if not (out / RECORD).exists():
        return None
    record, path = _read_record(out / RECORD), out / JOURNAL
    left = record.setdefault(UNFINISHED, {})
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            entry = json.loads(line)
            if BEGUN in entry:
                left |= dict.fromkeys(entry[BEGUN])
            else:
                record["images"][entry.pop("image")] = entry
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    finished = {file for entry in record["images"].values() for file in entry.get("files", ())}
    record[UNFINISHED] = {file: sha256 for file, sha256 in left.items() if file not in finished}
    return record


def _listed(record: Mapping[str, Any]) -> dict[str, str | None]:
    files: dict[str, str | None] = dict(record.get(UNFINISHED, {}))
    for entry in record["images"].values():
        files |= _checksums(entry)
    return files


def _checksums(entry: Mapping[str, Any]) -> dict[str, str | None]:
    """The files of an entry; lists of names alone have no checksums."""
    files = entry.get("files", ())
    return dict(files) if isinstance(files, dict) else dict.fromkeys(files)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text("utf-8"))
        if not (isinstance(record["settings"], dict) and all(isinstance(e, dict) for e in record["images"].values())):
            raise ValueError("no settings or images")
        return record
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HfGlandError(f"{path}: not a record of predictions ({error}); give another --out") from error


def _rows_of(path: Path, images: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a table that belong to `images`; of a killed run, the last may be cut short, and is of none of them."""
    if not images or not os.path.exists(path):
        return []
    return [{column: row.get(column, "") for column in COLUMNS}  # empty: tables of before had other columns
            for row in read_table(path, {"image", "id", "area_px"}) if row["image"] in images and None not in row.values()]
