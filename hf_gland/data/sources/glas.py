"""GlaS (MICCAI 2015 gland segmentation challenge, Warwick-QU): read from the official archive.

Sirinukunwattana et al., "Gland segmentation in colon histology images: The GlaS challenge contest", Medical
Image Analysis 35 (2017) 489-502. Research only, no commercial use: this project ships checksums, never the
images. The official train and test parts share patients; `Grade.csv` says which.
"""

import argparse
import csv
import hashlib
import io
import re
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.errors import DatasetError
from hf_gland.imaging.opening import open_image

GLAS_SPLITS = ("train", "testA", "testB")
GLAS_MPP = 0.62
GLAS_LICENCE = "GlaS (Warwick-QU): research only, no commercial use; cite Sirinukunwattana et al. 2015 and 2017"
GLAS_BIBTEX = """\
@article{sirinukunwattana2017gland,
  title={Gland segmentation in colon histology images: The GlaS challenge contest},
  author={Sirinukunwattana, Korsuk and Pluim, Josien P. W. and Chen, Hao and others},
  journal={Medical Image Analysis}, volume={35}, pages={489--502}, year={2017}
}
@article{sirinukunwattana2015stochastic,
  title={A Stochastic Polygons Model for Glandular Structures in Colon Histology Images},
  author={Sirinukunwattana, Korsuk and Snead, David R. J. and Rajpoot, Nasir M.},
  journal={IEEE Transactions on Medical Imaging}, volume={34}, number={11}, pages={2366--2378}, year={2015}
}"""
GRADE_FILE = "Grade.csv"
MAX_FILE_BYTES = 64 * 2**20  # the largest official file is 1.2 MB: anything far larger is not GlaS
CHUNK_BYTES = 2**20
_IMAGE = re.compile(r"(train|testA|testB)_(\d+)\.bmp")


@dataclass(frozen=True)
class GlasArchive:
    """An open archive: the names of its files (without folders) and how to read one, verified."""

    path: Path
    names: frozenset[str]
    read: Callable[[str], bytes]

    def splits(self) -> list[str]:
        """The official splits of which there are images."""
        return [s for s in GLAS_SPLITS if any((m := _IMAGE.fullmatch(n)) and m[1] == s for n in self.names)]

    def images(self, split: str) -> list[str]:
        """Image ids of a split (`train_1`, `train_2`, … in numeric order). Raises DatasetError if it has none."""
        numbers = sorted(int(m[2]) for n in self.names if (m := _IMAGE.fullmatch(n)) and m[1] == split)
        if not numbers:
            raise DatasetError(f"{self.path}: the archive holds no '{split}' images; it holds "
                               f"{', '.join(self.splits()) or 'no GlaS images at all'}")
        return [f"{split}_{number}" for number in numbers]


def known_checksums() -> dict[str, str]:
    """SHA-256 by file name of the official files, as shipped in `glas_sha256.txt` (train, testA, Grade.csv)."""
    text = resources.files("hf_gland.data.sources").joinpath("glas_sha256.txt").read_text("utf-8")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: digest for digest, name in lines}


@contextmanager
def open_glas(archive: str | Path) -> Iterator[GlasArchive]:
    """Open the official zip, or a folder it was extracted to (at any depth); raises DatasetError."""
    path = Path(archive)
    if path.is_dir():
        found = [f for f in sorted(path.rglob("*")) if _wanted(f.name) and f.is_file()]
        _refuse_doubles(path, (f.name for f in found))
        files = {f.name: f for f in found}
        yield GlasArchive(path, frozenset(files), lambda name: _bounded(path, name, lambda: files[name].open("rb")))
        return
    if not path.is_file():
        raise DatasetError(f"{path}: no such file or folder; get warwick_qu_dataset_released_2016_07_08.zip from "
                           "the challenge's site (research use, registration asked) and give its path")
    try:
        bundle = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DatasetError(f"{path}: not a whole zip file ({error}); download it again") from error
    with bundle:
        entries = [m for m in bundle.infolist()
                   if not m.is_dir() and not m.filename.startswith("__MACOSX/") and _wanted(m.filename)]
        _refuse_doubles(path, (Path(m.filename).name for m in entries))
        members = {Path(m.filename).name: m for m in entries}
        if odd := [m for m in entries if m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]:
            # Of the others zipfile unpacks any amount at once, however little is asked for.
            raise DatasetError(f"{path}: {odd[0].filename} is not compressed as the official archive is; unpack the archive "
                               "and give the folder")
        yield GlasArchive(path, frozenset(members), lambda name: _bounded(path, name, lambda: bundle.open(members[name])))


def _wanted(filename: str) -> bool:
    name = Path(filename).name
    return (name.endswith(".bmp") and not name.startswith(".")) or name == GRADE_FILE


def _refuse_doubles(path: Path, names: Iterable[str]) -> None:
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        raise DatasetError(f"{path}: holds {twice[0]} more than once; give one copy of the official archive alone")


def _bounded(path: Path, name: str, opened: Callable[[], IO[bytes]]) -> bytes:
    """The bytes of a file, read in pieces: what a zip says of a member's size need not be true."""
    data = bytearray()
    try:
        with opened() as stream:
            while piece := stream.read(CHUNK_BYTES):
                data += piece
                if len(data) > MAX_FILE_BYTES:
                    raise DatasetError(f"{path}: {name} takes more than {MAX_FILE_BYTES / 2**20:.0f} MiB; no GlaS file does")
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:  # RuntimeError: encrypted
        raise DatasetError(f"{path}: {name} cannot be read ({error}); download the archive again") from error
    return bytes(data)


def read_grades(archive: GlasArchive, checksums: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """`{image_id: (patient_id, grade)}` from Grade.csv: patients as "glas-4", grades "benign" or "malignant".

    Verified by its content (id, patient, grade), as its line ends and spaces differ between copies.
    """
    if GRADE_FILE not in archive.names:
        raise DatasetError(f"{archive.path}: {GRADE_FILE} is missing; without it images cannot be grouped by patient")
    try:
        rows = list(csv.reader(archive.read(GRADE_FILE).decode("utf-8-sig").splitlines()))
        columns = [column.strip() for column in rows[0]]
        name, patient, grade = (columns.index(c) for c in ("name", "patient ID", "grade (GlaS)"))
        lines = [(row[name].strip(), (f"glas-{int(row[patient])}", row[grade].strip())) for row in rows[1:] if row]
    except (ValueError, IndexError, csv.Error) as error:
        raise DatasetError(f"{archive.path}: {GRADE_FILE} is not the official table ({error})") from error
    grades = dict(lines)
    if len(grades) < len(lines):
        twice = Counter(image_id for image_id, _ in lines).most_common(1)[0][0]
        raise DatasetError(f"{archive.path}: {GRADE_FILE} has more than one row for {twice}")
    if odd := {grade for _, grade in grades.values()} - {"benign", "malignant"}:
        raise DatasetError(f"{archive.path}: {GRADE_FILE} holds unknown grades {sorted(odd)}")
    _verify(archive.path, GRADE_FILE, grades_text(grades), checksums)
    return grades


def grades_text(grades: Mapping[str, tuple[str, str]]) -> bytes:
    """The canonical text whose SHA-256 stands for Grade.csv in `glas_sha256.txt`."""
    return "".join(f"{i},{patient},{grade}\n" for i, (patient, grade) in sorted(grades.items())).encode()


def plan_glas(archive: str | Path, splits: Sequence[str] | None = None, *, verify: bool = True) -> dict[str, list[Item]]:
    """The images of the official `splits` (None: those the archive holds), in numeric order.

    Raises DatasetError for a split that the archive lacks, an image without a row in Grade.csv, or, with `verify`, a table
    that is not the official one.
    """
    with open_glas(archive) as opened:
        plan = {split: opened.images(split) for split in (opened.splits() if splits is None else splits)}
        grades = read_grades(opened, known_checksums() if verify else {})
        if missing := [i for ids in plan.values() for i in ids if i not in grades]:
            raise DatasetError(f"{opened.path}: {GRADE_FILE} has no row for {missing[0]}")
    return {split: [Item(image_id, *grades[image_id]) for image_id in ids] for split, ids in plan.items()}


def read_glas(archive: str | Path, image_ids: Collection[str], verify: bool = True) -> Iterator[Sample]:
    """These images, in this order.

    mask = 1 where `*_anno.bmp` is above 0, instances = its ids (uint16), 0.62 µm per pixel. With `verify` each file is
    compared with the official checksums; those of which none is known (testB) are used with a warning. Raises
    DatasetError naming the file that is missing or differs.
    """
    known = known_checksums() if verify else {}
    with open_glas(archive) as opened:
        grades = read_grades(opened, known)
        if verify and (unknown := _unverified(image_ids)):
            warnings.warn(f"{opened.path}: no checksum is known for {len(unknown)} images (the first is {unknown[0]}); they "
                          "are used unverified", stacklevel=2)
        for image_id in image_ids:
            if image_id not in grades:
                raise DatasetError(f"{opened.path}: {GRADE_FILE} has no row for {image_id}")
            image = _picture(opened, f"{image_id}.bmp", known).convert("RGB")
            ids = np.asarray(_picture(opened, f"{image_id}_anno.bmp", known))
            if ids.ndim != 2:
                raise DatasetError(f"{opened.path}: {image_id}_anno.bmp is not a single-channel map of gland ids")
            if ids.shape != (image.height, image.width):
                raise DatasetError(f"{opened.path}: {image_id}_anno.bmp is {ids.shape[1]}×{ids.shape[0]} px "
                                   f"but its image is {image.width}×{image.height} px")
            patient_id, grade = grades[image_id]
            yield Sample(np.array(image), (ids > 0).astype(np.uint8), ids.astype(np.uint16), image_id,
                         patient_id, "glas", grade, GLAS_MPP)


def _unverified(image_ids: Iterable[str]) -> list[str]:
    known = known_checksums()
    return [i for i in image_ids if f"{i}.bmp" not in known or f"{i}_anno.bmp" not in known]


def _picture(archive: GlasArchive, name: str, checksums: Mapping[str, str]) -> Image.Image:
    if name not in archive.names:
        raise DatasetError(f"{archive.path}: {name} is missing from the archive")
    data = archive.read(name)
    _verify(archive.path, name, data, checksums)
    with open_image(io.BytesIO(data), f"{archive.path}: {name}") as picture:
        picture.load()
    return picture


def _verify(path: Path, name: str, data: bytes, checksums: Mapping[str, str]) -> None:
    expected = checksums.get(name)
    if expected is not None and hashlib.sha256(data).hexdigest() != expected:
        raise DatasetError(f"{path}: {name} differs from the official release (SHA-256); download it again, or pass "
                           "--no-verify to use it all the same")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--archive", required=True, type=Path, help="the official zip, or the folder it extracts to")
    parser.add_argument("--no-verify", action="store_true", help="do not compare files with the official checksums")
    parser.add_argument("--splits", nargs="+", choices=GLAS_SPLITS, help="[those the archive holds]")


def _open(arguments: argparse.Namespace) -> Offer:
    archive, verify = arguments.archive, not arguments.no_verify
    plan = plan_glas(archive, arguments.splits, verify=verify)
    ids = [item.image_id for items in plan.values() for item in items]
    record: dict[str, object] = {"unverified_images": len(_unverified(ids) if verify else ids)}
    if archive.is_file():
        with archive.open("rb") as stream:
            record["archive_sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()

    def read(items: Sequence[Item]) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
        return ((sample, None) for sample in read_glas(archive, [item.image_id for item in items], verify))

    return Offer(plan, read, SOURCE.title, GLAS_LICENCE, record=record)


SOURCE = Source(
    name="glas", title="GlaS", summary="the GlaS challenge, from the official archive", add_options=_add_options, open=_open,
    shareable=False, bibtex=GLAS_BIBTEX, held_out=0.175,  # 3 of 15 patients, 14 of 85 images, both grades
    read_again=read_glas)
