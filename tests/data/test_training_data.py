import io
import json
import shutil

import datasets
import pyarrow as pa
import pytest
from PIL import Image
from tiny import no_truth, write_dataset

from hf_gland.config import make_config
from hf_gland.data import training_data
from hf_gland.data.build import load_local
from hf_gland.data.schema import FEATURES
from hf_gland.data.store import build_store
from hf_gland.data.training_data import held_out_splits, open_dataset, open_training_data, pick_split
from hf_gland.errors import DatasetError, HfGlandError, PixelSizeError


def test_a_folder_gives_its_splits_and_classes(tiny_dataset_3):
    data = open_training_data(make_config({"dataset": str(tiny_dataset_3)}))
    assert data.class_names == ("background", "gland", "other gland")
    assert (len(data.train), len(data.validation)) == (6, 2)
    assert data.train[0]["image_id"] == "train-0"
    splits, provenance = open_dataset(str(tiny_dataset_3))
    assert sorted(splits) == ["train", "validation"]
    assert provenance["source"] == "tiny"


@pytest.mark.parametrize(("splits", "blind", "expected"), [
    (("train", "validation", "testB", "testA"), (), ["testB", "testA"]), (("train", "validation"), (), ["validation"]),
    (("train", "val"), (), []), (("train", "validation", "test"), ("test",), ["validation"]),
    (("train", "validation", "testA", "testB"), ("testA",), ["testB"]), (("train", "validation"), ("validation",), [])])
def test_a_model_is_measured_on_test_splits_with_dense_masks_or_else_on_validation(tmp_path, splits, blind, expected):
    sighted = load_local(write_dataset(tmp_path / "all", splits=splits))
    without = load_local(write_dataset(tmp_path / "none", splits=splits, dense=no_truth))
    found = datasets.DatasetDict({name: (without if name in blind else sighted)[name] for name in splits})
    assert held_out_splits(found) == expected


def test_splits_go_by_the_names_in_the_settings(tiny_dataset):
    data = open_training_data(make_config({"dataset": str(tiny_dataset), "train_split": "validation",
                                           "validation_split": ""}))
    assert len(data.train) == 2
    assert data.validation is None


@pytest.mark.parametrize("setting", ["train_split", "validation_split"])
def test_a_missing_split_is_an_error_that_names_those_there_are(tiny_dataset, setting):
    with pytest.raises(DatasetError, match=r"two_classes: has no split 'tset'; it has train, validation"):
        open_training_data(make_config({"dataset": str(tiny_dataset), setting: "tset"}))


def test_a_dataset_without_a_validation_split_is_trained_on_and_the_user_told(tmp_path):
    folder = write_dataset(tmp_path / "data", splits=("train",))
    data = open_training_data(make_config({"dataset": str(folder)}))
    assert (len(data.train), data.validation) == (6, None)
    assert len(data.notes) == 1
    assert "has no split 'validation'" in data.notes[0]
    with pytest.raises(DatasetError, match="has no split 'held_out'; it has train"):
        open_training_data(make_config({"dataset": str(folder), "validation_split": "held_out"}))
    assert open_training_data(make_config({"dataset": str(folder), "validation_split": ""})).notes == ()


def test_images_of_unknown_pixel_size_are_trained_on_as_they_are(tmp_path, tiny_dataset):
    unknown = write_dataset(tmp_path / "unknown", mpp=None)
    data = open_training_data(make_config({"dataset": str(unknown), "mpp": 1.25}))
    assert data.mpp is None
    assert len(data.notes) == 1
    assert "own pixels instead of at 1.25 µm" in data.notes[0]
    told = open_training_data(make_config({"dataset": str(unknown), "mpp": 1.25, "missing_mpp": 0.25}))
    assert (told.mpp, told.notes) == (1.25, ())
    assert open_training_data(make_config({"dataset": str(unknown)})).notes == ()
    known = open_training_data(make_config({"dataset": str(tiny_dataset), "mpp": 1.25}))
    assert (known.mpp, known.notes) == (1.25, ())
    with pytest.raises(DatasetError, match=r"train-0: the pixel size is unknown \(and of 7 more\).*missing_mpp"):
        open_training_data(make_config({"dataset": str(unknown), "mpp": 1.25, "adapt_dataset": str(tiny_dataset)}))


def test_images_to_adapt_to_whose_masks_number_the_classes_otherwise_are_refused(tmp_path):
    three = write_dataset(tmp_path / "three", num_classes=3)
    swapped = write_dataset(tmp_path / "swapped", num_classes=3)
    unmasked = write_dataset(tmp_path / "unmasked", num_classes=2, dense=no_truth)
    about = json.loads((swapped / "provenance.json").read_text())
    (swapped / "provenance.json").write_text(json.dumps(about | {"class_names": ["background", "other gland", "gland"]}))
    with pytest.raises(DatasetError, match=r"background, other gland, gland.*background, gland, other gland"):
        open_training_data(make_config({"dataset": str(three), "adapt_dataset": str(swapped)}))
    assert open_training_data(make_config({"dataset": str(three), "adapt_dataset": str(unmasked)})).target is not None


def test_pixel_sizes_that_differ_are_told_where_no_training_size_is_given(tmp_path):
    sizes = {"fine": 0.25, "alike": 0.26, "coarse": 2.0, "silent": None}
    folders = {name: str(write_dataset(tmp_path / name, mpp=mpp, splits=("train",))) for name, mpp in sizes.items()}

    def told(other, **more):
        config = make_config({"dataset": folders["fine"], "adapt_dataset": folders[other], "validation_split": "", **more})
        return "; ".join(open_training_data(config).notes)

    assert told("coarse").startswith("images state 0.25 to 2 µm per pixel, and all are used as they are (mpp 0)")
    assert told("silent").startswith("images state 0.25 µm per pixel, 6 of them state none, and all are used")
    assert (told("alike"), told("coarse", mpp=0.5), told("silent", mpp=0.5, missing_mpp=0.5)) == ("", "", "")


@pytest.mark.parametrize("settings", [{"mpp": 1e-9}, {"mpp": 1.0, "missing_mpp": 1000.0}])
def test_an_implausible_training_pixel_size_is_refused(tiny_dataset, settings):
    with pytest.raises(PixelSizeError, match=list(settings)[-1]):
        open_training_data(make_config({"dataset": str(tiny_dataset), **settings}))


def rows_of(**columns):
    """Two rows in the columns of the schema, with these changes."""
    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    cell = {"bytes": png.getvalue(), "path": "somewhere.png"}
    usual = {name: ["a", "b"] if name == "image_id" else [None, None] for name in FEATURES}
    usual |= {"image": [cell, cell], "sparse_mask": [cell, cell]} | columns
    return datasets.DatasetDict(train=datasets.Dataset(pa.table(usual, schema=FEATURES.arrow_schema)))


@pytest.mark.parametrize(("column", "values", "message"), [
    ("image", [0, {"bytes": None, "path": "http://127.0.0.1:9/x.png"}], r"b: image names a file \(http://127"),
    ("mask", [{"bytes": None, "path": "/etc/hostname"}, None], r"a: mask names a file \(/etc/hostname\)"),
    ("sparse_mask", [0, {"bytes": None, "path": "zip://x.png::http://127.0.0.1:9/x.zip"}], "sparse_mask names a file"),
    ("image", [0, None], "b has no image"),
    ("image_id", ["b", "b"], "image_id 'b' comes twice"), ("image_id", ["a", ""], "a row has no image_id"),
    ("image_id", ["a", None], "a row has no image_id"), ("mpp", [None, 1e-9], "b: .*not a plausible pixel size"),
    ("mpp", [-1.0, 1.0], "a: .*not a plausible pixel size")])
def test_rows_hold_images_themselves_and_say_what_can_be(column, values, message):
    good = rows_of()["train"].data.column(column).to_pylist()
    bad = rows_of(**{column: [good[i] if value == 0 else value for i, value in enumerate(values)]})
    assert len(pick_split(rows_of(), "train", "mine")) == 2
    with pytest.raises(HfGlandError, match=f"mine: split 'train'.*{message}"):
        pick_split(bad, "train", "mine")


def test_columns_of_another_kind_are_refused_and_further_ones_not_touched():
    rows = rows_of()["train"]
    named = rows.remove_columns("mask").add_column("mask", ["/etc/hostname"] * 2)
    with pytest.raises(DatasetError, match=r"column mask holds .*string, not images"):
        pick_split(datasets.DatasetDict(train=named), "train", "mine")
    more = rows.add_column("portrait", [{"bytes": None, "path": "http://127.0.0.1:9/x"}] * 2, feature=datasets.Image())
    assert set(pick_split(datasets.DatasetDict(train=more), "train", "mine")[0]) == set(FEATURES)


def test_a_revision_is_asked_of_the_hub_for_the_rows_and_the_provenance(monkeypatch, tmp_path):
    (tmp_path / "provenance.json").write_text(json.dumps({"class_names": ["background", "gland"]}))
    asked = []

    def download(repo, path, *, repo_type, revision):
        asked.append((repo, path, revision))
        return tmp_path / "provenance.json"

    def load(repo, name, *, revision):
        asked.append((repo, name, revision))
        return rows_of()

    monkeypatch.setattr(training_data, "hf_hub_download", download)
    monkeypatch.setattr(datasets, "load_dataset", load)
    config = {"dataset": "me/glands", "dataset_config": "few", "dataset_revision": "v2"}
    assert len(open_training_data(make_config(config)).train) == 2
    assert asked == [("me/glands", "few/provenance.json", "v2"), ("me/glands", "few", "v2")]


def test_no_dataset_or_one_that_is_not_there_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(DatasetError, match="--dataset"):
        open_training_data(make_config({}))
    with pytest.raises(DatasetError, match=r"nowhere.*build_dataset"):
        open_training_data(make_config({"dataset": str(tmp_path / "nowhere")}))
    with pytest.raises(DatasetError, match="build_dataset"):
        open_training_data(make_config({"dataset": str(tmp_path)}))


def test_rows_without_the_columns_of_the_schema_or_without_rows_are_refused(tiny_dataset):
    splits, _ = open_dataset(str(tiny_dataset))
    with pytest.raises(DatasetError, match="lacks the columns mask, sparse_mask"):
        pick_split(splits.remove_columns(["sparse_mask", "mask"]), "train", "mine")
    splits["train"] = splits["train"].select([])
    with pytest.raises(DatasetError, match="mine: split 'train' is empty"):
        pick_split(splits, "train", "mine")


@pytest.mark.parametrize("setting", ["dataset_config", "dataset_revision"])
def test_what_only_hub_datasets_have_is_refused_for_a_folder(tiny_dataset, setting):
    with pytest.raises(DatasetError, match="is a folder; a configuration and a revision"):
        open_training_data(make_config({"dataset": str(tiny_dataset), setting: "main"}))


def test_a_damaged_dataset_is_an_error_that_names_it(tiny_dataset, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_dataset, folder)
    shard = next((folder / "data").glob("train-*"))
    shard.write_bytes(shard.read_bytes()[:2000])
    with pytest.raises(DatasetError, match="broken"):
        open_training_data(make_config({"dataset": str(folder)}))


def test_two_classes_are_not_taken_for_three(tmp_path):
    """The classes come from the dataset, in its order."""
    folder = write_dataset(tmp_path / "data", splits=("train",))
    record = json.loads((folder / "provenance.json").read_text())
    assert open_dataset(str(folder))[1]["class_names"] == record["class_names"] == ["background", "gland"]


def test_a_damaged_image_is_told_by_its_place(tmp_path):
    good = rows_of()["train"].data.column("image").to_pylist()
    rows = rows_of(image=[good[0], {"bytes": good[1]["bytes"][:40], "path": None}])
    with pytest.raises(DatasetError, match="the row after a: an image cannot be decoded"):
        build_store(pick_split(rows, "train", "mine"), tmp_path, 2, None, None)
