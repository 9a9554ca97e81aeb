import numpy as np
import pytest
from gland_space.analysis import gland_radius_px, suggest, uncertainty


def test_certainty_is_0_and_a_guess_is_1():
    for classes in (2, 4):
        uncertain = uncertainty(np.array([[1.0, 1 / classes, 0.5 + 0.5 / classes]], np.float32), classes)
        assert uncertain.tolist() == [[0.0, 1.0, pytest.approx(0.5)]]


def test_a_uncertainful_area_comes_before_a_thin_seam_however_uncertainful():
    uncertain = np.zeros((200, 200), np.float32)
    uncertain[:, 40] = 1.0
    uncertain[120:160, 120:160] = 0.7
    first, *rest = suggest(uncertain, None, radius_px=15)
    assert (first.x_px, first.y_px) == pytest.approx((140, 140), abs=3)
    assert all(place.uncertainty < first.uncertainty for place in rest)


@pytest.mark.parametrize(("level", "count"), [(0.3, 1), (0.06, 1), (0.04, 0)])
def test_a_place_need_not_be_very_uncertain_to_be_suggested(level, count):
    uncertain = np.zeros((200, 240), np.float32)
    uncertain[40:160, 100:220] = level  # wide enough that its middle keeps its level in the mean
    places = suggest(uncertain, None, radius_px=12, count=1)
    assert len(places) == count
    for place in places:
        assert place.uncertainty == pytest.approx(level, rel=0.02)
        assert 110 < place.x_px < 210
        assert 50 < place.y_px < 150


def test_labelled_places_are_not_suggested_again():
    uncertain = np.zeros((200, 200), np.float32)
    uncertain[20:60, 20:60] = 0.9
    uncertain[120:160, 120:160] = 0.7
    mask = np.full(uncertain.shape, 255, np.uint8)
    mask[15:65, 15:65] = 1
    (place,) = suggest(uncertain, mask, radius_px=15)
    assert (place.x_px, place.y_px) == pytest.approx((140, 140), abs=3)


def test_places_lie_apart_and_a_sure_model_suggests_nothing():
    uncertain = np.random.default_rng(0).random((150, 150)).astype(np.float32)
    places = suggest(uncertain, None, radius_px=10, count=5)
    assert len(places) == 5
    assert min(np.hypot(a.x_px - b.x_px, a.y_px - b.y_px) for i, a in enumerate(places) for b in places[:i]) >= 20
    assert suggest(np.zeros((50, 50), np.float32), None, 10) == []


def test_the_radius_is_that_of_the_median_gland():
    instances = np.zeros((200, 200), np.int32)
    y, x = np.mgrid[:200, :200]
    for number, (radius, cx) in enumerate(((10, 30), (20, 80), (40, 150)), start=1):
        instances[(x - cx) ** 2 + (y - 100) ** 2 <= radius**2] = number
    assert gland_radius_px(instances) == pytest.approx(20, abs=0.5)
    assert gland_radius_px(np.zeros((120, 240), np.int32)) == 10
