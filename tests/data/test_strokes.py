import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hf_gland.data.strokes import MOST_TURN, dot, free_path, skeleton_path, thicken


def random_region(seed: int, shape: tuple[int, int] = (40, 55)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return noise > np.quantile(noise, 0.5)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(1, 12))
def test_thicken_equals_brute_force(seed: int, width_px: float) -> None:
    rng = np.random.default_rng(seed)
    region = random_region(seed)
    path = np.column_stack([rng.integers(0, 40, 6), rng.integers(0, 55, 6)])
    rows, columns = np.mgrid[:40, :55]
    near = np.zeros(region.shape, bool)
    for row, column in path:
        near |= (rows - row) ** 2 + (columns - column) ** 2 <= (width_px / 2) ** 2
    np.testing.assert_array_equal(thicken(path, region, width_px), near & region)


def test_an_empty_path_draws_nothing() -> None:
    assert not thicken(np.zeros((0, 2), int), np.ones((5, 5), bool), 3).any()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(1, 9), st.floats(5, 60))
def test_free_path_is_a_connected_line_that_keeps_its_distance(seed: int, width_px: float, length_px: float) -> None:
    room = ndimage.distance_transform_edt(random_region(seed))
    path = free_path(room, width_px, length_px, np.random.default_rng(seed))
    assert 1 <= len(path) <= max(round(length_px), 1)
    assert np.abs(np.diff(path, axis=0)).max(initial=0) <= 1
    assert (room[tuple(path.T)] > min(width_px, 0.8 * room.max())).all()


def test_free_path_does_not_close_a_loop() -> None:
    room = np.full((400, 400), 400.0)
    for seed in range(5):
        path = free_path(room, 5, 1500, np.random.default_rng(seed)).astype(float)
        steps = ndimage.gaussian_filter1d(path, 4, axis=0)
        headings = np.unwrap(np.arctan2(*np.diff(steps, axis=0)[5:-5].T))
        assert np.ptp(headings) < 2 * MOST_TURN + 0.2


def test_free_path_uses_the_widest_place_of_a_narrow_region() -> None:
    room = np.zeros((20, 20))
    room[10] = 1.0
    path = free_path(room, 9, 12, np.random.default_rng(0))
    assert len(path) > 3
    assert (path[:, 0] == 10).all()


def test_nothing_is_drawn_in_an_empty_region() -> None:
    room = np.zeros((6, 7))
    assert free_path(room, 3, 10, np.random.default_rng(0)).shape == (0, 2)
    assert dot(room, 3, np.random.default_rng(0)).shape == (0, 2)


def test_skeleton_path_runs_along_a_bar_but_not_to_its_ends() -> None:
    region = np.zeros((40, 120), bool)
    region[15:25, 10:110] = True
    path = skeleton_path(region, np.random.default_rng(0))
    assert np.abs(path[:, 0] - 19.5).max() <= 2
    assert 26 < path[:, 1].min() < 36
    assert 84 < path[:, 1].max() < 94


def test_skeleton_path_crosses_a_disc_by_a_straight_stroke() -> None:
    rows, columns = np.mgrid[:61, :61]
    region = (rows - 30) ** 2 + (columns - 30) ** 2 <= 25**2
    paths = [skeleton_path(region, np.random.default_rng(seed)) for seed in (0, 1)]
    for path in paths:
        assert region[tuple(path.T)].all()
        np.testing.assert_allclose(path.mean(0), 30, atol=2)
        assert 25 < np.linalg.norm(path[-1] - path[0]) < 36
    assert not np.array_equal(paths[0], paths[1])


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_skeleton_path_of_a_speck(pixels: int) -> None:
    region = np.zeros((5, 5), bool)
    region[2, 1:1 + pixels] = True
    path = skeleton_path(region, np.random.default_rng(0))
    assert len(path) >= 1
    assert region[tuple(path.T)].any()


def test_dot_is_clicked_well_inside() -> None:
    region = random_region(3)
    room = ndimage.distance_transform_edt(region)
    for seed in range(20):
        inner, clear = (dot(room, px, np.random.default_rng(seed))[0] for px in (np.inf, 2.0))
        assert room[tuple(inner)] >= 0.6 * room.max()
        assert room[tuple(clear)] >= 2
