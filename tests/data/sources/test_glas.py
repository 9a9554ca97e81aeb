import hashlib
import io
import os
import shutil
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_gland.data.sources.glas import grades_text, iter_glas, known_checksums, open_glas, plan_glas, read_grades
from hf_gland.errors import DatasetError, HfGlandError

FOLDER = "Warwick QU Dataset (Released 2016_07_08)"


def bmp(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


def make_files() -> dict[str, bytes]:
    """A little GlaS: 12 train images of 4 patients, 2 testA images of a patient who is in train as well."""
    rng, files = np.random.default_rng(0), {}
    lines = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for split, count in (("train", 12), ("testA", 2)):
        for number in range(1, count + 1):
            name = f"{split}_{number}"
            ids = np.zeros((20, 30), np.uint8)
            ids[2:9, 2:9], ids[12:18, 5:25] = 1, 4
            files[f"{name}.bmp"] = bmp(rng.integers(0, 256, (20, 30, 3), np.uint8))
            files[f"{name}_anno.bmp"] = bmp(ids)
            grade = "benign" if number % 2 else "malignant"
            lines.append(f"{name},{1 + number % 4}, {grade}, adenomatous")
    files["Grade.csv"] = "\r\n".join(lines).encode()
    return files


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr(f"{FOLDER}/", "")
        bundle.writestr(f"__MACOSX/{FOLDER}/._train_1.bmp", b"resource fork")
        for name, data in sorted(files.items()):
            bundle.writestr(f"{FOLDER}/{name}", data)
    return path


@pytest.fixture
def files() -> dict[str, bytes]:
    return make_files()


@pytest.fixture
def checksums(files: dict[str, bytes], tmp_path: Path) -> dict[str, str]:
    table = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    with open_glas(write_zip(tmp_path / "whole.zip", files)) as opened:
        table["Grade.csv"] = hashlib.sha256(grades_text(read_grades(opened, {}))).hexdigest()
    return table


@pytest.mark.parametrize("unpacked", [False, True], ids=["zip", "folder"])
def test_reads_the_official_layout(tmp_path: Path, files: dict, checksums: dict, unpacked: bool) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    if unpacked:
        shutil.unpack_archive(archive, tmp_path / "unpacked")
        archive = tmp_path / "unpacked"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = list(iter_glas(archive, "train", checksums=checksums))
    assert [s.image_id for s in samples] == [f"train_{i}" for i in range(1, 13)]
    first = samples[0].check(2)
    np.testing.assert_array_equal(first.image, np.asarray(Image.open(io.BytesIO(files["train_1.bmp"]))))
    np.testing.assert_array_equal(np.unique(first.instances), [0, 1, 4])
    assert first.instances.dtype == np.uint16
    np.testing.assert_array_equal(first.mask, (first.instances > 0).astype(np.uint8))
    assert (first.patient_id, first.grade, first.source, first.mpp) == ("glas-2", "benign", "glas", 0.62)
    assert samples[9].grade == "malignant"


def test_only_the_images_asked_for_are_read(tmp_path: Path, files: dict, checksums: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files | {"train_3.bmp": b"not read"})
    chosen = iter_glas(archive, "train", image_ids={"train_10", "train_2"}, checksums=checksums)
    assert [s.image_id for s in chosen] == ["train_2", "train_10"]


@pytest.mark.parametrize("name", ["train_2.bmp", "train_2_anno.bmp"])
def test_a_changed_file_is_named(tmp_path: Path, files: dict, checksums: dict, name: str) -> None:
    pixels = np.array(Image.open(io.BytesIO(files[name])))
    pixels[0, 0] ^= 1
    archive = write_zip(tmp_path / "glas.zip", files | {name: bmp(pixels)})
    with pytest.raises(DatasetError, match=rf"{name} differs from the official release.*--no-verify"):
        list(iter_glas(archive, "train", checksums=checksums))
    assert len(list(iter_glas(archive, "train", checksums=checksums, verify=False))) == 12
    assert len(list(iter_glas(archive, "testA", checksums=checksums))) == 2


def test_grades_are_compared_by_content(tmp_path: Path, files: dict, checksums: dict) -> None:
    text = files["Grade.csv"].decode()
    same = ("\ufeff" + text.replace("\r\n", "\n").replace(", ", ",")).encode()
    archive = write_zip(tmp_path / "same.zip", files | {"Grade.csv": same})
    assert len(list(iter_glas(archive, "testA", checksums=checksums))) == 2
    other = text.replace("train_3,4", "train_3,1").encode()
    archive = write_zip(tmp_path / "other.zip", files | {"Grade.csv": other})
    with pytest.raises(DatasetError, match=r"Grade\.csv differs"):
        list(iter_glas(archive, "testA", checksums=checksums))


def test_files_without_a_known_checksum_are_used_with_a_note(tmp_path: Path, files: dict, checksums: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    known = {name: digest for name, digest in checksums.items() if not name.startswith("testA")}
    with pytest.warns(UserWarning, match=r"2 images of testA .*testA_1.*unverified"):
        assert len(list(iter_glas(archive, "testA", checksums=known))) == 2


def test_a_missing_split_is_named_with_those_there_are(tmp_path: Path, files: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    with pytest.raises(DatasetError, match="no 'testB' images; it holds train, testA"):
        list(iter_glas(archive, "testB", verify=False))
    with pytest.raises(DatasetError, match="no split 'test'; it has train, testA, testB"):
        list(iter_glas(archive, "test", verify=False))


@pytest.mark.parametrize(("change", "message"), [
    ({"train_4_anno.bmp": None}, r"train_4_anno\.bmp is missing"),
    ({"Grade.csv": None}, r"Grade\.csv is missing"),
    ({"Grade.csv": b"name,patient\ntrain_1,3\n"}, r"Grade\.csv is not the official table"),
    ({"Grade.csv": b""}, r"Grade\.csv is not the official table"),
    ({"Grade.csv": b"\xff\xfe\x00"}, r"Grade\.csv is not the official table"),
    ({"Grade.csv": b"name,patient ID,grade (GlaS)\ntrain_1,3,odd\n"}, "unknown grades"),
    ({"Grade.csv": b"name,patient ID,grade (GlaS)\ntrain_1,3,benign\n"}, r"no row for train_2"),
    ({"train_4.bmp": b"BMnothing"}, r"train_4\.bmp: the file is damaged"),
    ({"train_4_anno.bmp": bmp(np.zeros((20, 30, 3), np.uint8))}, r"train_4_anno\.bmp is not a single-channel"),
    ({"train_4_anno.bmp": bmp(np.zeros((21, 30), np.uint8))}, r"train_4_anno\.bmp is 30×21 px"),
    ({"train_4.bmp": make_files()["train_4.bmp"][:900]}, r"train_4\.bmp: the file is damaged"),
])
def test_unusable_files_are_named(tmp_path: Path, files: dict, change: dict, message: str) -> None:
    changed = {name: data for name, data in (files | change).items() if data is not None}
    archive = write_zip(tmp_path / "glas.zip", changed)
    with pytest.raises(HfGlandError, match=message):
        list(iter_glas(archive, "train", verify=False))


def test_a_huge_file_is_refused_before_it_is_read(tmp_path: Path, files: dict) -> None:
    archive = tmp_path / "glas.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in (files | {"train_1.bmp": bytes(65 * 2**20)}).items():
            bundle.writestr(name, data)
    with pytest.raises(DatasetError, match=r"train_1\.bmp would take 65 MiB"):
        list(iter_glas(archive, "train", verify=False))


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_truncated_zip_is_named(tmp_path: Path, files: dict, keep: float) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    data = archive.read_bytes()
    archive.write_bytes(data[:keep if keep > 1 else int(keep * len(data))])
    with pytest.raises(DatasetError, match=r"glas\.zip: not a whole zip file.*download it again"):
        list(iter_glas(archive, "train", verify=False))


def test_a_zip_with_a_flipped_byte_is_named(tmp_path: Path, files: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    data = bytearray(archive.read_bytes())
    data[data.index(files["train_5.bmp"]) + 100] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r"train_5\.bmp cannot be read .*CRC"):
        list(iter_glas(archive, "train", verify=False))


def test_an_encrypted_zip_is_named(tmp_path: Path, files: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    data = bytearray(archive.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"train_5.bmp"))
    data[entry + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r"train_5\.bmp cannot be read .*encrypted"):
        list(iter_glas(archive, "train", verify=False))


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        list(iter_glas(tmp_path / "absent.zip", "train"))
    with pytest.raises(DatasetError, match="no GlaS images at all"):
        list(iter_glas(tmp_path, "train"))


def test_validation_is_whole_patients_of_train(tmp_path: Path, files: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    plan = plan_glas(archive, val_fraction=0.25, verify=False)
    assert list(plan) == ["train", "validation", "testA"]
    assert sorted(plan["train"] + plan["validation"]) == sorted(f"train_{i}" for i in range(1, 13))
    with open_glas(archive) as opened:
        grades = read_grades(opened, {})
    assert not {grades[i][0] for i in plan["train"]} & {grades[i][0] for i in plan["validation"]}
    assert len(plan["validation"]) == 3
    assert list(plan_glas(archive, ["train"], val_fraction=0, verify=False)) == ["train"]
    assert list(plan_glas(archive, ["testA"], verify=False)) == ["testA"]


def test_the_shipped_checksums_cover_train_and_test_a() -> None:
    known = known_checksums()
    expected = {f"{split}_{i}{end}.bmp" for split, n in (("train", 85), ("testA", 60)) for i in range(1, n + 1)
                for end in ("", "_anno")}
    assert set(known) == expected | {"Grade.csv"}
    assert all(len(digest) == 64 and int(digest, 16) for digest in known.values())
    assert len(set(known.values())) == len(known)


@pytest.mark.slow
@pytest.mark.skipif("HF_GLAND_GLAS" not in os.environ, reason="HF_GLAND_GLAS names no archive")
def test_the_real_archive() -> None:
    archive = os.environ["HF_GLAND_GLAS"]
    train = list(iter_glas(archive, "train"))
    test_a = list(iter_glas(archive, "testA"))
    assert (len(train), len(test_a)) == (85, 60)
    assert (len({s.patient_id for s in train}), len({s.patient_id for s in test_a})) == (15, 9)
    assert sum(s.grade == "benign" for s in train) == 37
    assert sum(len(np.unique(s.instances)) - 1 for s in train + test_a) == 1435
    plan = plan_glas(archive, ["train", "testA"])
    assert {split: len(ids) for split, ids in plan.items()} == {"train": 71, "validation": 14, "testA": 60}
