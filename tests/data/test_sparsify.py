import math
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hf_gland.data.sparsify import (
    BACKGROUNDS,
    STYLES,
    SparsifyConfig,
    annotation_rng,
    as_drawn,
    left_unlabelled,
    outlined_images,
    sparsify,
)
from hf_gland.instances import gland_instances
from hf_gland.labels import IGNORE_INDEX

EVERY_STYLE = [SparsifyConfig(style=style, budget=0.4, background=background, rim_px=3, stroke_px=3, point_px=3,
                              min_gland_px=4)
               for style in STYLES for background in BACKGROUNDS]


def tissue(seed: int, classes: int = 2, glands: int = 8, unlabelled: bool = False,
           shape: tuple[int, int] = (60, 80)) -> tuple[np.ndarray, np.ndarray]:
    """Random elliptic glands of random classes: mask uint8, instances uint16."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:shape[0], :shape[1]]
    mask, instances = np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)
    for number in range(1, glands + 1):
        centre, radii = rng.uniform((0, 0), shape), rng.uniform(3, 9, 2)
        inside = ((rows - centre[0]) / radii[0]) ** 2 + ((columns - centre[1]) / radii[1]) ** 2 <= 1
        inside &= instances == 0
        instances[inside] = 3 * number  # gaps in the numbering are normal in real data
        mask[inside] = rng.integers(1, classes)
    if unlabelled:
        top, left = rng.integers(0, 40, 2)
        mask[top:top + 15, left:left + 15] = IGNORE_INDEX
    return mask, instances


tissues = st.builds(tissue, st.integers(0, 10**6), st.integers(2, 5), st.integers(0, 10), st.booleans())


@settings(max_examples=40, deadline=None)
@given(tissues, st.sampled_from(EVERY_STYLE), st.integers(0, 1000), st.booleans())
def test_labels_are_the_dense_truth_and_counts_are_those_of_the_mask(
        drawn: tuple[np.ndarray, np.ndarray], config: SparsifyConfig, seed: int, with_instances: bool) -> None:
    mask, instances = drawn
    before = mask.copy()
    result = sparsify(mask, instances if with_instances else None, config, np.random.default_rng(seed))
    labelled = result.mask != IGNORE_INDEX
    np.testing.assert_array_equal(mask, before)
    assert result.mask.dtype == np.uint8
    assert result.mask.shape == mask.shape
    np.testing.assert_array_equal(result.mask[labelled], mask[labelled])
    assert result.labelled_fraction == labelled.mean()
    ids = np.where((mask > 0) & (mask < 255), instances if with_instances else gland_instances(mask), 0)
    glands = [i for i in np.unique(ids) if i and (ids == i).sum() >= config.min_gland_px]
    assert result.total_glands == len(glands)
    assert result.annotated_glands == sum(bool(labelled[ids == i].any()) for i in glands)
    again = sparsify(mask, instances if with_instances else None, config, np.random.default_rng(seed))
    np.testing.assert_array_equal(result.mask, again.mask)


@settings(max_examples=30, deadline=None)
@given(tissues, st.one_of(st.floats(0.01, 1), st.integers(1, 12)), st.integers(0, 1000))
def test_glands_are_whole_and_as_many_as_the_budget_says(
        drawn: tuple[np.ndarray, np.ndarray], budget: float | int, seed: int) -> None:
    mask, instances = drawn
    config = SparsifyConfig(budget=budget, background="none", min_gland_px=5)
    result = sparsify(mask, instances, config, np.random.default_rng(seed))
    total = result.total_glands
    assert total is not None
    wanted = min(budget, total) if isinstance(budget, int) else math.ceil(round(budget * total, 6))
    assert result.annotated_glands == result.marks == wanted
    labelled = result.mask != IGNORE_INDEX
    assert not (result.mask == 0).any()
    for gland in np.unique(instances[labelled]):
        np.testing.assert_array_equal(labelled[instances == gland], mask[instances == gland] != IGNORE_INDEX)


@settings(max_examples=15, deadline=None)
@given(tissues, st.integers(1, 12), st.integers(0, 1000))
def test_rim_is_the_stroma_within_its_width_of_a_chosen_gland(
        drawn: tuple[np.ndarray, np.ndarray], rim_px: int, seed: int) -> None:
    mask, instances = drawn
    config = SparsifyConfig(budget=2, background="rim", rim_px=rim_px, min_gland_px=1)
    result = sparsify(mask, instances, config, np.random.default_rng(seed))
    chosen = np.argwhere((result.mask != IGNORE_INDEX) & (result.mask != 0))
    if not len(chosen):
        return
    pixels = np.argwhere(np.ones(mask.shape, bool))
    nearest = np.min([((pixels - gland) ** 2).sum(1) for gland in chosen], axis=0).reshape(mask.shape)
    np.testing.assert_array_equal(result.mask == 0, (nearest <= rim_px**2) & (mask == 0))


@pytest.mark.parametrize("style", ["glands", "scribbles"])
def test_a_larger_budget_labels_all_that_a_smaller_one_does(style: str) -> None:
    mask, instances = tissue(7, classes=3, glands=12)
    labelled = [sparsify(mask, instances, SparsifyConfig(style=style, budget=budget, min_gland_px=1),
                         annotation_rng(0, "image")).mask != IGNORE_INDEX for budget in (0.1, 0.4, 0.8, 1.0)]
    for small, large in pairwise(labelled):
        assert (small <= large).all()
        assert small.sum() < large.sum()


def test_a_share_is_rounded_up_but_not_by_what_floating_point_adds() -> None:
    """0.07 × 100 is 7.000000000000001; 0.071 × 100 is 8 glands."""
    ids = np.zeros((210, 210), np.uint16)
    for number in range(100):
        top, left = 1 + 21 * (number // 10), 1 + 21 * (number % 10)
        ids[top:top + 8, left:left + 8] = number + 1
    for share, glands in ((0.07, 7), (0.071, 8), (1.0, 100)):
        config = SparsifyConfig(budget=share, background="none")
        drawn = sparsify((ids > 0).astype(np.uint8), ids, config, annotation_rng(0, "a"))
        assert drawn.annotated_glands == glands


@pytest.mark.parametrize("seed", range(4))
def test_strokes_in_stroma_keep_six_widths_apart_where_there_is_room(seed: int) -> None:
    config = SparsifyConfig(background="scribble", stroke_px=5.0, strokes=7, stroke_length=0.1)
    drawn = sparsify(np.zeros((300, 400), np.uint8), None, config, annotation_rng(seed, "stroma"))
    strokes, count = ndimage.label(drawn.mask == 0, np.ones((3, 3)))
    assert count == 7
    for number in range(1, 8):
        away = ndimage.distance_transform_edt(strokes != number)
        assert away[(strokes > 0) & (strokes != number)].min() > 6 * 5 - 5 / 2 - 1


@pytest.mark.parametrize("reach", [1.0, 4.0, 9.5])
def test_a_rim_is_as_wide_at_the_edge_of_the_image(reach: float) -> None:
    """Against the distance transform of the whole image."""
    mask, instances = tissue(5, glands=6)
    drawn = sparsify(mask, instances, SparsifyConfig(budget=3, background="rim", rim_px=reach, min_gland_px=4),
                     annotation_rng(1, "a"))
    glands = drawn.mask == 1
    np.testing.assert_array_equal(drawn.mask == 0, (ndimage.distance_transform_edt(~glands) <= reach) & (mask == 0))


def test_a_whole_budget_outlines_every_gland() -> None:
    mask, instances = tissue(3)
    result = sparsify(mask, instances, SparsifyConfig(budget=1.0, min_gland_px=1), annotation_rng(0, "a"))
    np.testing.assert_array_equal(result.mask[mask > 0], mask[mask > 0])


@pytest.mark.parametrize("background", ["rim+scribble", "rim", "scribble"])
@pytest.mark.parametrize("style", ["glands", "scribbles", "points"])
def test_an_image_without_a_gland_gets_background_marks(style: str, background: str) -> None:
    mask = np.zeros((60, 80), np.uint8)
    result = sparsify(mask, None, SparsifyConfig(style=style, background=background), annotation_rng(0, "empty"))
    assert result.total_glands == result.annotated_glands == 0
    assert result.marks == (1 if style == "points" else 3)
    assert 0 < (result.mask == 0).sum() < mask.size
    assert (result.mask[result.mask != IGNORE_INDEX] == 0).all()


@pytest.mark.parametrize("style", ["glands", "scribbles", "points"])
def test_background_none_labels_no_stroma(style: str) -> None:
    mask, instances = tissue(1)
    result = sparsify(mask, instances, SparsifyConfig(style=style, background="none"), annotation_rng(0, "a"))
    assert not (result.mask == 0).any()
    assert (result.mask == 1).any()


@pytest.mark.parametrize("config", EVERY_STYLE, ids=lambda c: f"{c.style}-{c.background}")
@pytest.mark.parametrize("value", [1, IGNORE_INDEX])
def test_an_image_without_stroma(config: SparsifyConfig, value: int) -> None:
    mask = np.full((20, 30), value, np.uint8)
    result = sparsify(mask, None, config, annotation_rng(0, "full"))
    assert set(np.unique(result.mask)) <= {value, IGNORE_INDEX}
    assert (result.annotated_glands, result.total_glands) == ((1, 1) if value == 1 else (0, 0))


def test_full_is_the_dense_mask() -> None:
    mask, instances = tissue(5, classes=4, unlabelled=True)
    np.testing.assert_array_equal(
        sparsify(mask, instances, SparsifyConfig(style="full"), annotation_rng(0, "a")).mask, mask)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.7, 1.0])
def test_roi_is_one_rectangle_of_the_wanted_area_with_gland_and_stroma(share: float) -> None:
    mask, instances = tissue(11, glands=14)
    for seed in range(8):
        result = sparsify(mask, instances, SparsifyConfig(style="roi", budget=share), annotation_rng(seed, "a"))
        labelled = result.mask != IGNORE_INDEX
        rows, columns = np.flatnonzero(labelled.any(1)), np.flatnonzero(labelled.any(0))
        assert labelled[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()
        assert labelled.sum() == len(rows) * len(columns)
        assert result.labelled_fraction == pytest.approx(share, rel=0.08, abs=0.002)
        assert {0, 1} <= set(np.unique(result.mask))
        assert result.marks == 1


def test_points_are_one_dot_per_chosen_gland_and_as_many_in_stroma() -> None:
    mask = np.zeros((120, 160), np.uint8)
    for row in (20, 60, 100):
        for column in (20, 60, 100, 140):
            mask[row - 12:row + 12, column - 12:column + 12] = 1
    result = sparsify(mask, None, SparsifyConfig(style="points", budget=5, point_px=5), annotation_rng(0, "a"))
    glands = ndimage.label(result.mask == 1)
    stroma_dots = ndimage.label(result.mask == 0, np.ones((3, 3)))[1]
    assert glands[1] == result.annotated_glands == 5
    assert (np.bincount(glands[0].ravel())[1:] == 21).all()  # pixels of a disc of diameter 5, wholly inside
    assert 1 <= stroma_dots <= 5
    assert result.marks == 10


def test_scribbles_stay_in_the_chosen_glands() -> None:
    mask, instances = tissue(2, classes=3, glands=9)
    config = SparsifyConfig(style="scribbles", budget=4, stroke_px=2, background="none", min_gland_px=20)
    result = sparsify(mask, instances, config, annotation_rng(0, "a"))
    touched = np.unique(instances[result.mask != IGNORE_INDEX])
    assert len(touched) == result.annotated_glands == 4
    for gland in touched:
        share = (result.mask != IGNORE_INDEX)[instances == gland].mean()
        assert 0.01 < share < 0.9


def test_specks_are_neither_drawn_nor_counted() -> None:
    mask, instances = np.zeros((50, 50), np.uint8), np.zeros((50, 50), np.uint16)
    mask[5:25, 5:25], instances[5:25, 5:25] = 1, 1
    mask[40, 40], instances[40, 40] = 1, 2
    result = sparsify(mask, instances, SparsifyConfig(budget=1.0, background="rim"), annotation_rng(0, "a"))
    assert result.total_glands == result.annotated_glands == 1
    assert result.mask[40, 40] == IGNORE_INDEX


@pytest.mark.parametrize(("min_gland_px", "glands"), [(20, 1), (21, 0)])
def test_the_least_area_of_a_gland_is_inclusive(min_gland_px: int, glands: int) -> None:
    mask = np.zeros((30, 30), np.uint8)
    mask[3:7, 3:8] = 1
    result = sparsify(mask, None, SparsifyConfig(min_gland_px=min_gland_px), annotation_rng(0, "a"))
    assert (result.total_glands, result.annotated_glands) == (glands, glands)


def test_instances_left_on_stroma_or_unlabelled_pixels_do_not_count() -> None:
    mask, instances = np.zeros((30, 30), np.uint8), np.full((30, 30), 7, np.uint16)
    mask[:10] = 1
    mask[20:] = IGNORE_INDEX
    result = sparsify(mask, instances, SparsifyConfig(background="none"), annotation_rng(0, "a"))
    np.testing.assert_array_equal(result.mask == 1, mask == 1)
    assert result.total_glands == 1


def test_annotation_depends_on_seed_and_image_id_alone() -> None:
    mask, instances = tissue(4)
    ids = [f"image_{i}" for i in range(6)]

    def annotate(order: list[str], seed: int) -> dict[str, bytes]:
        return {i: sparsify(mask, instances, SparsifyConfig(), annotation_rng(seed, i)).mask.tobytes() for i in order}

    assert annotate(ids, 0) == annotate(ids[::-1], 0)
    assert len(set(annotate(ids, 0).values())) > 3
    assert annotate(ids, 0) != annotate(ids, 1)


def test_annotation_rng_is_the_same_on_every_machine() -> None:
    assert annotation_rng(0, "train_1").integers(0, 2**31, 3).tolist() == [879492626, 1520321051, 1290807891]


@pytest.mark.parametrize("change", [
    {"style": "outline"}, {"background": "ring"}, {"budget": 0.0}, {"budget": 1.2}, {"budget": 0}, {"budget": -1},
    {"budget": True}, {"budget": math.nan}, {"style": "roi", "budget": 3}, {"rim_px": 0}, {"stroke_px": math.nan},
    {"point_px": 0}, {"strokes": 0}, {"stroke_length": 0}, {"min_gland_px": 0}])
def test_impossible_settings_are_refused(change: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(set(change) - {"style"} or {"style"}))):
        SparsifyConfig(**change)


@pytest.mark.parametrize(("style", "change"), [
    ("glands", {"style": "points"}), ("glands", {"budget": 0.9}), ("glands", {"background": "rim"}),
    ("glands", {"rim_px": 4.0}), ("glands", {"stroke_px": 3.0}), ("glands", {"strokes": 9}),
    ("glands", {"stroke_length": 0.6}), ("points", {"point_px": 3.0}), ("glands", {"min_gland_px": 200})])
def test_every_setting_changes_what_is_drawn(style: str, change: dict) -> None:
    mask, instances = tissue(9, glands=8, shape=(120, 160))
    base = SparsifyConfig(style=style)
    drawn = [sparsify(mask, instances, config, annotation_rng(0, "a")).mask for config in (base, replace(base, **change))]
    assert not np.array_equal(*drawn)


def test_the_list_of_settings_above_is_complete() -> None:
    assert {f.name for f in fields(SparsifyConfig)} == {
        "style", "budget", "background", "rim_px", "stroke_px", "strokes", "stroke_length", "point_px", "min_gland_px"}


def test_as_drawn_counts_what_is_known() -> None:
    mask, instances = tissue(6, glands=5)
    sparse = np.where(instances == instances.max(), mask, IGNORE_INDEX).astype(np.uint8)
    sparse[0, :4] = mask[0, :4]
    for truth, ids in ((mask, instances), (None, instances)):
        result = as_drawn(sparse, truth, ids)
        assert result.total_glands == len(np.unique(instances)) - 1
        assert result.labelled_fraction == (sparse != IGNORE_INDEX).mean()
        assert result.marks is None
        assert result.mask is sparse
    blind = as_drawn(sparse, None, None)
    assert blind.total_glands is None
    assert blind.annotated_glands == ndimage.label(sparse == 1, np.ones((3, 3)))[1]


cohorts = st.dictionaries(st.text("abc123", min_size=1, max_size=4), st.sampled_from(["p1", "p2", "p3", "p4", ""]),
                          min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(cohorts, st.one_of(st.floats(0.01, 1), st.integers(1, 40)), st.integers(0, 1000))
def test_outlined_images_are_as_many_as_the_budget_says_and_spread_over_patients(
        patients: dict[str, str], budget: float | int, seed: int) -> None:
    chosen = outlined_images(patients, budget, seed)
    assert chosen <= set(patients)
    wanted = min(budget, len(patients)) if isinstance(budget, int) else math.ceil(round(budget * len(patients), 6))
    assert len(chosen) == wanted
    known = set(patients.values()) - {""}
    drawn = {p: sum(patients[i] == p for i in chosen) for p in known}
    for patient in known:  # one that has fewer than another has no more images to give
        if drawn[patient] < max(drawn.values()) - 1:
            assert drawn[patient] == sum(p == patient for p in patients.values())
    assert outlined_images(dict(reversed(patients.items())), budget, seed) == chosen
    more = outlined_images(patients, budget + 1 if isinstance(budget, int) else min(1.0, budget * 1.5), seed)
    assert chosen <= more


def test_outlined_images_change_with_the_seed() -> None:
    patients = {f"i{number}": f"p{number % 7}" for number in range(40)}
    choices = {outlined_images(patients, 0.1, seed) for seed in range(6)}
    assert len(choices) > 3
    assert all(len({patients[i] for i in chosen}) == len(chosen) == 4 for chosen in choices)


@settings(max_examples=10, deadline=None)
@given(tissues, st.integers(0, 1000))
def test_an_image_is_outlined_wholly_or_not_at_all(drawn: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    mask, instances = drawn
    whole = sparsify(mask, instances, SparsifyConfig(style="images", background="none"), np.random.default_rng(seed))
    np.testing.assert_array_equal(whole.mask, mask)
    assert whole.annotated_glands == whole.marks
    none = left_unlabelled(whole)
    assert (none.mask == IGNORE_INDEX).all()
    assert (none.annotated_glands, none.labelled_fraction, none.marks) == (0, 0.0, 0)
    assert none.total_glands == whole.total_glands
