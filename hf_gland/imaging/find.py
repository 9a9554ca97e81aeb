"""Which pictures a folder holds, and what was left out of it and why."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hf_gland.errors import ImageError
from hf_gland.imaging.opening import SUFFIXES, displayable
from hf_gland.imaging.slide_readers import DICOM_SUFFIX, dicom_series
from hf_gland.imaging.slides import SLIDE_SUFFIXES

IMAGE_SUFFIXES = SUFFIXES + SLIDE_SUFFIXES


@dataclass(frozen=True)
class Found:
    """Picture files in natural order (2 before 10), and by reason what was left out."""

    pictures: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave_out(self, path: Path, reason: str) -> None:
        self.left_out.setdefault(reason, []).append(path)

    def notes(self) -> list[str]:
        """One sentence for each reason."""
        return [f"left out, as {reason}: {displayable(paths[0])}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else "")
                for reason, paths in self.left_out.items()]


def natural_key(text: str) -> list[tuple[int, str]]:
    """Sort key under which `a2` comes before `a10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", text)]


def pictures_in(folder: Path, *, deep: bool = False, leave_out: Path | None = None,
                suffixes: Sequence[str] = SUFFIXES) -> Found:
    """The files of a folder with one of `suffixes`, without hidden ones; `deep`: at any depth, but for `leave_out`.

    Hidden and linked folders are not searched. Raises ImageError for a folder that cannot be listed.
    """
    found = Found()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: natural_key(entry.name))
    except OSError as error:
        raise ImageError(f"{displayable(folder)}: cannot be searched ({error.strerror})") from error
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir():
            _enter(path, entry.is_symlink(), found, deep, leave_out, suffixes)
        elif path.suffix.lower() in suffixes:
            if entry.name.startswith("."):
                found.leave_out(path, "hidden")
            elif not entry.is_file():
                found.leave_out(path, "a link to nothing")
            else:
                found.pictures.append(path)
        elif not entry.name.startswith("."):
            found.leave_out(path, f"no picture by its name ({', '.join(s[1:] for s in suffixes)} are read)")
    return found


def _enter(folder: Path, linked: bool, found: Found, deep: bool, leave_out: Path | None,
           suffixes: Sequence[str]) -> None:
    if leave_out is not None and folder.resolve() == leave_out.resolve():
        return
    reason = ("hidden" if folder.name.startswith(".") else
              "pictures in a folder further down (move them up)" if not deep else
              "a link to another folder (name that folder itself)" if linked else "")
    if reason:
        if any(Path(name).suffix.lower() in suffixes for _, _, names in os.walk(folder) for name in names):
            found.leave_out(folder, reason)
    else:
        inner = pictures_in(folder, deep=True, leave_out=leave_out, suffixes=suffixes)
        found.pictures.extend(inner.pictures)
        for reason, paths in inner.left_out.items():
            found.left_out.setdefault(reason, []).extend(paths)


def find_images(sources: Iterable[str | Path], leave_out: Path | None = None) -> tuple[dict[Path, Path], list[str]]:
    """Each picture or slide named or found below a named folder, with the name its results go by; and what was left out.

    Folders are searched to any depth for IMAGE_SUFFIXES, but for hidden files and folders, linked folders, and `leave_out`.
    The name is the path without its suffix: relative to the folder that was searched, or the bare name of a file named
    outright. Of a DICOM slide, whose levels are files of one folder, the first stands for all. Raises ImageError for a
    folder without images, for `leave_out` itself, or for two images that would go by the same name.
    """
    stems: dict[Path, Path] = {}
    notes: list[str] = []
    for source in map(Path, sources):
        if leave_out is not None and source.is_dir() and source.resolve() == leave_out.resolve():
            raise ImageError(f"{displayable(source)}: results are written there; give --out a folder of its own")
        found = (pictures_in(source, deep=True, leave_out=leave_out, suffixes=IMAGE_SUFFIXES) if source.is_dir() else
                 Found([source]))
        notes += found.notes()
        if not found.pictures:
            raise ImageError(f"{displayable(source)}: holds no image ({', '.join(s[1:] for s in IMAGE_SUFFIXES)})"
                             + "".join(f"; {note}" for note in notes))
        for path in found.pictures:
            name = path.relative_to(source) if source.is_dir() else Path(path.name)
            stems.setdefault(path, name.with_suffix(""))
    levels = other_levels(list(stems))
    notes += levels.notes()
    for path in (path for paths in levels.left_out.values() for path in paths):
        del stems[path]
    first: dict[Path, Path] = {}
    for path, stem in stems.items():
        if first.setdefault(stem, path) != path:
            raise ImageError(f"{displayable(first[stem])} and {displayable(path)} would both be written as "
                             f"{displayable(stem)}; rename one, or predict them apart")
    return stems, notes


def other_levels(paths: Sequence[Path]) -> Found:
    """Of each DICOM slide the files but for its first, as left out."""
    found, first = Found(), dict[tuple[Path, str], Path]()
    dicom = [path for path in paths if path.suffix.lower() == DICOM_SUFFIX]
    folders = Counter(path.parent for path in dicom)
    for path in dicom:
        if folders[path.parent] > 1 and (series := dicom_series(path)) is not None:
            whole = first.setdefault((path.parent, series), path)
            if whole != path:
                found.leave_out(path, f"levels of the slide {displayable(whole)}")
    return found
