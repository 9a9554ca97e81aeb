"""GlaS (MICCAI 2015 gland segmentation challenge, Warwick-QU): read from the official archive.

Sirinukunwattana et al., "Gland segmentation in colon histology images: The GlaS challenge contest", Medical
Image Analysis 35 (2017) 489-502. Research only, no commercial use: this project ships checksums, never the
images. The official train and test parts share patients; `Grade.csv` says which.
"""

import csv
import hashlib
import io
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image

from hf_gland.data.schema import Sample
from hf_gland.data.split import split_by_patient
from hf_gland.errors import DatasetError
from hf_gland.imaging.opening import open_image

GLAS_SPLITS = ("train", "testA", "testB")
GLAS_MPP = 0.62
VAL_FRACTION = 0.175  # of the train images: 3 of 15 patients, 14 of 85 images, both grades
GLAS_LICENCE = "GlaS (Warwick-QU): research only, no commercial use; cite Sirinukunwattana et al. 2015 and 2017"
GRADE_FILE = "Grade.csv"
MAX_FILE_BYTES = 64 * 2**20  # the largest official file is 1.2 MB: anything far larger is not GlaS
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
        files = {f.name: f for f in sorted(path.rglob("*")) if _wanted(f.name) and f.is_file()}
        yield GlasArchive(path, frozenset(files), lambda name: _bounded(path, name, files[name].stat().st_size,
                                                                         files[name].read_bytes))
        return
    if not path.is_file():
        raise DatasetError(f"{path}: no such file or folder; get warwick_qu_dataset_released_2016_07_08.zip from "
                           "the challenge's site (research use, registration asked) and give its path")
    try:
        bundle = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise DatasetError(f"{path}: not a whole zip file ({error}); download it again") from error
    with bundle:
        members = {Path(m.filename).name: m for m in bundle.infolist()
                   if not m.is_dir() and not m.filename.startswith("__MACOSX/") and _wanted(m.filename)}
        yield GlasArchive(path, frozenset(members), lambda name: _bounded(
            path, name, members[name].file_size, lambda: bundle.read(members[name])))


def _wanted(filename: str) -> bool:
    name = Path(filename).name
    return (name.endswith(".bmp") and not name.startswith(".")) or name == GRADE_FILE


def _bounded(path: Path, name: str, size_bytes: int, read: Callable[[], bytes]) -> bytes:
    if size_bytes > MAX_FILE_BYTES:
        raise DatasetError(f"{path}: {name} would take {size_bytes / 2**20:.0f} MiB; no GlaS file is that large")
    try:
        return read()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError) as error:  # RuntimeError: encrypted
        raise DatasetError(f"{path}: {name} cannot be read ({error}); download the archive again") from error


def read_grades(archive: GlasArchive, checksums: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """`{image_id: (patient_id, grade)}` from Grade.csv: patients as "glas-4", grades "benign" or "malignant".

    Verified by its content (id, patient, grade), as its line ends and spaces differ between copies.
    """
    if GRADE_FILE not in archive.names:
        raise DatasetError(f"{archive.path}: {GRADE_FILE} is missing; without it images cannot be grouped by patient")
    try:
        rows = list(csv.reader(io.StringIO(archive.read(GRADE_FILE).decode("utf-8-sig"))))
        columns = [column.strip() for column in rows[0]]
        name, patient, grade = (columns.index(c) for c in ("name", "patient ID", "grade (GlaS)"))
        grades = {row[name].strip(): (f"glas-{int(row[patient])}", row[grade].strip()) for row in rows[1:] if row}
    except (ValueError, IndexError) as error:
        raise DatasetError(f"{archive.path}: {GRADE_FILE} is not the official table ({error})") from error
    if odd := {grade for _, grade in grades.values()} - {"benign", "malignant"}:
        raise DatasetError(f"{archive.path}: {GRADE_FILE} holds unknown grades {sorted(odd)}")
    _verify(archive.path, GRADE_FILE, grades_text(grades), checksums)
    return grades


def grades_text(grades: Mapping[str, tuple[str, str]]) -> bytes:
    """The canonical text whose SHA-256 stands for Grade.csv in `glas_sha256.txt`."""
    return "".join(f"{i},{patient},{grade}\n" for i, (patient, grade) in sorted(grades.items())).encode()


def plan_glas(archive: str | Path, splits: Sequence[str] | None = None, *, val_fraction: float = VAL_FRACTION,
              verify: bool = True, checksums: Mapping[str, str] | None = None) -> dict[str, list[str]]:
    """Image ids by split: the official `splits` (None: those the archive holds), validation taken out of train.

    `validation` is about `val_fraction` of the train images (0: none), whole patients, both grades, always the
    same ones. Raises DatasetError for a split that the archive lacks.
    """
    with open_glas(archive) as opened:
        wanted = opened.splits() if splits is None else splits
        plan = {split: opened.images(split) for split in wanted}
        grades = read_grades(opened, _table(verify, checksums))
        missing = [i for ids in plan.values() for i in ids if i not in grades]
        if missing:
            raise DatasetError(f"{opened.path}: {GRADE_FILE} has no row for {missing[0]}")
    if "train" in plan and val_fraction > 0:
        train = plan["train"]
        held = split_by_patient([grades[i][0] for i in train], val_fraction, grades=[grades[i][1] for i in train])
        rest = {split: ids for split, ids in plan.items() if split != "train"}
        plan = {"train": [i for i in train if grades[i][0] not in held],
                "validation": [i for i in train if grades[i][0] in held], **rest}
    return plan


def _table(verify: bool, checksums: Mapping[str, str] | None) -> Mapping[str, str]:
    if not verify:
        return {}
    return known_checksums() if checksums is None else checksums


def iter_glas(archive: str | Path, split: str, *, image_ids: Collection[str] | None = None, verify: bool = True,
              checksums: Mapping[str, str] | None = None) -> Iterator[Sample]:
    """The images of one official split (`train`, `testA` or `testB`), in numeric order; only `image_ids` if given.

    mask = 1 where `*_anno.bmp` is above 0, instances = its ids (uint16), 0.62 µm per pixel.
    Each file is compared with `checksums` (default: the official ones) unless `verify` is false; files that the
    table does not know are used with a warning. Raises DatasetError naming the file that is missing or differs.
    """
    if split not in GLAS_SPLITS:
        raise DatasetError(f"GlaS has no split '{split}'; it has {', '.join(GLAS_SPLITS)}")
    known = _table(verify, checksums)
    with open_glas(archive) as opened:
        ids = [i for i in opened.images(split) if image_ids is None or i in image_ids]
        grades = read_grades(opened, known)
        unknown = [i for i in ids if f"{i}.bmp" not in known or f"{i}_anno.bmp" not in known]
        if verify and unknown:
            warnings.warn(f"{opened.path}: no checksum is known for {len(unknown)} images of {split} (the first is "
                          f"{unknown[0]}); they are used unverified", stacklevel=2)
        for image_id in ids:
            if image_id not in grades:
                raise DatasetError(f"{opened.path}: {GRADE_FILE} has no row for {image_id}")
            image = _picture(opened, f"{image_id}.bmp", known).convert("RGB")
            ids_map = np.asarray(_picture(opened, f"{image_id}_anno.bmp", known))
            if ids_map.ndim != 2:
                raise DatasetError(f"{opened.path}: {image_id}_anno.bmp is not a single-channel map of gland ids")
            if ids_map.shape != (image.height, image.width):
                raise DatasetError(f"{opened.path}: {image_id}_anno.bmp is {ids_map.shape[1]}×{ids_map.shape[0]} px "
                                   f"but its image is {image.width}×{image.height} px")
            patient_id, grade = grades[image_id]
            yield Sample(np.array(image), (ids_map > 0).astype(np.uint8), ids_map.astype(np.uint16), image_id,
                         patient_id, "glas", grade, GLAS_MPP)


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
