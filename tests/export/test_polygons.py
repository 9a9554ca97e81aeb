import time

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from hf_gland.export import polygons as polygons_module
from hf_gland.export.polygons import crosses_itself, fill_polygon, region_polygons, ring_area, stroke_rings

REGIONS = hnp.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@settings(deadline=None, max_examples=300)
@given(region=REGIONS)
def test_any_region_gives_valid_polygons_of_its_area_that_fill_to_it_again(region):
    polygons = region_polygons(region)
    filled = np.zeros_like(region)
    for rings in polygons:
        for ring in rings:
            assert (ring[0] == ring[-1]).all()
            assert len({tuple(v) for v in ring[:-1].tolist()}) == len(ring) - 1 >= 4  # simple
        assert ring_area(rings[0]) > 0
        assert all(ring_area(hole) < 0 for hole in rings[1:])
        assert shapely.is_valid(shapely.Polygon(rings[0], rings[1:]))
        part = fill_polygon(rings, region.shape)
        assert not (filled & part).any()
        filled |= part
        assert sum(map(ring_area, rings)) == part.sum()
    assert np.array_equal(filled, region)
    assert shapely.is_valid(shapely.MultiPolygon([(p[0], p[1:]) for p in polygons]))
    assert len(polygons) == ndimage.label(region)[1]


def test_a_rectangle_has_four_corners_at_pixel_edges():
    region = np.zeros((6, 9), bool)
    region[2:5, 3:7] = True
    ((ring,),) = region_polygons(region)
    assert ring.tolist() == [[3, 2], [7, 2], [7, 5], [3, 5], [3, 2]]


def test_a_hole_is_kept_and_pixels_touching_at_a_corner_become_two_polygons():
    region = np.ones((5, 5), bool)
    region[2, 1:4] = False
    ((outer, hole),) = region_polygons(region)
    assert ring_area(outer) == 25
    assert ring_area(hole) == -3
    first, second = region_polygons(np.eye(2, dtype=bool))
    assert (ring_area(first[0]), ring_area(second[0])) == (1, 1)


def test_two_parts_that_do_not_touch_are_two_polygons():
    region = np.zeros((6, 9), bool)
    region[1:3, 1:3] = region[1:6, 5:9] = True
    region[2:4, 6] = False
    left, right = region_polygons(region)
    assert [ring_area(ring) for ring in left] == [4]
    assert [ring_area(ring) for ring in right] == [20, -2]


def test_two_holes_that_touch_at_a_corner_stay_two():
    region = np.ones((4, 4), bool)
    region[1, 1] = region[2, 2] = False
    ((_, *holes),) = region_polygons(region)
    assert [ring_area(hole) for hole in holes] == [-1, -1]


def test_an_empty_region_has_no_polygon():
    assert region_polygons(np.zeros((3, 3), bool)) == []


@settings(deadline=None, max_examples=60)
@given(corners=st.lists(st.tuples(st.floats(-5, 15), st.floats(-5, 15)), min_size=3, max_size=7))
def test_filling_takes_the_pixels_whose_centre_is_inside(corners):
    ring = np.array(corners)
    filled = fill_polygon([ring], (9, 10))
    for row, column in np.ndindex(9, 10):
        x, y = column + 0.5, row + 0.5
        crossings, near = 0, False
        for (x0, y0), (x1, y1) in zip(corners, [*corners[1:], corners[0]], strict=True):
            if (y0 <= y) != (y1 <= y):
                at = x0 + (y - y0) / (y1 - y0) * (x1 - x0)
                crossings += at <= x
                near |= abs(at - x) < 1e-9
        assert near or filled[row, column] == crossings % 2


@pytest.mark.parametrize("closed", [False, True])
def test_direction_and_closing_do_not_matter(closed):
    ring = np.array([[1, 1], [6, 2], [4, 7]] + [[1, 1]] * closed, float)
    assert np.array_equal(fill_polygon([ring], (9, 9)), fill_polygon([ring[::-1]], (9, 9)))
    assert fill_polygon([ring], (9, 9)).any()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(region=REGIONS, seed=st.integers(0, 10**6), turned=st.booleans())
def test_outlines_that_do_not_cross_are_never_doubted(monkeypatch, region, seed, turned):
    monkeypatch.setattr(polygons_module, "EXACT_POINTS", 0)
    for rings in region_polygons(region):
        assert crosses_itself([ring[::-1] if turned else ring for ring in rings])[0] is None
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    star = rng.uniform(10, 60, (12, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    hole = star[::-1] * 0.5
    if shapely.is_valid(shapely.Polygon(star, [hole])):
        assert crosses_itself([star, hole])[0] is None
        assert crosses_itself([hole, star])[0] is not None  # a hole around its outline


@pytest.mark.parametrize("scale", [1.0, 300.0])
@pytest.mark.parametrize(("rings", "place"), [
    ([[[0, 0], [40, 40], [40, 0], [0, 40]]], None),
    ([[[0, 0], [40, 0], [40, 40], [0, 40]], [[30, 12], [60, 12], [60, 17], [30, 17]]], (40, 12)),
    ([[[0, 0], [90, 0], [90, 40], [0, 40]], [[10, 5], [50, 5], [50, 9], [10, 9]], [[45, 8], [60, 8], [60, 30], [45, 30]]],
     (45, 8)),
    ([[[0, 0], [40, 0], [40, 40], [0, 40], [0, 0], [40, 0], [40, 40], [0, 40]]], (0, 0)),  # twice round
])
def test_crossings_are_found_whatever_the_number_of_points(monkeypatch, rings, place, scale):
    monkeypatch.setattr(polygons_module, "EXACT_POINTS", 0)
    found, crossings = crosses_itself([np.array(ring, float) * scale for ring in rings])
    assert crossings > 10
    assert found is not None
    if place:
        assert found == pytest.approx(np.multiply(place, scale), abs=12 * max(scale / 10, 0.1))
    monkeypatch.setattr(polygons_module, "MAX_CROSSINGS", 20)
    with pytest.raises(ValueError, match="million rows of pixels"):
        crosses_itself([np.array(ring, float) * scale for ring in rings])


@settings(deadline=None, max_examples=40)
@given(points=hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=st.floats(-5, 45)),
       width=st.floats(1, 12))
def test_a_stroke_covers_what_is_within_half_its_width(points, width):
    drawn = fill_polygon(stroke_rings(points, width), (40, 44), nonzero=True)
    line = shapely.LineString(points) if len(np.unique(points, axis=0)) > 1 else shapely.Point(points[0])
    x, y = np.meshgrid(np.arange(44) + 0.5, np.arange(40) + 0.5)
    away = shapely.distance(line, shapely.points(x, y))
    assert drawn[away < 0.97 * width / 2].all()
    assert not drawn[away > width / 2 + 1e-9].any()


def test_a_long_stroke_takes_no_longer_than_its_length():
    begun = time.process_time()  # as the union of buffers this takes minutes
    line = np.random.default_rng(0).uniform(0, 1_000, (2_000, 2))
    drawn = fill_polygon(stroke_rings(line, 6), (1_000, 1_000), nonzero=True)
    assert time.process_time() - begun < 10
    assert drawn.mean() > 0.9
