import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.data.gland_borders import border_targets

OPEN = 255


def by_hand(labels, instances, border_px):
    """Pixel by pixel, as the definition says; `instances` holds ids of whole glands."""
    height, width = labels.shape
    result = np.full(labels.shape, OPEN)
    for y, x in np.ndindex(height, width):
        if labels[y, x] in (0, OPEN):
            continue
        gland = instances[y, x]
        whole = not ((instances == gland) & (labels == OPEN)).any()
        near, unknown = False, False
        for v, u in np.ndindex(height, width):
            own = instances[v, u] == gland and labels[v, u] not in (0, OPEN)
            if own or (v - y) ** 2 + (u - x) ** 2 > border_px**2:
                continue
            near |= labels[v, u] != OPEN or whole
            unknown |= labels[v, u] == OPEN and not whole
        if near or not unknown:
            result[y, x] = int(near)
    return result


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), border_px=st.sampled_from([1.0, 1.5, 2.3]))
def test_it_is_what_the_definition_says_pixel_by_pixel(seed, border_px):
    rng = np.random.default_rng(seed)
    instances = np.zeros((9, 12), int)
    for gland in (7, 3, 12):
        y, x, height, width = rng.integers(0, 6), rng.integers(0, 8), rng.integers(2, 6), rng.integers(2, 7)
        instances[y:y + height, x:x + width] = gland
    labels = np.where(instances == 0, 0, 1 + (instances == 12)).astype(np.uint8)
    labels[rng.random(labels.shape) < rng.choice([0, 0.1, 0.9])] = OPEN
    if rng.random() < 0.5:  # one gland is surely whole, its surroundings unlabelled
        labels[instances == 7] = 1
    np.testing.assert_array_equal(border_targets(labels, instances, border_px), by_hand(labels, instances, border_px))


def test_two_touching_glands_are_parted_and_a_stroke_leaves_its_surroundings_open():
    instances = np.zeros((20, 30), np.uint16)
    instances[5:15, 3:13], instances[5:15, 13:25] = 1, 2
    labels = np.where(instances > 0, 1, OPEN).astype(np.uint8)
    border = border_targets(labels, instances, 2)
    assert border.dtype == np.uint8
    assert (border[instances == 0] == OPEN).all()  # not even what lies around an outlined gland is asked for
    np.testing.assert_array_equal(border[9, 3:25], [1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1])
    stroke = np.full_like(labels, OPEN)
    stroke[8:12, 3:13] = 1
    assert (border_targets(stroke, instances, 2) == OPEN).all()  # everything lies within 2 px of what is not known
    stroke[:, 2] = 0
    assert (border_targets(stroke, instances, 2)[8:12, 3:5] == 1).all()


def test_without_ids_connected_regions_are_glands_known_as_far_as_their_surroundings_are():
    labels = np.full((12, 16), OPEN, np.uint8)
    labels[2:10, 2:10] = 1
    labels[:, :2] = 0
    border = border_targets(labels, None, 2)
    np.testing.assert_array_equal(border[5, 2:10], [1, 1, 0, 0, 0, 0, OPEN, OPEN])


def test_the_edge_of_the_picture_is_no_border():
    labels, instances = np.ones((8, 8), np.uint8), np.ones((8, 8), np.uint8)
    assert (border_targets(labels, instances, 3) == 0).all()


@pytest.mark.parametrize("value", [0, OPEN])
def test_without_a_gland_nothing_is_asked(value):
    assert (border_targets(np.full((5, 6), value, np.uint8), np.zeros((5, 6), int), 3) == OPEN).all()
