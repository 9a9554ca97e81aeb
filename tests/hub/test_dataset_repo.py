"""Datasets staged for publication: every row checked, licences heeded, masks joined with the archive again."""

import json
import shutil
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from publications import TEMPLATES, write_glas_archive, write_glas_dataset
from tiny import dataset_digest, tree

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local, load_provenance
from hf_gland.data.join import join_archive
from hf_gland.data.schema import FEATURES
from hf_gland.errors import DatasetError
from hf_gland.hub.dataset_repo import stage_dataset
from hf_gland.hub.dataset_source import check_rows, read_configurations
from hf_gland.hub.errors import HubError


@pytest.fixture
def changed(tiny_dataset, tmp_path):
    """Change the training rows of a copy of `tiny_dataset`, still encoded; returns the copy."""
    def build(change, features=FEATURES, name="changed"):
        copy = tmp_path / name
        shutil.copytree(tiny_dataset, copy)
        shard = next((copy / "data").glob("train-*"))
        rows = pq.read_table(shard).to_pylist()
        change(rows)
        pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), shard)
        return copy
    return build


def png(pixels: np.ndarray) -> dict:
    return datasets.Image().encode_example(pixels)


def put(column, value):
    return lambda rows: rows[3].update({column: value})


@pytest.mark.parametrize(("change", "said"), [
    (put("sparse_mask", None), "train-3: image_id, image and sparse_mask must not be empty"),
    (put("image", None), "train-3 has no image"),
    (put("image_id", ""), "(no image_id): image_id"),
    (put("image_id", "train-1"), "train-1: another row has this image_id"),
    (put("sparse_mask", png(np.full((64, 80), 7, np.uint8))), "train-3: mask values 7 are not classes"),
    (put("sparse_mask", png(np.zeros((8, 8), np.uint8))), "train-3: the mask is 8×8 px but its image"),
    (put("mask", png(np.full((64, 80), 2, np.uint8))), "train-3: mask values 2 are not classes"),
    (put("instances", png(np.zeros((9, 9), np.uint8))), "train-3: the map of gland ids is (9, 9)"),
    (put("mpp", 1e6), "train-3: 1e+06 µm per pixel"),
    (put("image", {"bytes": b"no picture", "path": None}), "cannot identify image file"),
])
def test_a_row_that_breaks_the_schema_is_named(changed, change, said):
    folder = changed(change)
    with pytest.raises(DatasetError) as error:
        check_rows(read_configurations([str(folder)])[0])
    message = str(error.value)
    assert said in message
    assert message.startswith(f"{folder}, split 'train', row 3: ")
    assert message.endswith("Build the dataset again with scripts/build_dataset.py")


def test_columns_that_are_missing_or_of_another_type(changed):
    def without(rows):
        for row in rows:
            del row["grade"]

    lacking = datasets.Features({k: v for k, v in FEATURES.items() if k != "grade"})
    wide = datasets.Features(FEATURES | {"mpp": datasets.Value("float64")})
    more = datasets.Features(FEATURES | {"remark": datasets.Value("string")})
    for change, features, said in ((without, lacking, "lacks the column grade"), (lambda rows: None, wide, "mpp is double"),
                                   (lambda rows: None, more, "does not know (remark)")):
        folder = changed(change, features, name=said.split()[-1])
        with pytest.raises(DatasetError) as error:
            check_rows(read_configurations([str(folder)])[0])
        assert said in str(error.value)


def test_data_that_are_not_those_of_the_provenance(changed, tiny_dataset):
    check_rows(read_configurations([str(tiny_dataset)])[0])
    with pytest.raises(DatasetError, match=r"provenance\.json says 6"):
        check_rows(read_configurations([str(changed(lambda rows: rows.pop(), name="fewer"))])[0])
    with pytest.raises(DatasetError, match="changed after they were built"):
        check_rows(read_configurations([str(changed(put("grade", "benign"), name="other"))])[0])
    broken = changed(lambda rows: None, name="broken")
    next((broken / "data").glob("train-*")).write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="not a readable Parquet file"):
        check_rows(read_configurations([str(broken)])[0])


def test_configurations_need_names_of_their_own(tiny_dataset, tmp_path):
    assert [c.name for c in read_configurations([str(tiny_dataset)])] == ["default"]
    with pytest.raises(HubError, match="several datasets need names"):
        read_configurations([str(tiny_dataset), f"b={tiny_dataset}"])
    with pytest.raises(HubError, match="two datasets have this name"):
        read_configurations([f"a={tiny_dataset}", f"a={tiny_dataset}"])
    for name in ("data", "preview", "media", "a/b", "a b", "-a"):
        with pytest.raises(HubError, match="cannot name a configuration"):
            read_configurations([f"{name}={tiny_dataset}"])
    with pytest.raises(DatasetError, match="not a dataset folder"):
        read_configurations([str(tmp_path)])


def test_configurations_of_different_data_do_not_mix(tiny_dataset, changed):
    other = changed(lambda rows: None)
    provenance = load_provenance(other)
    (other / "provenance.json").write_text(json.dumps(provenance | {"licence": "cc-by-4.0"}))
    with pytest.raises(HubError, match=r"differ in their licence \(a: mit, b: cc-by-4\.0\)"):
        read_configurations([f"a={tiny_dataset}", f"b={other}"])


def test_an_unnamed_dataset_lies_where_it_was_built(tiny_dataset, tmp_path):
    stage_dataset(read_configurations([str(tiny_dataset)]), tmp_path, "me/tiny", templates=TEMPLATES)
    built, staged = tree(tiny_dataset), tree(tmp_path)
    assert {p: d for p, d in staged.items() if p.startswith("data/")} == {
        p: d for p, d in built.items() if p.startswith("data/")}
    assert json.loads(staged["provenance.json"]) == json.loads(built["provenance.json"]) | {"configuration": "default"}
    loaded = datasets.load_dataset(str(tmp_path), "default")
    assert dataset_digest(loaded) == load_provenance(tiny_dataset)["data_sha256"]
    assert loaded["train"].features == FEATURES
    preview = datasets.load_dataset(str(tmp_path), "preview")["train"]
    assert preview["image_id"] == [f"train-{i}" for i in range(6)]
    assert preview[0]["annotation"].mode == "RGB"
    assert preview[0]["annotation"].size == loaded["train"][0]["image"].size


class TestGlas:
    """Images that may not be passed on."""

    @pytest.fixture(scope="class")
    def archive(self, tmp_path_factory) -> Path:
        return write_glas_archive(tmp_path_factory.mktemp("archive") / "glas.zip")

    @pytest.fixture(scope="class", params=["glands", "full"])
    def built(self, request, archive, tmp_path_factory) -> Path:
        return write_glas_dataset(archive, tmp_path_factory.mktemp("built") / request.param, request.param)

    @pytest.fixture(scope="class")
    def masks(self, built, tmp_path_factory) -> Path:
        folder = tmp_path_factory.mktemp("masks")
        stage_dataset(read_configurations([f"some={built}"]), folder, "me/glas", templates=TEMPLATES, masks_only=True)
        return folder

    def test_images_are_not_published_by_accident(self, built, tmp_path):
        with pytest.raises(HubError) as error:
            stage_dataset(read_configurations([str(built)]), tmp_path, "me/glas", templates=TEMPLATES)
        assert "--i-have-the-right" in str(error.value)
        assert "--masks-only" in str(error.value)
        assert list(tmp_path.iterdir()) == []

    def test_who_has_the_right_may(self, built, tmp_path):
        card = stage_dataset(read_configurations([str(built)]), tmp_path, "me/glas", templates=TEMPLATES,
                             have_the_right=True)
        assert "license: other" in card
        assert "research only" in (tmp_path / "LICENSE.md").read_text()
        assert (tmp_path / "data" / "train-00000-of-00001.parquet").is_file()
        # Even then the card's picture is drawn on synthetic images.
        assert "Drawn on **synthetic** images" in card

    def test_nothing_of_an_image_is_in_the_masks(self, masks, built):
        rows = datasets.load_dataset(str(masks), "some")["train"]
        assert set(FEATURES) - set(rows.column_names) == {"image", "mask", "instances"}
        full = load_provenance(built)["sparsify"]["style"] == "full"
        assert all((mask is None) is full for mask in rows["sparse_mask"])
        # The preview shows sparse masks, on white, and no dense ones.
        assert (masks / "preview").exists() is not full
        if not full:
            preview = datasets.load_dataset(str(masks), "preview")["train"]
            assert preview["image_id"] == rows["image_id"]
            for shown, mask in zip(preview["annotation"], rows["sparse_mask"], strict=True):
                assert ((np.asarray(shown) == 255).all(axis=2) == (np.asarray(mask) == 255)).all()

    def test_joined_with_the_archive_it_is_the_original(self, masks, built, archive, tmp_path):
        seen = []
        join_archive(datasets.load_dataset(str(masks), "some"), load_provenance(masks), archive, tmp_path / "joined",
                     verify=False, progress=seen.append)
        assert sorted(seen) == ["testA_1", "testA_2", "train_1", "train_2", "train_3", "train_4"]
        assert load_provenance(tmp_path / "joined") == load_provenance(built)
        assert dataset_digest(load_local(tmp_path / "joined")) == dataset_digest(load_local(built))
        with pytest.raises(DatasetError, match="exists already"):
            join_archive({}, load_provenance(masks), archive, tmp_path / "joined")

    @pytest.mark.parametrize(("file", "said"), [
        ("train_2.bmp", "train_2 is not the image that was annotated"), ("train_2_anno.bmp", "gives other data"),
        ("testA_2", r"testA_2\.bmp is missing")])
    def test_another_archive_is_refused(self, masks, archive, tmp_path, file, said):
        """One pixel differs, in an image or in its truth; or an image is not there."""
        other = tmp_path / "other"
        shutil.unpack_archive(archive, other)
        for path in (other / "GlaS").glob(f"{file}*"):
            if file == "testA_2":
                path.unlink()
            else:
                path.write_bytes(path.read_bytes()[:-1] + b"\x01")
        with pytest.raises(DatasetError, match=said):
            join_archive(datasets.load_dataset(str(masks), "some"), load_provenance(masks), other, tmp_path / "joined",
                         verify=False)
        assert [p.name for p in tmp_path.iterdir()] == ["other"]

    def test_the_official_checksums_are_asked_for(self, masks, archive, tmp_path):
        with pytest.raises(DatasetError, match="differs from the official release"):
            join_archive(datasets.load_dataset(str(masks), "some"), load_provenance(masks), archive, tmp_path / "joined")

    def test_restained_images_are_joined_restained_and_said_to_be(self, archive, tmp_path):
        words = ["glas", "--archive", str(archive), "--no-verify", "--stain-shift", "1.5", "--out", str(tmp_path / "built")]
        assert run_command("build_dataset", words) == 0
        (tmp_path / "masks").mkdir()
        card = stage_dataset(read_configurations([f"some={tmp_path / 'built'}"]), tmp_path / "masks", "me/glas",
                             templates=TEMPLATES, masks_only=True)
        said = "The images are restained, as another laboratory might stain them (strength 1.5)."
        assert said in card
        assert said in (tmp_path / "built" / "README.md").read_text()
        join_archive(datasets.load_dataset(str(tmp_path / "masks"), "some"), load_provenance(tmp_path / "masks"), archive,
                     tmp_path / "joined", verify=False)
        assert dataset_digest(load_local(tmp_path / "joined")) == dataset_digest(load_local(tmp_path / "built"))

    def test_other_sources_cannot_be_joined(self, tiny_dataset, archive, tmp_path):
        with pytest.raises(HubError, match="only GlaS can"):
            stage_dataset(read_configurations([str(tiny_dataset)]), tmp_path, "me/tiny", templates=TEMPLATES,
                          masks_only=True)
        with pytest.raises(DatasetError, match="nothing to join"):
            join_archive({}, load_provenance(tiny_dataset), archive, tmp_path / "joined")

