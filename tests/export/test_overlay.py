import dataclasses

import numpy as np
import pytest
from PIL import Image

from hf_gland.errors import HfGlandError
from hf_gland.export.overlay import (
    draw_outlines,
    line_width_px,
    write_comparison,
    write_heatmap,
    write_overlay,
)
from hf_gland.labels import class_colour

GREY = np.full((30, 40, 3), 200, np.uint8)


def test_rims_lie_inside_the_glands_in_their_classes_colours(two_glands):
    drawn = draw_outlines(GREY, two_glands.class_map, two_glands.instances, width_px=1)
    changed = (drawn != GREY).any(axis=2)
    assert not (changed & (two_glands.instances == 0)).any()
    assert (drawn[20, 30:36] == class_colour(2)).all()
    assert (drawn[5, 4:16] == class_colour(1)).all()
    assert (drawn[8, 8:12] == class_colour(1)).all()  # around the hole
    assert not changed[22:24, 32:34].any()
    assert (GREY == 200).all()  # the image itself is left alone


def test_touching_glands_are_told_apart():
    instances = np.ones((10, 20), np.int32)
    instances[:, 10:] = 2
    drawn = draw_outlines(np.zeros((10, 20, 3), np.uint8), np.ones((10, 20), np.uint8), instances, width_px=1)
    assert (drawn.any(axis=2) == np.isin(np.arange(20), [9, 10])).all()  # and nothing along the image's border


def test_lines_grow_with_the_image():
    assert line_width_px((100, 120)) == 2
    assert line_width_px((522, 775)) == 3
    assert line_width_px((4000, 3000)) == 16


def test_the_overlay_has_the_images_size(drawn, two_glands):
    picture = drawn(write_overlay, dataclasses.replace(two_glands, rgb=GREY))
    assert picture.size == (40, 30)
    expected = draw_outlines(GREY, two_glands.class_map, two_glands.instances)
    assert np.array_equal(np.asarray(picture), expected)
    with pytest.raises(HfGlandError, match="made without its image"):
        drawn(write_overlay, two_glands)


def test_the_heat_map_has_a_colour_bar_and_shows_confidence(drawn, two_glands):
    low = two_glands.confidence.copy()
    low[:15] = 0.4
    unsure = type(two_glands)(**{**vars(two_glands), "confidence": low})
    pictures = [np.asarray(drawn(write_heatmap, p).convert("RGB")).astype(int) for p in (two_glands, unsure)]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0] != pictures[1]).any(axis=2).mean() > 0.2
    assert len(np.unique(pictures[0][:, -120:-60].reshape(-1, 3), axis=0)) > 100  # the bar's gradient


@pytest.mark.parametrize("hw", [(1, 1), (1, 300), (20, 20)])
def test_pictures_of_any_shape_are_drawn(tmp_path, drawn, predicted, hw):
    prediction = predicted(np.zeros(hw, np.uint8))
    truth = np.full(hw, 255, np.uint8)
    comparison = write_comparison(tmp_path / "c.png", np.zeros((*hw, 3), np.uint8), truth, prediction)
    sizes = [drawn(write_heatmap, prediction).size, Image.open(comparison).size]
    assert all(min(size) > 50 for size in sizes)
    assert sizes[1][0] > sizes[0][0]


def test_the_heat_map_outlines_touching_glands_apart(drawn, predicted):
    one = predicted(np.pad(np.ones((20, 30), np.uint8), 5))
    two = type(one)(**{**vars(one), "instances": one.instances + (np.arange(40) >= 20) * one.instances})
    pictures = [np.asarray(drawn(write_heatmap, p).convert("RGB")) for p in (one, two)]
    assert (pictures[0] != pictures[1]).any()


def test_a_comparison_counts_the_true_glands_it_is_given(tmp_path, two_glands):
    drawn = [np.asarray(Image.open(write_comparison(tmp_path / f"{i}.png", GREY, two_glands.class_map, two_glands, ids)))
             for i, ids in enumerate((None, (two_glands.instances > 0).astype(np.int32)))]
    assert (drawn[0] != drawn[1]).any()


def test_a_comparison_shows_truth_and_prediction(tmp_path, two_glands):
    empty = np.zeros((30, 40), np.uint8)
    with_truth = write_comparison(tmp_path / "a.png", GREY, two_glands.class_map, two_glands)
    without = write_comparison(tmp_path / "b.png", GREY, empty, two_glands)
    first, second = (np.asarray(Image.open(p).convert("RGB")) for p in (with_truth, without))
    assert first.shape == second.shape
    different = (first != second).any(axis=(0, 2))
    third = first.shape[1] // 3
    assert different[:third].any()
    assert not different[third:].any()
