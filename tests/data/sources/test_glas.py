import hashlib
import io
import os
import shutil
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_gland.data.sample import Sample
from hf_gland.data.sources import glas
from hf_gland.data.sources.glas import grades_text, known_checksums, open_glas, plan_glas, read_glas, read_grades
from hf_gland.data.split import hold_out
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


def read_split(archive: Path, split: str, verify: bool = True) -> list[Sample]:
    """All samples of one official split."""
    return list(read_glas(archive, [item.image_id for item in plan_glas(archive, [split], verify=verify)[split]], verify))


@pytest.fixture
def checksums(files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Those of the little archive, in the place of the official ones."""
    table = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    with open_glas(write_zip(tmp_path / "whole.zip", files)) as opened:
        table["Grade.csv"] = hashlib.sha256(grades_text(read_grades(opened, {}))).hexdigest()
    monkeypatch.setattr(glas, "known_checksums", lambda: table)
    return table


@pytest.mark.parametrize("unpacked", [False, True], ids=["zip", "folder"])
def test_reads_the_official_layout(tmp_path: Path, files: dict, checksums: dict, unpacked: bool) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    if unpacked:
        shutil.unpack_archive(archive, tmp_path / "unpacked")
        archive = tmp_path / "unpacked"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = read_split(archive, "train")
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
    chosen = read_glas(archive, ["train_10", "testA_1", "train_2"])
    assert [s.image_id for s in chosen] == ["train_10", "testA_1", "train_2"]


@pytest.mark.parametrize("name", ["train_2.bmp", "train_2_anno.bmp"])
def test_a_changed_file_is_named(tmp_path: Path, files: dict, checksums: dict, name: str) -> None:
    pixels = np.array(Image.open(io.BytesIO(files[name])))
    pixels[0, 0] ^= 1
    archive = write_zip(tmp_path / "glas.zip", files | {name: bmp(pixels)})
    with pytest.raises(DatasetError, match=rf"{name} differs from the official release.*--no-verify"):
        read_split(archive, "train")
    assert len(read_split(archive, "train", verify=False)) == 12
    assert len(read_split(archive, "testA")) == 2


def test_grades_are_compared_by_content(tmp_path: Path, files: dict, checksums: dict) -> None:
    text = files["Grade.csv"].decode()
    same = ("\ufeff" + text.replace("\r\n", "\n").replace(", ", ",")).encode()
    archive = write_zip(tmp_path / "same.zip", files | {"Grade.csv": same})
    assert len(read_split(archive, "testA")) == 2
    other = text.replace("train_3,4", "train_3,1").encode()
    archive = write_zip(tmp_path / "other.zip", files | {"Grade.csv": other})
    with pytest.raises(DatasetError, match=r"Grade\.csv differs"):
        read_split(archive, "testA")


def test_files_without_a_known_checksum_are_used_with_a_note(tmp_path: Path, files: dict, checksums: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    for name in [name for name in checksums if name.startswith("testA")]:
        del checksums[name]
    with pytest.warns(UserWarning, match=r"2 images .*testA_1.*unverified"):
        assert len(read_split(archive, "testA")) == 2


def test_a_missing_split_is_named_with_those_there_are(tmp_path: Path, files: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    with pytest.raises(DatasetError, match="no 'testB' images; it holds train, testA"):
        read_split(archive, "testB", verify=False)


@pytest.mark.parametrize(("change", "message"), [
    ({"train_4_anno.bmp": None}, r"train_4_anno\.bmp is missing"),
    ({"Grade.csv": None}, r"Grade\.csv is missing"),
    ({"Grade.csv": b"name,patient\ntrain_1,3\n"}, r"Grade\.csv is not the official table"),
    ({"Grade.csv": b""}, r"Grade\.csv is not the official table"),
    ({"Grade.csv": b"\xff\xfe\x00"}, r"Grade\.csv is not the official table"),
    ({"Grade.csv": b"name,patient ID,grade (GlaS)\ntrain_1,3,odd\n"}, "unknown grades"),
    ({"Grade.csv": b"name,patient ID,grade (GlaS)\ntrain_1,3,benign\n"}, r"no row for train_2"),
    ({"Grade.csv": b"name,patient ID,grade (GlaS)\ntrain_2,3,benign\ntrain_1,3,benign\ntrain_2,4,benign"},
     "more than one row for train_2"),
    ({"Grade.csv": b'name,patient ID,grade (GlaS)\ntrain_1,"3,benign\n' + b"x" * 200_000},
     r"Grade\.csv is not the official"),
    ({"train_4.bmp": b"BMnothing"}, r"train_4\.bmp: the file is damaged"),
    ({"train_4_anno.bmp": bmp(np.zeros((20, 30, 3), np.uint8))}, r"train_4_anno\.bmp is not a single-channel"),
    ({"train_4_anno.bmp": bmp(np.zeros((21, 30), np.uint8))}, r"train_4_anno\.bmp is 30×21 px"),
    ({"train_4.bmp": make_files()["train_4.bmp"][:900]}, r"train_4\.bmp: the file is damaged"),
])
def test_unusable_files_are_named(tmp_path: Path, files: dict, change: dict, message: str) -> None:
    changed = {name: data for name, data in (files | change).items() if data is not None}
    archive = write_zip(tmp_path / "glas.zip", changed)
    with pytest.raises(HfGlandError, match=message):
        read_split(archive, "train", verify=False)


def test_a_huge_file_is_refused(tmp_path: Path, files: dict) -> None:
    archive = tmp_path / "glas.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in (files | {"train_1.bmp": bytes(65 * 2**20)}).items():
            bundle.writestr(name, data)
    with pytest.raises(DatasetError, match=r"train_1\.bmp takes more than 64 MiB"):
        read_split(archive, "train", verify=False)


def test_a_file_that_lies_about_its_size_is_not_unpacked_whole(tmp_path: Path, files: dict) -> None:
    """The directory says 1000 bytes where 200 MiB are: what is read stays in proportion to what is said."""
    archive = tmp_path / "glas.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in (files | {"train_1.bmp": bytes(200 * 2**20)}).items():
            bundle.writestr(name, data)
    data, size = bytearray(archive.read_bytes()), (200 * 2**20).to_bytes(4, "little")
    for place in (data.index(size), data.rindex(size)):
        data[place:place + 4] = (1000).to_bytes(4, "little")
    archive.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(DatasetError, match=r"train_1\.bmp cannot be read .*CRC"):
        read_split(archive, "train", verify=False)
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_compression_is_refused_with_the_way_out(tmp_path: Path, files: dict, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "glas.zip", "w", method) as bundle:
        for name, data in files.items():
            bundle.writestr(name, data)
    with pytest.raises(DatasetError, match=r"not compressed as the official archive is; unpack"):
        read_split(tmp_path / "glas.zip", "train", verify=False)


@pytest.mark.parametrize("unpacked", [False, True], ids=["zip", "folder"])
@pytest.mark.parametrize("name", ["train_5.bmp", "Grade.csv"])
def test_a_file_that_is_there_twice_is_named(tmp_path: Path, files: dict, name: str, unpacked: bool) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    with zipfile.ZipFile(archive, "a") as bundle:
        bundle.writestr(f"copy/{name}", files["train_6.bmp"])
    if unpacked:
        shutil.unpack_archive(archive, tmp_path / "unpacked")
    with pytest.raises(DatasetError, match=f"{name} more than once"):
        read_split(tmp_path / "unpacked" if unpacked else archive, "train", verify=False)


def test_a_table_with_old_mac_line_ends_is_read(tmp_path: Path, files: dict, checksums: dict) -> None:
    old = files["Grade.csv"].replace(b"\r\n", b"\r")
    assert len(read_split(write_zip(tmp_path / "glas.zip", files | {"Grade.csv": old}), "testA")) == 2


@pytest.mark.parametrize("keep", [0, 100, 0.5, 0.999])
def test_a_truncated_zip_is_named(tmp_path: Path, files: dict, keep: float) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    data = archive.read_bytes()
    archive.write_bytes(data[:keep if keep > 1 else int(keep * len(data))])
    with pytest.raises(DatasetError, match=r"glas\.zip: not a whole zip file.*download it again"):
        read_split(archive, "train", verify=False)


def test_a_zip_with_a_flipped_byte_is_named(tmp_path: Path, files: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    data = bytearray(archive.read_bytes())
    data[data.index(files["train_5.bmp"]) + 100] ^= 1
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r"train_5\.bmp cannot be read .*CRC"):
        read_split(archive, "train", verify=False)


def test_an_encrypted_zip_is_named(tmp_path: Path, files: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    data = bytearray(archive.read_bytes())
    entry = data.rindex(b"PK\x01\x02", 0, data.rindex(b"train_5.bmp"))
    data[entry + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(DatasetError, match=r"train_5\.bmp cannot be read .*encrypted"):
        read_split(archive, "train", verify=False)


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        read_split(tmp_path / "absent.zip", "train")
    with pytest.raises(DatasetError, match="no GlaS images at all"):
        read_split(tmp_path, "train")


def test_validation_is_whole_patients_of_train(tmp_path: Path, files: dict) -> None:
    archive = write_zip(tmp_path / "glas.zip", files)
    plan, _ = hold_out(plan_glas(archive, verify=False), 0.25, 0.0)
    assert list(plan) == ["train", "validation", "testA"]
    ids = [item.image_id for split in ("train", "validation") for item in plan[split]]
    assert sorted(ids) == sorted(f"train_{i}" for i in range(1, 13))
    assert not {item.patient_id for item in plan["train"]} & {item.patient_id for item in plan["validation"]}
    assert len(plan["validation"]) == 3
    assert list(plan_glas(archive, ["testA"], verify=False)) == ["testA"]


# Grade.csv of the official archive, image after image: the patient's number, and b(enign) or m(alignant).
OFFICIAL = {
    "train": "2m 5b 2m 3b 11m 3b 14m 10b 10b 2m 10m 13b 1m 1m 4b 10m 3m 6m 3m 10b 5b 9b 2m 1m 10b 1m 1m 10m 2m 9b 2m 1b "
             "9b 5b 7m 16m 1m 1b 1m 2m 8m 10m 2m 2m 10b 10b 5b 7m 7m 16m 9b 3b 10b 6m 3b 4b 11m 3m 9b 6m 9b 9b 10b 1b "
             "1b 2m 4b 1m 9b 2m 2m 10b 6m 2m 3m 7m 2m 2m 10b 4b 11m 2m 11m 15b 10b",
    "testA": "4b 3b 4m 9b 11b 9b 4b 11m 4b 10b 9b 11m 7m 7m 7m 4m 7m 9b 11b 9b 9b 11m 4m 7m 10b 7m 11b 10b 11m 4b 9b "
             "11m 9b 4m 15b 10b 10b 7m 7m 11b 7m 7m 15b 13b 12m 4b 11m 4m 4b 13b 7m 4b 7m 10b 10b 4m 11m 10b 11m 4b",
    "testB": "3m 7m 2m 5b 5b 3m 5b 7m 1m 3m 2m 1m 7m 3m 1m 1m 5b 2m 2m 7m",
}


def official_archive(folder: Path) -> Path:
    """A folder with the official table and names, and no pixels."""
    lines = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    for split, words in OFFICIAL.items():
        for number, word in enumerate(words.split(), start=1):
            (folder / f"{split}_{number}.bmp").touch()
            lines.append(f"{split}_{number}, {word[:-1]}, {'benign' if word[-1] == 'b' else 'malignant'}, ")
    (folder / "Grade.csv").write_text("\n".join(lines))
    return folder


def test_the_patients_of_the_official_validation_split(tmp_path: Path) -> None:
    """Every record names this split; the table is checked to be the official one by its checksum."""
    plan = plan_glas(official_archive(tmp_path))
    splits, note = hold_out(plan, None, glas.SOURCE.held_out)
    assert [(split, len(items)) for split, items in splits.items()] == [
        ("train", 71), ("validation", 14), ("testA", 60), ("testB", 20)]
    assert {item.patient_id for item in splits["validation"]} == {"glas-1", "glas-13", "glas-15"}
    assert [item.image_id for item in splits["validation"]] == [f"train_{i}" for i in (
        12, 13, 14, 24, 26, 27, 32, 37, 38, 39, 64, 65, 68, 84)]
    assert {item.grade for item in splits["validation"]} == {"benign", "malignant"}
    assert "3 of 15 patients (14 of 85 train images)" in note


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
    train, test_a = read_split(archive, "train"), read_split(archive, "testA")
    assert (len(train), len(test_a)) == (85, 60)
    assert (len({s.patient_id for s in train}), len({s.patient_id for s in test_a})) == (15, 9)
    assert sum(s.grade == "benign" for s in train) == 37
    assert sum(len(np.unique(s.instances)) - 1 for s in train + test_a) == 1435
