import json
import shutil

import pytest
from tiny import write_dataset

from hf_gland.config import make_config
from hf_gland.data.training_data import open_dataset, open_training_data, pick_split
from hf_gland.errors import DatasetError


def test_a_folder_gives_its_splits_and_classes(tiny_dataset_3):
    data = open_training_data(make_config({"dataset": str(tiny_dataset_3)}))
    assert data.class_names == ("background", "gland", "other gland")
    assert (len(data.train), len(data.validation)) == (6, 2)
    assert data.train[0]["image_id"] == "train-0"
    splits, provenance = open_dataset(str(tiny_dataset_3))
    assert sorted(splits) == ["train", "validation"]
    assert provenance["source"] == "tiny"


def test_splits_go_by_the_names_in_the_settings(tiny_dataset):
    data = open_training_data(make_config({"dataset": str(tiny_dataset), "train_split": "validation",
                                           "validation_split": ""}))
    assert len(data.train) == 2
    assert data.validation is None


@pytest.mark.parametrize("setting", ["train_split", "validation_split"])
def test_a_missing_split_is_an_error_that_names_those_there_are(tiny_dataset, setting):
    with pytest.raises(DatasetError, match=r"two_classes: has no split 'tset'; it has train, validation"):
        open_training_data(make_config({"dataset": str(tiny_dataset), setting: "tset"}))


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
