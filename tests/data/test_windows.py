import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.data.windows import plan_windows


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 900), st.floats(0, 500), st.floats(1, 90), st.floats(1, 60)), min_size=1,
                max_size=40))
def test_every_annotation_lies_whole_in_the_one_tile_that_it_belongs_to(drawn):
    boxes = np.array([(x, y, min(x + w, 1000), min(y + h, 600)) for x, y, w, h in drawn])
    tiles, too_large = plan_windows(boxes, (600, 1000), side_px=200, margin_px=16, most_px=400)
    assert too_large == []
    assert sorted(index for _, own in tiles for index in own) == list(range(len(boxes)))
    for window, own in tiles:
        left, top, right, bottom = window.box
        assert 0 <= left < right <= 1000
        assert 0 <= top < bottom <= 600
        assert (right - left, bottom - top) == (200, 200)
        for index in own:
            x0, y0, x1, y1 = boxes[index]
            assert left <= max(x0 - 16, 0)
            assert top <= max(y0 - 16, 0)
            assert right >= min(x1 + 16, 1000)
            assert bottom >= min(y1 + 16, 600)


def test_neighbours_share_a_tile_and_a_large_outline_gets_a_larger_one():
    boxes = np.array([[100, 100, 130, 130], [150, 120, 190, 160], [700, 50, 990, 90]], float)
    tiles, _ = plan_windows(boxes, (600, 2000), side_px=200, margin_px=10, most_px=400)
    assert [own for _, own in tiles] == [[2], [0, 1]]
    assert (tiles[0][0].width, tiles[0][0].height) == (310, 200)


def test_an_image_that_fits_a_tile_is_one_and_without_annotations_there_is_none():
    assert plan_windows(np.array([[5.0, 6, 7, 8]]), (60, 200), 200, 10, 400)[0][0][0].box == (0, 0, 200, 60)
    assert plan_windows(np.empty((0, 4)), (60, 200), 200, 10, 400) == ([], [])
    assert plan_windows(np.empty((0, 4)), (600, 800), 200, 10, 400) == ([], [])


def test_what_is_larger_than_a_tile_can_be_is_covered_and_told():
    boxes = np.array([[100, 100, 1500, 700], [300, 300, 340, 340]], float)
    tiles, too_large = plan_windows(boxes, (1000, 2000), side_px=200, margin_px=0, most_px=400)
    assert too_large == [0]
    assert sum(window.width * window.height for window, _ in tiles) == 1400 * 600
    assert [own for _, own in tiles if own] == [[0, 1]] or [own for _, own in tiles if own] == [[0], [1]]


def test_of_many_annotations_each_is_placed_once():
    corner = np.random.default_rng(0).uniform(0, 39_900, (2000, 2))
    tiles, _ = plan_windows(np.concatenate([corner, corner + 60], axis=1), (40_000, 40_000), 1024, 64, 4096)
    assert sorted(index for _, own in tiles for index in own) == list(range(2000))
    assert len(tiles) < 1500
