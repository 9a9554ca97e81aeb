import json
from contextlib import nullcontext

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import no_truth, one_gland_and_a_strip, picture, write_dataset

from hf_gland.data.build import load_local
from hf_gland.data.store import TrainingStore, build_store, check_labels
from hf_gland.errors import DatasetError, PixelSizeError
from hf_gland.flat_arrays import FlatArrays
from hf_gland.labels import MaskError


def row(image_id="a", size=(20, 30), mpp=0.5, **changes):
    rng = np.random.default_rng(0)
    height, width = size
    masks = {k: Image.fromarray(rng.choice(np.array([0, 1, 255], np.uint8), size)) for k in ("mask", "sparse_mask")}
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return {"image": image, "image_id": image_id, "mpp": mpp, **masks, **changes}


def build(rows, folder, **options):
    return build_store(rows, folder, 2, options.pop("mpp", None), options.pop("missing_mpp", None),
                       **options)


def test_a_dataset_on_disk_comes_back_pixel_by_pixel(tiny_dataset, tmp_path):
    store = build(load_local(tiny_dataset)["train"], tmp_path)
    assert len(store) == 6
    assert store.image_ids == [f"train-{i}" for i in range(6)]
    for i in range(6):
        image, mask, instances = picture(i, 2)
        assert np.array_equal(store.images[i], image.transpose(2, 0, 1))
        assert np.array_equal(store.truth(i), mask)
        assert np.array_equal(store.sparse(i), one_gland_and_a_strip(mask, instances))
    assert store.sizes == [picture(i, 2)[1].shape for i in range(6)]
    assert len(set(store.sizes)) > 1
    assert store.truth_known == [True] * 6


def test_images_without_truth_are_kept_and_marked(tmp_path):
    dataset = write_dataset(tmp_path / "data", dense=no_truth, splits=("train",))
    store = build(load_local(dataset)["train"], tmp_path / "store")
    assert store.truth_known == [False] * 6
    assert (store.truth(0) == 255).all()
    assert (store.sparse(0) != 255).any()
    with pytest.raises(ValueError, match=r"train-0.*no dense mask"):
        build(load_local(dataset)["train"], tmp_path / "other", truth_as_labels=True)


def test_full_supervision_puts_the_dense_mask_in_the_place_of_the_sparse_one(tiny_dataset, tmp_path):
    store = build(load_local(tiny_dataset)["train"], tmp_path, truth_as_labels=True)
    assert all(np.array_equal(store.sparse(i), store.truth(i)) for i in range(6))
    assert (store.sparse(0) != 255).all()


def test_resampling_to_the_training_pixel_size(tmp_path):
    store = build([row(size=(40, 60), mpp=0.5), row("b", size=(21, 31), mpp=2.0)], tmp_path, mpp=1.0)
    assert store.sizes == [(20, 30), (42, 62)]
    assert set(np.unique(store.sparse(0))) <= {0, 1, 255}
    uniform = row(size=(40, 60), image=Image.new("RGB", (60, 40), (10, 120, 250)))
    same = build([uniform], tmp_path / "colour", mpp=0.8)
    assert np.array_equal(same.images[0][:, 3, 3], [10, 120, 250])


def test_masks_keep_their_place_when_resampled(tmp_path):
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 1
    store = build([row(size=(40, 60), mask=Image.fromarray(mask), sparse_mask=Image.fromarray(mask))], tmp_path, mpp=1.0)
    expected = np.zeros((20, 30), np.uint8)
    expected[5:15, 10:25] = 1
    assert np.array_equal(store.sparse(0), expected)
    assert np.array_equal(store.truth(0), expected)


def test_an_image_of_unknown_pixel_size_is_an_error_unless_one_is_assumed(tmp_path):
    with pytest.raises(ValueError, match=r"a: the pixel size is unknown.*missing_mpp"):
        build([row(mpp=None)], tmp_path, mpp=1.0)
    assert build([row(mpp=None)], tmp_path, mpp=1.0, missing_mpp=0.5).sizes == [(10, 15)]
    assert build([row(mpp=2.0)], tmp_path, mpp=1.0, missing_mpp=0.5).sizes == [(40, 60)]
    assert build([row(mpp=None)], tmp_path).sizes == [(20, 30)]


@pytest.mark.parametrize("mpp", [1e-9, 0.0, -1.0, float("nan"), 1000.0])
def test_an_implausible_pixel_size_is_refused_by_name(tmp_path, mpp):
    with pytest.raises(PixelSizeError, match="x19"):
        build([row(), row("x19", mpp=mpp)], tmp_path, mpp=1.0)


@pytest.mark.parametrize(("stroma", "gland", "options", "message"), [
    (7, 0, {}, "mine: no training image has a labelled gland pixel; outline"),
    (7, 0, {"truth_as_labels": True}, "mine: no training image has a labelled gland pixel; check the masks"),
    (0, 9, {}, "mine: no pixel is labelled as background.*--warmup_background assume"),
    (0, 9, {"truth_as_labels": True}, "mine: no pixel is labelled as background.*call every pixel a gland"),
    (0, 9, {"assume_background": True}, None), (1, 1, {}, None), (1, 1, {"truth_as_labels": True}, None)])
def test_labels_without_a_gland_or_without_stroma_teach_nothing(tmp_path, stroma, gland, options, message):
    labels = np.full((20, 30), 255, np.uint8)
    labels.flat[:stroma], labels.flat[100:100 + gland] = 0, 1
    store = build([row(sparse_mask=Image.fromarray(labels)), row("b", sparse_mask=Image.new("L", (30, 20), 255))], tmp_path)
    counts = store.label_counts()
    assert (counts[0], counts[1], counts[255], counts.sum()) == (stroma, gland, 1200 - stroma - gland, 1200)
    with nullcontext() if message is None else pytest.raises(DatasetError, match=message):
        check_labels(counts, "mine", **{"truth_as_labels": False, "assume_background": False} | options)


@pytest.mark.parametrize("column", ["mask", "sparse_mask"])
def test_bad_masks_are_refused_by_name(tmp_path, column):
    bad = Image.fromarray(np.full((20, 30), 7, np.uint8))
    with pytest.raises(MaskError, match=r"x17: mask values 7"):
        build([row(), row("x17", **{column: bad})], tmp_path)
    small = Image.fromarray(np.zeros((20, 29), np.uint8))
    with pytest.raises(MaskError, match=r"x18: the mask is 20×29 px but its image is 20×30 px"):
        build([row("x18", **{column: small})], tmp_path)


def test_rows_without_labels_and_splits_without_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a: has no sparse mask"):
        build([row(sparse_mask=None)], tmp_path)
    with pytest.raises(ValueError, match="empty"):
        build([], tmp_path)


def test_a_store_that_was_not_finished_is_not_there(tmp_path):
    build([row()], tmp_path)
    with pytest.raises(MaskError):
        build([row(), row("b", mask=Image.fromarray(np.full((20, 30), 9, np.uint8)))], tmp_path)
    assert not (tmp_path / "index.json").exists()
    with pytest.raises(FileNotFoundError):
        TrainingStore(tmp_path)


def test_a_full_disk_is_an_error_that_names_the_folder(tmp_path, file_size_limit):
    file_size_limit(1000)
    with pytest.raises(OSError, match=r"store"):
        build([row(size=(64, 64))], tmp_path / "store")
    assert not (tmp_path / "store" / "index.json").exists()


def test_grey_and_palette_images_are_read_as_colour(tmp_path):
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8))
    store = build([row(image=grey), row("b", image=grey.convert("P")), row("c", image=grey.convert("RGBA"))], tmp_path)
    assert all(np.array_equal(store.images[i][c], np.asarray(grey)) for i in range(3) for c in range(3))


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=6), planes=st.integers(1, 4))
def test_flat_arrays_lie_one_after_the_other_without_overlap(tmp_path_factory, sizes, planes):
    path = tmp_path_factory.mktemp("flat") / "arrays.u8"
    path.write_bytes(bytes(sum(planes * h * w for h, w in sizes)))
    arrays = FlatArrays(path, planes, sizes, "r+")
    for i, size in enumerate(sizes):
        assert arrays[i].shape == (planes, *size)
        arrays[i][:] = i + 1
    assert len(arrays) == len(sizes)
    again = FlatArrays(path, planes, sizes)
    assert all((again[i] == i + 1).all() for i in range(len(sizes)))
    assert path.read_bytes() == b"".join(bytes([i + 1]) * planes * h * w for i, (h, w) in enumerate(sizes))


def test_an_array_that_is_read_only_cannot_be_written(tmp_path):
    (tmp_path / "a.u8").write_bytes(bytes(4))
    with pytest.raises(ValueError, match="read-only"):
        FlatArrays(tmp_path / "a.u8", 1, [(2, 2)])[0][:] = 1


def test_the_store_reads_back_what_its_index_says(tmp_path):
    build([row("ä/1"), row("b", size=(8, 9))], tmp_path)
    assert TrainingStore(tmp_path).image_ids == ["ä/1", "b"]
    assert json.loads((tmp_path / "index.json").read_text())["sizes"] == [[20, 30], [8, 9]]


def test_progress_bars_of_datasets_do_not_matter(tiny_dataset, tmp_path):
    """A streamed split is decoded like one that is loaded."""
    rows = load_local(tiny_dataset)["train"]
    streamed = build(rows.to_iterable_dataset(), tmp_path / "streamed")
    loaded = build(rows, tmp_path / "loaded")
    assert isinstance(rows, datasets.Dataset)
    assert np.array_equal(streamed.images.flat, loaded.images.flat)


def test_rows_taken_in_without_labels_keep_their_truth_for_the_record_alone(tmp_path):
    labelled, other, bare = row("a"), row("b", (24, 18)), row("c", mask=None, sparse_mask=None)
    store = build([labelled], tmp_path, unlabelled=[other, bare], truth_as_labels=True)
    assert store.image_ids == ["a", "b", "c"]
    assert store.annotated == store.labelled == [True, False, False]
    assert (store.sparse(1) == 255).all()
    assert (store.sparse(2) == 255).all()
    assert np.array_equal(store.truth(1), np.asarray(other["mask"]))
    assert np.array_equal(store.sparse(0), np.asarray(labelled["mask"]))
    assert store.truth_known == [True, True, False]
