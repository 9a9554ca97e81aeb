"""Dividing regions that hold several sure cores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from hf_gland.inference.glands import glands_from_probabilities
from hf_gland.inference.touching import divide_by_cores, gland_probability
from hf_gland.instances import gland_instances
from hf_gland.metrics.temperature import apply_temperature
from hf_gland.options import PostProcessing

CORE_PROBABILITY, CORE_SHARE = 0.85, 0.05  # as they were chosen; spelled out, so that a change shows
EIGHT = np.ones((3, 3), int)


def two_discs(bridge):
    """Gland probability of two sure discs, 8 px in radius, and of a bridge between them; the background is at 0.1."""
    y, x = np.mgrid[:24, :48]
    gland = np.full((24, 48), 0.1, np.float32)
    gland[(y >= 10) & (y <= 13) & (x >= 12) & (x <= 35)] = bridge
    for centre in (12, 35):
        gland[np.hypot(y - 11.5, x - centre) <= 8] = 0.95
    return gland


def split(gland, min_core_area_px=0):
    return divide_by_cores(gland_instances((gland > 0.5).astype(np.uint8)), gland, CORE_PROBABILITY, min_core_area_px)


def test_two_glands_joined_by_a_bridge_the_model_doubts_are_told_apart():
    parts = split(two_discs(bridge=0.6))
    assert parts.max() == 2
    assert parts[11, 12] != parts[11, 35]
    areas = np.bincount(parts.ravel())[1:]
    assert abs(int(areas[0]) - int(areas[1])) <= 0.1 * areas.sum()


def test_the_line_runs_where_the_model_doubts_most():
    """Two unlike cores; between them the confidence falls within 4 px and rises over 16."""
    between = [0.80, 0.70, 0.62, 0.55, *np.linspace(0.56, 0.84, 16)]
    row = np.array([0.95] * 12 + between + [0.95] * 20 + [0.1] * 3, np.float32)
    gland = np.tile(row, (10, 1))
    instances = glands_from_probabilities(np.stack([1 - gland, gland]), {0: "background", 1: "gland"},
                                          PostProcessing(min_gland_confidence=0)).instances
    assert sorted(np.unique(instances)) == [0, 1, 2]
    for ids in instances:
        assert 15 <= np.flatnonzero(ids == 1).max() <= 16  # beside the least sure pixel, the 16th
        assert np.flatnonzero(ids == 2).max() == 51


def test_a_bridge_as_sure_as_the_glands_joins_them():
    assert split(two_discs(bridge=0.95)).max() == 1


def test_a_core_that_is_too_small_makes_no_gland():
    gland = two_discs(bridge=0.6)
    gland[:, 30:][gland[:, 30:] > 0.9] = 0.7
    gland[11:13, 34:36] = 0.95
    assert split(gland).max() == 1  # 4 px, under CORE_SHARE of the region
    gland[8:16, 31:39] = 0.95
    assert split(gland).max() == 2
    assert split(gland, min_core_area_px=65).max() == 1  # 64 px


def test_touching_glands_of_two_classes_stay_what_they_are():
    instances = np.zeros((6, 12), int)
    instances[1:5, 1:6], instances[1:5, 6:11] = 1, 2
    np.testing.assert_array_equal(divide_by_cores(instances, np.full((6, 12), 0.99), CORE_PROBABILITY), instances)


@settings(deadline=None, max_examples=80)
@given(gland=hnp.arrays(np.float32, st.tuples(st.integers(1, 14), st.integers(1, 14)),
                        elements=st.sampled_from([0.1, 0.6, 0.8, 0.9, 1.0])), least=st.integers(0, 6))
def test_no_pixel_is_lost_and_each_part_has_one_core(gland, least):
    whole = gland_instances((gland > 0.5).astype(np.uint8))
    parts = divide_by_cores(whole, gland, CORE_PROBABILITY, least)
    np.testing.assert_array_equal(parts > 0, whole > 0)
    assert set(np.unique(parts)) - {0} == set(range(1, parts.max() + 1))
    for region in range(1, whole.max() + 1):
        inside = whole == region
        cores, found = ndimage.label(inside & (gland > CORE_PROBABILITY), EIGHT)
        sizes = [int((cores == c).sum()) for c in range(1, found + 1)]
        enough = [c for c, size in enumerate(sizes, start=1) if size >= max(least, CORE_SHARE * inside.sum())]
        ids = np.unique(parts[inside])
        assert len(ids) == max(len(enough), 1)
        for part in ids:
            assert ndimage.label(parts == part, EIGHT)[1] == 1
        if len(enough) > 1:
            assert sorted({int(i) for c in enough for i in np.unique(parts[cores == c])}) == sorted(ids)


@pytest.mark.parametrize(("core_probability", "glands"), [(None, 2), (0.5, 1), (0.99, 1)])
def test_a_prediction_counts_the_parts_as_glands(core_probability, glands):
    gland = two_discs(bridge=0.6)
    post = PostProcessing() if core_probability is None else PostProcessing(core_probability=core_probability)
    found = glands_from_probabilities(np.stack([1 - gland, gland]), {0: "background", 1: "gland"}, post)
    assert len(found.glands) == found.instances.max() == glands
    assert sum(g.area_px for g in found.glands) == (found.class_map > 0).sum()


def test_a_prediction_leaves_them_joined_when_told_to():
    gland = two_discs(bridge=0.6)
    assert len(glands_from_probabilities(np.stack([1 - gland, gland]), {0: "background", 1: "gland"},
                                         PostProcessing(split_touching=False)).glands) == 1


def test_doubt_about_the_class_of_a_gland_is_none_about_the_gland():
    gland = two_discs(bridge=0.95)
    benign = np.where(np.arange(48) < 24, 0.6, 0.4).astype(np.float32) * gland
    found = glands_from_probabilities(np.stack([1 - gland, benign, gland - benign]), {0: "none", 1: "a", 2: "b"})
    assert len(found.glands) == 2  # one of either class
    sure = np.stack([1 - gland, 0.54 * gland, 0.46 * gland])
    assert len(glands_from_probabilities(sure, {0: "none", 1: "a", 2: "b"}).glands) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.6, 3.0])
def test_a_tempered_confidence_leaves_the_cores_where_they_are(temperature):
    def tempered(probability):
        return apply_temperature(np.stack([1 - probability, probability]), temperature)[1]

    gland = two_discs(bridge=0.6)
    again = divide_by_cores(gland_instances((gland > 0.5).astype(np.uint8)), tempered(gland),
                            tempered(np.array(CORE_PROBABILITY)))
    np.testing.assert_array_equal(again, split(gland))


@settings(deadline=None, max_examples=30)
@given(classes=st.integers(2, 5), temperature=st.floats(0.5, 3), seed=st.integers(0, 10**6))
def test_calibration_of_any_number_of_classes_leaves_the_probability_of_a_gland_as_it_was(classes, temperature, seed):
    before = np.random.default_rng(seed).dirichlet(np.ones(classes), (4, 5)).transpose(2, 0, 1)
    found = gland_probability(apply_temperature(before, temperature), temperature)
    np.testing.assert_allclose(found, 1 - before[0], atol=1e-3)  # nearly 0 is not kept exactly
