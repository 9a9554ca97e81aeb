"""Glands of a class map: numbering, size limit and holes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from hf_gland.instances import check_instances, fill_holes, gland_instances, join_small_parts
from hf_gland.labels import MaskError


def disc(radius, size=25, hole=0):
    y, x = np.mgrid[:size, :size] - size // 2
    far = np.hypot(y, x)
    return ((far <= radius) & ~(far < hole)).astype(np.uint8)


def test_ids_have_no_gaps_and_small_regions_are_dropped():
    classes = np.array([[1, 0, 2, 2, 0, 1, 1, 255],
                        [0, 1, 0, 0, 0, 1, 1, 255]], np.uint8)
    assert gland_instances(classes).tolist() == [[1, 0, 3, 3, 0, 2, 2, 0], [0, 1, 0, 0, 0, 2, 2, 0]]
    assert gland_instances(classes, min_area_px=3).tolist() == [[0] * 5 + [1, 1, 0]] * 2


def test_hole_is_filled_up_to_the_limit_and_not_beyond():
    ring = disc(9, hole=3)
    area = int((disc(9) - ring).sum())
    np.testing.assert_array_equal(fill_holes(ring, area), disc(9))
    np.testing.assert_array_equal(fill_holes(ring, area - 1), ring)
    np.testing.assert_array_equal(fill_holes(ring, 0), ring)


def test_a_part_too_small_to_be_a_gland_takes_the_class_of_the_gland_it_is_part_of():
    gland = disc(9)
    classes = gland.copy()
    classes[10:13, 10:13] = 2  # inside
    classes[12, 20:] = np.where(gland[12, 20:] == 1, 2, 0)  # at the edge
    classes[0, 0] = 2  # alone
    joined = join_small_parts(classes, 10)
    assert np.array_equal(joined[1:], gland[1:])
    assert joined[0, 0] == 2
    assert np.array_equal(join_small_parts(classes, 9)[10:13, 10:13], np.full((3, 3), 2))  # enough to be a gland
    assert np.array_equal(join_small_parts(classes, 0), classes)
    assert classes[11, 11] == 2  # a copy


def test_a_gland_of_small_parts_alone_is_of_the_class_that_most_of_it_has():
    checks = np.indices((8, 8)).sum(axis=0) // 2 % 2 + 1
    checks[0] = 2
    classes = np.pad(checks, 2).astype(np.uint8)
    assert np.array_equal(join_small_parts(classes, 40), np.where(classes > 0, 2, 0))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 2, 3, 255])), st.integers(0, 12))
def test_joined_parts_agree_with_brute_force(classes, least):
    joined = join_small_parts(classes, least)
    gland = (classes != 0) & (classes != 255)
    assert np.array_equal(np.where(gland, 1, classes), np.where((joined != 0) & (joined != 255), 1, joined))
    regions, count = ndimage.label(gland, np.ones((3, 3)))
    for number in range(1, count + 1):
        region = regions == number
        parts = [ndimage.label(region & (classes == c), np.ones((3, 3))) for c in (1, 2, 3)]
        enough = np.zeros_like(region)
        for labels, found in parts:
            for part in range(1, found + 1):
                enough |= (labels == part) & ((labels == part).sum() >= least)
        if region.sum() < least or (enough == region).all():
            assert np.array_equal(joined[region], classes[region])
        elif not enough.any():
            most = max((1, 2, 3), key=lambda c: ((classes == c) & region).sum())
            assert (joined[region] == most).all()
        else:
            assert np.array_equal(joined[enough], classes[enough])
            places = np.argwhere(enough)
            for y, x in np.argwhere(region & ~enough):
                far = ((places - (y, x)) ** 2).sum(axis=1)
                assert joined[y, x] in {classes[tuple(place)] for place in places[far == far.min()]}


def test_background_around_and_at_the_border_is_no_hole():
    ring = disc(11, hole=3)
    np.testing.assert_array_equal(fill_holes(ring[12:], 10_000), ring[12:])  # cut through the hole


def test_hole_takes_the_class_around_it_and_leaves_other_glands_alone():
    classes = np.where(disc(9, hole=3) == 1, 2, 0).astype(np.uint8)
    classes[0, 0] = 1
    classes[12, 12] = 1  # a gland inside the lumen of another stays
    filled = fill_holes(classes, 100)
    assert filled[12, 12] == 1
    assert filled[0, 0] == 1
    assert (filled == 2).sum() == disc(9).sum() - 1
    assert filled.dtype == classes.dtype


def test_hole_beside_unlabelled_pixels_is_left_open():
    ring = disc(9, hole=3)
    ring[12, 14] = 255
    np.testing.assert_array_equal(fill_holes(ring, 100), ring)


@pytest.mark.parametrize("limit", [0, 3, 1000])
def test_filling_only_turns_background_into_gland(limit):
    rng = np.random.default_rng(limit)
    classes = rng.choice(np.array([0, 1, 2, 255], np.uint8), (30, 30), p=[0.4, 0.3, 0.28, 0.02])
    before = classes.copy()
    filled = fill_holes(classes, limit)
    np.testing.assert_array_equal(classes, before)
    changed = filled != classes
    assert (classes[changed] == 0).all()
    assert changed.any() == (limit > 0)


@settings(deadline=None, max_examples=60)
@given(mask=hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))), limit=st.integers(0, 30))
def test_holes_are_filled_as_by_brute_force(mask, limit):
    expected = mask.copy()
    regions, count = ndimage.label(~mask)
    for region in range(1, count + 1):
        y, x = np.nonzero(regions == region)
        inside = y.min() > 0 and x.min() > 0 and y.max() < mask.shape[0] - 1 and x.max() < mask.shape[1] - 1
        if inside and len(y) <= limit:
            expected[y, x] = True
    assert np.array_equal(fill_holes(mask.astype(np.uint8), limit), expected)


def test_a_hole_between_two_classes_takes_the_one_around_most_of_it():
    class_map = np.full((7, 7), 2, np.uint8)
    class_map[:, 4:] = 1
    class_map[3, 2:5] = 0
    assert (fill_holes(class_map, 3)[3, 2:5] == 2).all()
    assert np.array_equal(fill_holes(class_map, 2), class_map)


def two_glands():
    """(mask, ids): glands of 256 and 560 px, the larger with id 2."""
    mask, ids = np.zeros((64, 64), np.uint8), np.zeros((64, 64), np.uint16)
    for number, window in ((1, np.s_[8:24, 8:24]), (2, np.s_[36:56, 30:58])):
        mask[window], ids[window] = 1, number
    return mask, ids


def test_ids_that_belong_to_the_mask_pass_whatever_their_numbers_and_their_rims():
    mask, ids = two_glands()
    check_instances(ids, mask, "here")
    check_instances(ids * 500, mask, "here")
    inner = ids.copy()
    inner[8, :] = inner[:, 30] = 0  # outlines drawn a pixel narrower
    check_instances(inner, mask, "here")
    wider = ids.copy()
    wider[24, 8:24] = 1
    check_instances(wider, mask, "here")
    check_instances(np.where(ids == 2, 1, 0), np.where(ids == 2, 1, 0), "one gland, whose id is its class")
    check_instances(np.where(ids > 0, 3, 0), mask, "a gland in two pieces")
    crumb = np.where(ids == 2, 1, 0)
    crumb[2:5, 2:5] = 1
    check_instances(crumb, crumb, "one gland and a crumb of it")
    hidden = mask.copy()
    hidden[:30] = 255
    check_instances(ids, hidden, "what lies under 255 does not count")
    check_instances(ids * 0 + np.uint16(9) * (hidden == 255), np.where(hidden == 255, 255, 0), "nor there")


@pytest.mark.parametrize(("change", "message"), [
    (lambda m, i: i + 1, "gland id 1 lies outside"),
    (lambda m, i: np.where(m == 0, 7, i), "gland id 7 lies outside"),
    (lambda m, i: i * 0, r"gland at row 8, column 8 of the mask has no id"),
    (lambda m, i: np.where(i == 2, 0, i), r"gland at row 36, column 30 of the mask has no id"),
    (lambda m, i: m, r"the gland ids are the classes of the mask, 1 for 2 glands"),
    (lambda m, i: m * 255, r"the gland ids are all 255, 1 for 2 glands"),
    (lambda m, i: i.T[:60], r"map of gland ids is \(60, 64\) but the mask is \(64, 64\)"),
])
def test_ids_that_cannot_be_those_of_the_mask_are_refused_by_name(change, message):
    mask, ids = two_glands()
    with pytest.raises(MaskError, match=f"slide 7: .*{message}"):
        check_instances(change(mask, ids), mask, "slide 7")
