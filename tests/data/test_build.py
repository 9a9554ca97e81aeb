import errno
import json
from collections.abc import Iterator
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from tiny import dataset_digest

from hf_gland.data import build, parquet
from hf_gland.data.build import About, annotated, build_dataset, load_local, load_provenance, shared_patients
from hf_gland.data.card import folder_card
from hf_gland.data.parquet import SplitWriter
from hf_gland.data.sample import Sample
from hf_gland.data.schema import FEATURES
from hf_gland.data.sparsify import SparsifyConfig, annotation_rng, sparsify
from hf_gland.errors import DatasetError
from hf_gland.labels import MaskError

CONFIG = SparsifyConfig(budget=1, rim_px=2, stroke_px=2, min_gland_px=4)


def make_sample(index: int, split: str = "train", **changes: object) -> Sample:
    rng = np.random.default_rng(index)
    height, width = 20 + index, 30
    mask, instances = np.zeros((height, width), np.uint8), np.zeros((height, width), np.uint16)
    mask[2:9, 3:12], instances[2:9, 3:12] = 1, 40_000
    mask[11:18, 14:28], instances[11:18, 14:28] = 1, 2
    fields = {"image": rng.integers(0, 256, (height, width, 3), np.uint8), "mask": mask, "instances": instances,
              "image_id": f"{split}_{index}", "patient_id": f"p{index // 2}", "source": "test", "grade": "benign",
              "mpp": 0.62}
    return Sample(**(fields | changes))


def build_to(out: Path, splits: dict[str, list[Sample]], overwrite: bool = False, **changes: object) -> dict:
    about = About(**{"class_names": ("background", "gland"), "source": "made up", "licence": "mit", "annotation": CONFIG,
                     "seed": 3} | changes)
    return build_dataset({name: annotated(samples, CONFIG, 3) for name, samples in splits.items()}, out, about,
                         overwrite=overwrite)


@pytest.fixture
def splits() -> dict[str, list[Sample]]:
    return {"train": [make_sample(i) for i in range(5)], "testA": [make_sample(i, "testA") for i in range(4, 6)]}


@pytest.mark.parametrize("how", ["load_local", "load_dataset", "streaming"])
def test_what_is_written_is_read_back_pixel_by_pixel(tmp_path: Path, splits: dict, how: str) -> None:
    out = tmp_path / "set"
    build_to(out, splits)
    read = {"load_local": lambda: load_local(out), "load_dataset": lambda: datasets.load_dataset(str(out)),
            "streaming": lambda: datasets.load_dataset(str(out), streaming=True)}[how]()
    assert set(read) == {"train", "testA"}
    for name, samples in splits.items():
        assert read[name].features == FEATURES
        rows = list(read[name])
        assert len(rows) == len(samples)
        for row, sample in zip(rows, samples, strict=True):
            drawn = sparsify(sample.mask, sample.instances, CONFIG, annotation_rng(3, sample.image_id))
            assert row["image"].mode == "RGB"
            np.testing.assert_array_equal(row["image"], sample.image)
            np.testing.assert_array_equal(row["sparse_mask"], drawn.mask)
            np.testing.assert_array_equal(row["mask"], sample.mask)
            np.testing.assert_array_equal(row["instances"], sample.instances)
            assert row["mpp"] == pytest.approx(0.62)
            assert (row["image_id"], row["patient_id"], row["source"], row["grade"]) == (
                sample.image_id, sample.patient_id, "test", "benign")
            assert (row["annotated_glands"], row["total_glands"]) == (1, 2)
            assert row["labelled_fraction"] == pytest.approx(drawn.labelled_fraction)


def test_provenance_says_what_was_done(tmp_path: Path, splits: dict) -> None:
    written = build_to(tmp_path / "set", splits, sources={"archive_sha256": "ab"})
    provenance = load_provenance(tmp_path / "set")
    assert provenance == written
    fractions = [float((d.mask != 255).mean()) for _, d in annotated(splits["train"], CONFIG, 3)]
    assert provenance["splits"]["train"] == {
        "images": 5, "patients": 3, "annotated_glands": 5, "total_glands": 10, "marks": 20,
        "labelled_fraction": pytest.approx(np.mean(fractions), abs=1e-6)}
    assert provenance["shared_patients"] == {"train+testA": ["p2"]}
    assert provenance["sources"] == {"archive_sha256": "ab"}
    assert SparsifyConfig(**provenance["sparsify"]) == CONFIG
    assert (provenance["class_names"], provenance["seed"], provenance["licence"]) == (["background", "gland"], 3, "mit")


def test_the_checksum_is_of_pixels_and_ids_whatever_the_files(tmp_path: Path, splits: dict,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_to(tmp_path / "a", splits)["data_sha256"]
    assert dataset_digest(load_local(tmp_path / "a")) == first
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1)
    backwards = {name: samples[::-1] for name, samples in reversed(splits.items())}
    assert build_to(tmp_path / "b", backwards)["data_sha256"] == first

    def changed(**changes: object) -> str:
        return build_to(tmp_path / "c", splits | {"train": [make_sample(0, **changes), *splits["train"][1:]]},
                        overwrite=True)["data_sha256"]

    build_to(tmp_path / "c", splits)
    pixels = splits["train"][0].image.copy()
    pixels[3, 4, 1] ^= 1
    ids = splits["train"][0].instances.copy()
    ids[ids == 2] = 3
    seen = {first, changed(image=pixels), changed(instances=ids), changed(patient_id="p9"), changed(mpp=0.5),
            changed(mpp=None), changed(mask=None, instances=None), changed(grade=""), changed(source="other")}
    assert len(seen) == 9
    assert changed() == first


def test_missing_truth_survives(tmp_path: Path) -> None:
    samples = [make_sample(i, mask=None, instances=None, mpp=None, patient_id="", grade="") for i in range(2)]
    provenance = build_to(tmp_path / "set", {"train": samples})
    assert provenance["splits"]["train"] | {"marks": 0} == {
        "images": 2, "patients": 0, "annotated_glands": 0, "total_glands": None, "marks": 0, "labelled_fraction": 0.0}
    for row in load_local(tmp_path / "set")["train"]:
        assert row["mask"] is row["instances"] is row["mpp"] is row["total_glands"] is None
        assert (np.asarray(row["sparse_mask"]) == 255).all()
    assert "unknown" in (tmp_path / "set" / "README.md").read_text("utf-8")


def test_large_splits_become_several_files(tmp_path: Path, splits: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "SHARD_BYTES", 1)
    rows = [build.make_row(s, d) for s, d in annotated(splits["train"], CONFIG, 3)]
    with SplitWriter(tmp_path, "train") as writer:
        for row in rows * 50:
            writer.write(row | {column: build._png(row[column]) for column in build.PIXEL_COLUMNS})
    names = sorted(file.name for file in tmp_path.iterdir())
    assert names == [f"train-0000{i}-of-00003.parquet" for i in range(3)]
    assert [pq.read_metadata(tmp_path / name).num_rows for name in names] == [100, 100, 50]


def test_a_finished_folder_holds_nothing_else(tmp_path: Path, splits: dict) -> None:
    build_to(tmp_path / "deep" / "er" / "set", splits)
    assert sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()) == [
        "deep/er/set/README.md", "deep/er/set/data/testA-00000-of-00001.parquet",
        "deep/er/set/data/train-00000-of-00001.parquet", "deep/er/set/provenance.json"]
    assert (tmp_path / "deep" / "er" / "set").stat().st_mode & 0o777 == 0o755


def test_an_existing_folder_is_only_replaced_when_asked(tmp_path: Path, splits: dict) -> None:
    out = tmp_path / "set"
    build_to(out, splits)
    (out / "data" / "stale-00000-of-00001.parquet").write_bytes(b"")
    before = load_provenance(out)
    with pytest.raises(DatasetError, match=r"exists already.*--overwrite"):
        build_to(out, splits, source="new")
    assert load_provenance(out) == before
    build_to(out, splits, source="new", overwrite=True)
    assert load_provenance(out)["source"] == "new"
    assert len(list((out / "data").iterdir())) == 2
    assert [f.name for f in tmp_path.iterdir()] == ["set"]


def test_a_folder_that_is_no_dataset_is_never_overwritten(tmp_path: Path, splits: dict) -> None:
    (tmp_path / "precious.txt").write_text("x")
    for out in (tmp_path, tmp_path / "precious.txt"):
        with pytest.raises(DatasetError, match="is not a dataset folder"):
            build_to(out, splits, overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "x"


def stopping(samples: list[Sample], error: BaseException) -> Iterator[Sample]:
    yield from samples
    raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), DatasetError("bad file"), ValueError("bug")])
@pytest.mark.parametrize("existing", [False, True])
def test_a_stop_halfway_leaves_everything_as_it_was(tmp_path: Path, splits: dict, error: BaseException,
                                                    existing: bool) -> None:
    out = tmp_path / "set"
    if existing:
        build_to(out, splits)
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    with pytest.raises(type(error)):
        build_to(out, {"train": splits["train"], "testA": stopping(splits["testA"], error)}, overwrite=True)
    assert {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()} == before
    assert [f.name for f in tmp_path.iterdir()] == (["set"] if existing else [])


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path, splits: dict, file_size_limit) -> None:
    file_size_limit(4000)
    with pytest.raises(DatasetError, match=r"set: could not be written \(.*is there space"):
        build_to(tmp_path / "set", splits)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_replacement_puts_the_old_folder_back(tmp_path: Path, splits: dict,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "set"
    build_to(out, splits)
    replace = Path.replace

    def fail_once(self: Path, target: Path) -> Path:
        if "unfinished" in self.name:
            raise OSError(errno.EIO, "input/output error")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail_once)
    with pytest.raises(DatasetError, match="input/output error"):
        build_to(out, splits, source="new", overwrite=True)
    assert load_provenance(out)["source"] == "made up"
    assert [f.name for f in tmp_path.iterdir()] == ["set"]


@pytest.mark.parametrize(("splits", "error", "message"), [
    ({"train": []}, DatasetError, "split 'train' has no images"),
    ({"train": [make_sample(1), make_sample(1)]}, DatasetError, "two images have the id 'train_1'"),
    ({"train": [make_sample(1)], "test": [make_sample(1)]}, DatasetError, "two images have the id 'train_1'"),
    ({"te-st": [make_sample(1)]}, DatasetError, "'te-st' cannot name a split"),
    ({"all": [make_sample(1)]}, DatasetError, "'all' cannot name a split"),
    ({"train": [make_sample(1, mask=np.full((21, 30), 2, np.uint8))]}, MaskError, "train_1: mask values 2"),
    ({"train": [make_sample(1, mpp=250.0)]}, ValueError, "train_1: 250 µm per pixel"),
])
def test_unusable_samples_are_refused(tmp_path: Path, splits: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build_to(tmp_path / "set", splits)
    assert not (tmp_path / "set").exists()


def test_a_sparse_mask_of_the_wrong_classes_is_refused(tmp_path: Path) -> None:
    pairs = [(s, d.__class__(np.full_like(d.mask, 9), 0, 0, 0.0, 0)) for s, d in annotated([make_sample(0)], CONFIG, 3)]
    with pytest.raises(MaskError, match="train_0: mask values 9"):
        build_dataset({"train": pairs}, tmp_path / "set", About(("a", "b"), "x", "x", CONFIG))


@pytest.mark.parametrize(("licence", "shown"), [("mit", "mit"), ("GlaS: research only", "other")])
def test_the_card_names_licence_and_files(tmp_path: Path, splits: dict, licence: str, shown: str) -> None:
    card = folder_card(build_to(tmp_path / "set", splits, licence=licence))
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == shown
    assert [f["split"] for f in front["configs"][0]["data_files"]] == ["train", "testA"]
    assert f"Licence: {licence}." in card
    assert "`train` and `testA` share 1 patient" in card


def test_damaged_folders_are_told_apart(tmp_path: Path, splits: dict) -> None:
    out = tmp_path / "set"
    with pytest.raises(DatasetError, match="not a dataset folder"):
        load_local(out)
    build_to(out, splits)
    file = out / "data" / "train-00000-of-00001.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-200])
    with pytest.raises(DatasetError, match="file of split 'train' is damaged"):
        load_local(out)
    file.unlink()
    with pytest.raises(DatasetError, match=r"split 'train' has 0 rows in 0 Parquet files but .* says 5"):
        load_local(out)
    file.write_bytes(whole)
    pq.write_table(pq.read_table(file).drop_columns(["mask"]), file)
    with pytest.raises(DatasetError, match=r"train-00000-of-00001\.parquet: lacks the columns mask"):
        load_local(out)
    file.write_bytes(whole[:1000] + bytes(3000) + whole[4000:])
    with pytest.raises(DatasetError, match="set: cannot be read"):
        load_local(out)
    for text, message in (("{", "not valid JSON"), ("[]", "names no splits"), ("{}", "names no splits")):
        (out / "provenance.json").write_text(text)
        with pytest.raises(DatasetError, match=message):
            load_provenance(out)


def test_provenance_is_readable_json(tmp_path: Path, splits: dict) -> None:
    build_to(tmp_path / "set", splits, source="Drüsen")
    text = (tmp_path / "set" / "provenance.json").read_text("utf-8")
    assert "Drüsen" in text
    assert json.loads(text)["source"] == "Drüsen"


def test_shared_patients() -> None:
    assert shared_patients({"a": {"1", "2"}, "b": {"3"}, "c": {"3", "2"}}) == {"a+c": ["2"], "b+c": ["3"]}
