import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from hf_gland.inference.glands import GlandRules, glands_from_probabilities
from hf_gland.inference.slides import groups
from hf_gland.inference.slides.bands import Bands
from hf_gland.inference.slides.finder import GlandFinder
from hf_gland.inference.slides.plan import SlideGrid, Stripe
from hf_gland.options import PostProcessing

TWO = {0: "background", 1: "gland"}
FOUR = {0: "background", 1: "benign", 2: "malignant", 3: "poor"}


def rough(hw, classes, seed, smooth=1.5):
    """Probabilities with regions of all sizes, holes in them, islands in those, bridges between."""
    noise = np.random.default_rng(seed).normal(size=(classes, *hw))
    logits = np.stack([ndimage.gaussian_filter(channel, smooth) for channel in noise])
    logits /= logits.std() / 3
    logits[0] += classes - 1
    odds = np.exp(logits - logits.max(axis=0))
    return (odds / odds.sum(axis=0)).astype(np.float32)


def stripes(probabilities, heights, tissue=None):
    top = 0
    tissue = np.ones(probabilities.shape[1:], bool) if tissue is None else tissue
    while top < probabilities.shape[1]:
        bottom = min(top + heights[0], probabilities.shape[1])
        heights = heights[1:] + heights[:1]
        yield Stripe(top, probabilities[:, top:bottom], tissue[top:bottom])
        top = bottom


def found(probabilities, rules, heights, band_px, tissue=None):
    """All glands, their maps put together, and the finder."""
    height, width = probabilities.shape[1:]
    grid = SlideGrid(width, height, 0.5)
    bands, finder = Bands(grid, band_px), GlandFinder(rules, grid)
    glands, classes, ids = [], np.zeros((height, width), np.uint8), np.zeros((height, width), np.int32)
    for stripe in stripes(probabilities, heights, tissue):
        for band in bands.add(stripe):
            settled = finder.settled_px
            for part in finder.add(band):
                y, x = part.origin_yx
                assert y >= settled
                here = np.s_[y:y + part.class_map.shape[0], x:x + part.class_map.shape[1]]
                own = part.instances > 0
                assert not ids[here][own].any()
                ids[here][own] = part.instances[own] + len(glands)
                classes[here][own] = part.class_map[own]
                glands += part.glands
    bands.finish()
    assert finder.settled_px == height
    assert [gland.id for gland in glands] == list(range(1, len(glands) + 1))
    return glands, classes, ids, finder


def without_ids(glands):
    return sorted(dataclasses.astuple(gland)[1:] for gland in glands)


@pytest.mark.parametrize("mirrored", [False, True])
def test_only_the_columns_with_tissue_are_looked_at_and_background_goes_on_beside_them(mirrored):
    gland = np.zeros((60, 34), bool)
    gland[4:50, 14:17] = True  # ends last
    gland[6:10, 9:12] = True  # between it and the edge of the tissue: no hole lies around this, so it ends by itself
    gland[20:23, 20:30] = True
    tissue = np.zeros_like(gland)
    tissue[3:, 8:31] = True
    tissue[40:, 8:12] = False
    gland &= tissue
    if mirrored:
        gland, tissue = gland[:, ::-1], tissue[:, ::-1]
    probabilities = np.stack([~gland, gland]).astype(np.float32)
    rules = GlandRules(TWO, PostProcessing(min_gland_area_px=3, max_hole_area_px=40), mpp=0.5)
    for heights, band_px in (([97], 200), ([10, 1, 7], 16), ([6], 4)):
        narrow, classes, ids, _ = found(probabilities, rules, heights, band_px, tissue)
        full, all_classes, all_ids, _ = found(probabilities, rules, heights, band_px)
        assert len(narrow) == 3
        assert narrow == full
        assert np.array_equal(classes, all_classes)
        assert np.array_equal(ids, all_ids)


@pytest.mark.parametrize(("names", "post", "seed"), [
    (TWO, PostProcessing(min_gland_area_px=0, max_hole_area_px=0, min_gland_confidence=0), 1),
    (TWO, PostProcessing(min_gland_area_px=6, max_hole_area_px=9), 2),
    (TWO, PostProcessing(min_gland_area_px=3, max_hole_area_px=60, gland_threshold=0.35, core_probability=0.8), 3),
    (FOUR, PostProcessing(min_gland_area_px=4, max_hole_area_px=25), 4),
    (TWO, PostProcessing(min_gland_area_px=6, max_hole_area_px=9, min_gland_confidence=0.8), 2),
    (FOUR, PostProcessing(min_gland_area_px=0, max_hole_area_px=400, gland_threshold=0.8, split_touching=False), 5),
])
def test_a_slide_in_bands_gives_the_glands_of_the_whole_picture(names, post, seed):
    probabilities = rough((70, 57), len(names), seed)
    whole = glands_from_probabilities(probabilities, names, post, mpp=0.5)
    assert len(whole.glands) > 5
    rules = GlandRules(names, post, mpp=0.5)
    for heights, band_px in (([97], 200), ([10, 1, 7], 16), ([5], 9), ([1], 3)):
        glands, classes, ids, finder = found(probabilities, rules, heights, band_px)
        assert np.array_equal(classes, whole.class_map)
        assert without_ids(glands) == without_ids(whole.glands)  # to the last bit
        pairs = np.unique(np.stack([ids, whole.instances]).reshape(2, -1), axis=1)
        assert pairs.shape[1] == len(np.unique(ids))  # the same regions under other numbers
        assert (finder.divided, finder.left_out) == (0, whole.left_out)


@pytest.mark.parametrize(("post", "seed"), [
    (PostProcessing(min_gland_area_px=0, max_hole_area_px=0, min_gland_confidence=0), 1),
    (PostProcessing(min_gland_area_px=3, max_hole_area_px=60, gland_threshold=0.35, core_probability=0.8), 3),
])
def test_a_gland_that_the_edge_of_the_area_cuts_is_said_to_be_cut(post, seed):
    """The area: a blob in several parts, and a square of it lost."""
    tissue = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(70, 57)), 8) > -0.01
    tissue[30:36, 20:26] = False
    probabilities = rough((70, 57), 2, seed)
    probabilities[:, ~tissue] = np.array([1, 0], np.float32)[:, None]
    gland = probabilities[1] >= (post.gland_threshold or 0.5)
    cut = gland & ndimage.binary_dilation(np.pad(~tissue, 1, constant_values=True), np.ones((3, 3)))[1:-1, 1:-1]
    for heights, band_px in (([97], 200), ([10, 1, 7], 16), ([5], 9), ([1], 3), ([1], 1)):
        glands, _, ids, finder = found(probabilities, GlandRules(TWO, post, mpp=0.5), heights, band_px, tissue)
        expected = [bool(cut[ids == gland.id].any()) for gland in glands]
        assert [gland.touches_border for gland in glands] == expected
        assert 3 < sum(expected) < len(expected) - 3
        assert finder.divided == 0


@pytest.mark.parametrize(("down", "right"), [(-1, -1), (-1, 1), (1, -1), (1, 1)])
def test_a_gland_that_might_go_on_at_a_corner_is_cut(down, right):
    tissue, gland = np.ones((9, 9), bool), np.zeros((9, 9), bool)
    tissue[4, 4] = False
    gland[4 + down, 4 + right] = gland[4 - down, 4 - 3 * right] = True
    rules = GlandRules(TWO, PostProcessing(min_gland_area_px=0))
    for band_px in (9, 4, 1):
        glands, *_ = found(np.stack([~gland, gland]).astype(np.float32), rules, [9], band_px, tissue)
        assert {int(gland.centroid_y_px): gland.touches_border for gland in glands} == {4 + down: True, 4 - down: False}


def test_ids_and_order_do_not_depend_on_how_stripes_came():
    probabilities = rough((70, 50), 2, 7)
    rules = GlandRules(TWO, PostProcessing(min_gland_area_px=2, max_hole_area_px=20))
    one, other = (found(probabilities, rules, heights, 16) for heights in ([70], [9, 2]))
    assert one[0] == other[0]
    assert np.array_equal(one[2], other[2])


def sheet(hw):
    """A slide-wide sheet of gland, alone."""
    probabilities = np.zeros((2, *hw), np.float32)
    probabilities[1] = 0.9
    probabilities[1, :, :2] = probabilities[1, :4] = 0.1
    probabilities[0] = 1 - probabilities[1]
    return probabilities


@pytest.mark.parametrize("limit", ["MAX_GROUP_PX", "MAX_GROUP_ROWS", "MAX_HELD_PX"])
def test_what_is_too_large_to_hold_is_divided_into_blocks_that_say_they_are_cut(monkeypatch, limit):
    monkeypatch.setattr(groups, limit, {"MAX_GROUP_PX": 600, "MAX_GROUP_ROWS": 20, "MAX_HELD_PX": 600}[limit])
    monkeypatch.setattr(groups, "BLOCK_PX", 16)
    probabilities = sheet((100, 40))
    rules = GlandRules(TWO, PostProcessing(min_gland_area_px=0, max_hole_area_px=5))
    glands, classes, _, finder = found(probabilities, rules, [7], 8)
    assert np.array_equal(classes, (probabilities[1] > 0.5).astype(np.uint8))  # no pixel lost
    assert finder.divided > 1
    assert len(glands) > 10
    assert all(gland.touches_border for gland in glands)


def test_a_gland_below_a_sheet_that_was_divided_is_cut_above(monkeypatch):
    monkeypatch.setattr(groups, "MAX_GROUP_ROWS", 10)
    probabilities = sheet((30, 40))
    probabilities[:, 24:, :] = np.array([0.9, 0.1])[:, None, None]
    probabilities[:, 24:26, 20:22] = np.array([0.1, 0.9])[:, None, None]
    probabilities[:, :, 38:] = np.array([0.9, 0.1])[:, None, None]
    glands, _, _, _ = found(probabilities, GlandRules(TWO, PostProcessing(min_gland_area_px=0)), [30], 24)
    assert [(gland.area_px, gland.touches_border) for gland in glands] == [(20 * 36, True), (4, True)]


def test_bands_refuse_a_gap_and_a_missing_end():
    bands = Bands(SlideGrid(4, 20, 0.5))
    rows = np.zeros((2, 5, 4), np.float16)
    assert list(bands.add(Stripe(0, rows, rows[0] > 0))) == []
    with pytest.raises(ValueError, match="row 6 where row 5 was due"):
        list(bands.add(Stripe(6, rows, rows[0] > 0)))
    with pytest.raises(ValueError, match="end at row 5 of 20"):
        bands.finish()
