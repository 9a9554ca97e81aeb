"""Which files a slide is stored in, where these are more than the one that is named."""

import os
from contextlib import suppress
from pathlib import Path

from hf_gland.imaging.slide_readers import DICOM_SUFFIX, dicom_series

HEADER_BYTES = 2**17  # within which a DICOM file names its series, and a list of files ends


def slide_files(path: Path) -> list[Path]:
    """The files of a slide, `path` first: the levels of a DICOM slide, the folder of MRXS and VSI, what VMS and VMU name.

    Of an MRXS whose data are not there, the folder that they should be in stands for them.
    """
    suffix = path.suffix.lower()
    more: list[Path] = []
    if suffix == DICOM_SUFFIX:
        more = _levels(path)
    elif suffix == ".mrxs":
        more = _files_in(path.with_suffix("")) or [path.with_suffix("")]
    elif suffix == ".vsi":
        more = _files_in(path.with_name(f"_{path.stem}_"))
    elif suffix in (".vms", ".vmu"):
        more = _named(path)
    return [path, *sorted(set(more) - {path})]


def _levels(path: Path) -> list[Path]:
    """The DICOM files of the same series in the same folder. To open a file takes a look at all others, so only those are
    opened in which the name of the series stands."""
    series = dicom_series(path)
    if series is None:
        return []
    return [other for other in path.parent.iterdir() if other.suffix.lower() == DICOM_SUFFIX and other.is_file()
            and series.encode() in _header(other) and dicom_series(other) == series]


def _files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _named(path: Path) -> list[Path]:
    """The files beside a text of lines KEY=FILE that it names."""
    values = (os.fsdecode(line.partition(b"=")[2].strip()) for line in _header(path).splitlines())
    return [path.with_name(value) for value in values if value and Path(value).name == value
            and os.path.isfile(path.with_name(value))]


def _header(path: Path) -> bytes:
    """How a file begins; nothing where it cannot be read, which is told elsewhere."""
    with suppress(OSError), path.open("rb") as file:
        return file.read(HEADER_BYTES)
    return b""
