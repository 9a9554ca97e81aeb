from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_gland.config.sections import Augment
from hf_gland.data import transforms
from hf_gland.data.build import load_local
from hf_gland.data.loading import (
    CropDataset,
    ShardedDraws,
    crop_bytes,
    crop_loader,
    draw_keys,
    epoch_order,
    free_shared_memory,
    loading_processes,
)
from hf_gland.data.store import build_store
from hf_gland.flat_arrays import FlatArrays

SIZES = st.integers(1, 40)
SEEDS = st.integers(0, 10**6)


@pytest.fixture(scope="module")
def store(tiny_dataset, tmp_path_factory):
    return build_store(load_local(tiny_dataset)["train"], tmp_path_factory.mktemp("store"), 2, None, None)


@pytest.fixture(scope="module")
def bank(store, tmp_path_factory):
    """A bank in which each pixel of class 1 holds the red of the image there, and class 0 the rest to 255."""
    path = tmp_path_factory.mktemp("bank") / "bank.u8"
    red = [store.images[i][:1] for i in range(len(store))]
    path.write_bytes(b"".join(np.concatenate([255 - r, r]).tobytes() for r in red))
    return FlatArrays(path, 2, store.sizes)


def crops(store, bank=None, weak=False, seed=3, labelled_only=False, **changes):
    options = {"crop_px": 32, "scale_min": 0.75, "scale_max": 1.33, "stain_jitter": 0.15, "brightness_jitter": 0.15,
               "blur_px": 1.0, "cutmix": 0.0}
    return CropDataset(store, Augment(**options | changes), seed, bank=bank, weak=weak, labelled_only=labelled_only)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(torch.as_tensor(first[k]), torch.as_tensor(second[k]))
                                                 for k in first)


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, epoch=st.integers(0, 100), size=SIZES)
def test_an_epoch_visits_every_image_once(seed, epoch, size):
    assert sorted(epoch_order(seed, epoch, size)) == list(range(size))


def test_the_order_changes_with_the_seed_and_the_epoch():
    orders = {tuple(epoch_order(seed, epoch, 30)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, size=SIZES, first=st.integers(0, 100), count=st.integers(1, 30), cut=st.integers(0, 30))
def test_the_stream_of_draws_can_be_taken_in_any_pieces(seed, size, first, count, cut):
    whole = draw_keys(seed, size, first, count)
    cut = min(cut, count)
    assert whole == draw_keys(seed, size, first, cut) + draw_keys(seed, size, first + cut, count - cut)
    assert whole == [(d // size, epoch_order(seed, d // size, size)[d % size]) for d in range(first, first + count)]


@settings(deadline=None, max_examples=50)
@given(seed=SEEDS, size=SIZES, world=st.integers(1, 4), accumulation=st.integers(1, 3), share=st.integers(1, 3),
       steps=st.integers(1, 5))
def test_processes_and_accumulation_share_out_the_same_draws_in_the_same_step(seed, size, world, accumulation, share, steps):
    batch = world * accumulation * share
    alone = list(ShardedDraws(seed, size, batch, steps))
    assert [key for step in alone for key in step] == draw_keys(seed, size, 0, batch * steps)
    shared = [list(ShardedDraws(seed, size, batch, steps, rank=r, world=world, accumulation=accumulation))
              for r in range(world)]
    for rank in shared:
        assert [len(micro) for micro in rank] == [share] * (steps * accumulation)
    for step in range(steps):
        micros = range(step * accumulation, (step + 1) * accumulation)
        assert [key for m in micros for r in range(world) for key in shared[r][m]] == alone[step]


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS, size=SIZES, resumed=st.integers(0, 6), accumulation=st.integers(1, 2), rank=st.integers(0, 1))
def test_a_resumed_run_continues_where_it_was(seed, size, resumed, accumulation, rank):
    options = {"rank": rank, "world": 2, "accumulation": accumulation}
    whole = list(ShardedDraws(seed, size, 4, 6, **options))
    rest = ShardedDraws(seed, size, 4, 6, first_step=resumed, **options)
    assert list(rest) == whole[resumed * accumulation:]
    assert len(rest) == len(list(rest))


def test_a_batch_that_cannot_be_shared_out_is_refused_with_the_numbers():
    with pytest.raises(ValueError, match=r"batch_size 6 must be a multiple of .*\(2 × 2\)"):
        ShardedDraws(0, 10, 6, 1, world=2, accumulation=2)


def test_a_crop_depends_on_its_key_and_the_seed_alone(store):
    dataset = crops(store)
    wanted = dataset[(4, 2)]
    for key in ((0, 0), (9, 5), (4, 3)):
        dataset[key]
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - global state must not matter
    assert same(dataset[(4, 2)], wanted)
    assert same(crops(store)[(4, 2)], wanted)
    for other in (dataset[(5, 2)], dataset[(4, 3)], crops(store, seed=4)[(4, 2)]):
        assert not torch.equal(other["strong"], wanted["strong"])


def test_what_a_crop_holds(store, bank):
    item = crops(store, bank=bank, weak=True)[(0, 1)]
    assert {k: (v.dtype, tuple(v.shape)) for k, v in item.items() if k not in ("index", "annotated")} == {
        "strong": (torch.uint8, (3, 32, 32)), "weak": (torch.uint8, (3, 32, 32)), "sparse": (torch.uint8, (32, 32)),
        "truth": (torch.uint8, (32, 32)), "bank": (torch.uint8, (2, 32, 32))}
    assert item["index"] == 1
    assert set(crops(store)[(0, 1)]) == {"index", "annotated", "strong", "sparse", "truth"}


def test_the_border_of_glands_comes_with_crops_of_runs_that_learn_it_alone(tiny_dataset, store, tmp_path):
    rows = load_local(tiny_dataset)["train"]
    learned = build_store(rows, tmp_path, 2, None, None, border_px=5.0)
    items = [crops(learned, cutmix=1.0)[(0, index)] for index in range(3)]
    assert {(item["border"].dtype, tuple(item["border"].shape)) for item in items} == {(torch.uint8, (32, 32))}
    assert set(torch.stack([item["border"] for item in items]).unique().tolist()) == {0, 1, 255}
    for index, item in enumerate(items):
        alone = crops(store, cutmix=1.0)[(0, index)]
        assert same({key: value for key, value in item.items() if key != "border"}, alone)
        assert (item["border"][item["sparse"] == 255] == 255).all()  # where CutMix and blank pixels take labels away, too
    assert build_store(rows, tmp_path, 2, None, None).border(0) is None  # in the folder of a run that learned it


def test_image_truth_and_bank_go_through_one_geometry(store, bank):
    for index in range(len(store)):
        item = crops(store, bank=bank, weak=True, scale_min=1.0, scale_max=1.0)[(7, index)]
        assert torch.equal(item["bank"][1], item["weak"][0])
        assert torch.equal(item["bank"][0], 255 - item["weak"][0])
        # The image's colour is a function of its class, so the truth must sit on the colour it was drawn from.
        assert ((item["weak"][0] < 165) == (item["truth"] == 1)).float().mean() > 0.99
        labelled = item["sparse"] != 255
        assert torch.equal(item["sparse"][labelled], item["truth"][labelled])


def test_strong_and_weak_differ_in_colour_only(store):
    item = crops(store, weak=True)[(1, 2)]
    assert not torch.equal(item["strong"], item["weak"])
    plain = crops(store, weak=True, stain_jitter=0, brightness_jitter=0, blur_px=0)[(1, 2)]
    assert torch.equal(plain["strong"], plain["weak"])
    assert torch.equal(plain["weak"], item["weak"])
    assert torch.equal(plain["sparse"], item["sparse"])


def test_beyond_the_image_nothing_is_labelled_and_the_teacher_is_silent(store, bank):
    item = crops(store, crop_px=128, scale_min=1.0, scale_max=1.0, bank=bank, weak=True)[(0, 0)]
    height, width = store.sizes[0]
    beyond = item["truth"] == 255
    assert int((~beyond).sum()) == height * width
    assert (item["sparse"][beyond] == 255).all()
    assert (item["bank"][:, beyond] == 0).all()
    assert (item["bank"].int().sum(0)[~beyond] == 255).all()
    assert (item["weak"][:, beyond] > 0).any()


def test_any_number_of_workers_gives_the_same_batches(store, bank):
    dataset = crops(store, bank=bank)
    batches = [list(crop_loader(dataset, ShardedDraws(1, len(store), 4, 5), workers, False)) for workers in (0, 2)]
    assert len(batches[0]) == len(batches[1]) == 5
    assert all(same(a, b) for a, b in zip(*batches, strict=True))
    assert not any(same(a, b) for a, b in pairwise(batches[0]))
    assert batches[0][0]["strong"].shape == (4, 3, 32, 32)


def test_starting_a_loader_does_not_disturb_the_random_state(store):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    next(iter(crop_loader(crops(store), ShardedDraws(1, len(store), 2, 3), 0, False)))
    assert torch.equal(torch.get_rng_state(), before)


def test_images_without_labels_come_up_as_often_as_annotated_ones(tiny_dataset, tmp_path):
    splits = load_local(tiny_dataset)
    both = build_store(splits["train"], tmp_path, 2, None, None, unlabelled=splits["validation"])
    assert both.annotated == [True] * 6 + [False] * 2
    items = [crops(both)[0, position] for position in range(len(crops(both)))]
    assert sorted(item["index"] for item in items) == [0, 1, 2, 3, 4, 5, 6, 6, 6, 7, 7, 7]
    for item in items:
        assert item["annotated"] == (item["index"] < 6)
        assert item["annotated"] or (item["sparse"] == 255).all()
    same_image = [item["strong"] for item in items if item["index"] == 7]
    assert not torch.equal(same_image[0], same_image[1])


def test_half_of_the_crops_are_labelled_where_few_images_are_and_all_before_there_is_a_teacher(tiny_dataset, tmp_path):
    rows = [dict(row) for row in load_local(tiny_dataset)["train"]]
    for row in rows[:3] + rows[4:]:
        row["sparse_mask"] = Image.new("L", row["image"].size, 255)
    few = build_store(rows, tmp_path / "few", 2, None, None)
    assert few.annotated == [True] * 6
    assert few.labelled == [False, False, False, True, False, False]
    assert sorted(crops(few).images) == [0, 1, 2, 3, 3, 3, 3, 3, 4, 5]
    assert crops(few, labelled_only=True).images == [3]
    mixed = crops(few, cutmix=1.0)
    for position, index in enumerate(mixed.images):  # a pasted rectangle takes no labels away
        assert (mixed[0, position]["sparse"] != 255).any() == (index == 3)
    most = build_store(rows[:1] + [{**row, "image_id": f"more-{i}", "sparse_mask": row["mask"]} for i, row in
                                   enumerate(rows)], tmp_path / "most", 2, None, None)
    assert crops(most).images == [0, 1, 2, 3, 4, 5, 6]  # a few without labels come up once


class TestCutMix:
    def test_a_rectangle_of_another_image_comes_with_its_labels_and_pseudo_masks(self, store, bank):
        plain = dict(stain_jitter=0.0, brightness_jitter=0.0, blur_px=0.0, bank=bank)
        before, after = crops(store, **plain), crops(store, **plain, cutmix=1.0)
        for key in [(0, 0), (0, 3), (5, 1)]:
            old, new = before[key], after[key]
            changed = (old["strong"] != new["strong"]).any(0)
            rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
            height, width = (int(side[-1] - side[0]) + 1 for side in (rows, columns))
            assert 0.05 <= height * width / 32**2 <= 0.55
            outside = torch.ones(32, 32, dtype=torch.bool)
            outside[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1] = False
            for name in ("sparse", "truth", "bank"):
                assert torch.equal(old[name][..., outside], new[name][..., outside])
            inside = ~outside & (new["bank"].sum(0) == 255)
            assert torch.equal(new["bank"][1][inside], new["strong"][0][inside])  # the bank holds the image's red

    def test_blank_pixels_lose_their_labels_in_mixed_crops_alone(self, store, bank, monkeypatch):
        plain = dict(stain_jitter=0.0, brightness_jitter=0.0, blur_px=0.0, bank=bank)
        monkeypatch.setattr(transforms, "BLANK_LEVEL", 150)  # the tiny images' stroma
        before, after = crops(store, **plain), crops(store, **plain, cutmix=1.0)
        blank_px = 0
        for key in [(0, 0), (0, 3), (5, 1)]:
            blank = transforms.is_blank(after[key]["strong"])
            assert (after[key]["sparse"][blank] == 255).all()
            assert not after[key]["bank"][:, blank].any()
            outside = (before[key]["strong"] == after[key]["strong"]).all(0) & ~blank
            for name in ("sparse", "bank"):
                assert torch.equal(before[key][name][..., outside], after[key][name][..., outside])
            blank_px += int(blank.sum())
        assert 0 < blank_px < 3 * 32**2

    def test_the_share_is_kept_and_nothing_else_of_the_stream_changes(self, store, bank):
        before, after = crops(store, bank=bank), crops(store, bank=bank, cutmix=0.5)
        keys = [(epoch, index) for epoch in range(10) for index in range(len(store))]
        untouched = sum(same(before[key], after[key]) for key in keys)
        assert 0.3 < untouched / len(keys) < 0.7
        assert all(same(after[key], crops(store, bank=bank, cutmix=0.5)[key]) for key in keys[:5])

    def test_images_without_labels_are_mixed_among_themselves(self, tiny_dataset, tmp_path):
        splits = load_local(tiny_dataset)
        both = build_store(splits["train"], tmp_path, 2, None, None, unlabelled=splits["validation"])
        mixed = crops(both, cutmix=1.0)
        for position in range(len(mixed)):
            item = mixed[0, position]
            assert item["annotated"] or (item["sparse"] == 255).all()


@pytest.mark.parametrize(("asked", "on_gpu", "cores", "room", "processes"), [
    (-1, False, 16, None, 0), (0, True, 16, None, 0), (3, False, 1, 0, 3),  # on a CPU, or as asked
    (-1, True, 1, None, 0), (-1, True, 4, None, 3), (-1, True, 64, None, 8), (-1, True, 16, 2400, 8), (-1, True, 4, 900, 3)])
def test_a_gpu_gets_processes_that_make_crops_one_per_core_but_one(asked, on_gpu, cores, room, processes):
    assert loading_processes(asked, on_gpu, cores, 100, room) == (processes, "")


@pytest.mark.parametrize(("room", "processes"), [(2399, 7), (300, 1), (299, 0)])  # three batches of 100 bytes each
def test_where_shared_memory_is_short_fewer_processes_make_crops_and_it_is_said(room, processes):
    found, said = loading_processes(-1, True, 16, 100, room)
    assert found == processes
    assert said.startswith(f"{processes} of 8 processes make crops")
    assert "--shm-size" in said


def test_a_crop_takes_at_most_what_is_counted_on(tiny_dataset, bank, tmp_path):
    with_border = build_store(load_local(tiny_dataset)["train"], tmp_path / "store", 2, None, None, border_px=2)
    for weak, share in ((True, 1), (False, 8 / 11)):
        item = crops(with_border, bank=bank, weak=weak)[0, 0]
        taken = sum(v.nbytes for v in item.values() if isinstance(v, torch.Tensor))
        assert taken == crop_bytes(32, 2) * share


def test_shared_memory_is_what_the_system_says_or_has_no_limit(monkeypatch, tmp_path):
    monkeypatch.setattr("hf_gland.data.loading.SHARED_MEMORY", str(tmp_path))
    assert free_shared_memory() > 0
    monkeypatch.setattr("hf_gland.data.loading.SHARED_MEMORY", str(tmp_path / "absent"))
    assert free_shared_memory() is None
