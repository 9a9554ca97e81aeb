"""Tiling and PostProcessing: defaults, mistakes, and areas in pixels."""

import dataclasses
import math

import pytest

from hf_gland.errors import HfGlandError, PixelSizeError
from hf_gland.options import ExportOptions, PostProcessing, Tiling


def test_tiles_overlap_by_a_quarter_whatever_their_size():
    assert (Tiling().tile_px, Tiling().stride_px) == (1024, 768)
    assert Tiling(tile_px=256).stride_px == 192
    assert Tiling(tile_px=130).stride_px == 97
    assert Tiling(tile_px=256, stride_px=256).stride_px == 256


@pytest.mark.parametrize(("options", "message"), [
    ({"tile_px": 8}, "tiles of 8 px"), ({"tile_px": 64, "stride_px": 65}, "65 px apart"),
    ({"stride_px": 0}, "0 px apart"), ({"batch_size": 0}, "batch_size must be at least 1"),
    ({"views": 0}, "views must lie between 1 and 4, got 0"), ({"views": 5}, "views must lie between 1 and 4, got 5"),
])
def test_senseless_tiles_are_refused(options, message):
    with pytest.raises(HfGlandError, match=message):
        Tiling(**options)


@pytest.mark.parametrize(("options", "message"), [
    ({"gland_threshold": 1.5}, "gland_threshold must lie between 0 and 1"),
    ({"gland_threshold": math.nan}, "gland_threshold must"), ({"core_probability": -1}, "core_probability must"),
    ({"min_gland_confidence": 85}, "min_gland_confidence must lie between 0 and 1"),
    ({"min_gland_area_um2": -1}, "min_gland_area_um2 must be an area"),
    ({"max_hole_area_px": math.inf}, "max_hole_area_px must be an area"),
])
def test_senseless_post_processing_is_refused(options, message):
    with pytest.raises(HfGlandError, match=message):
        PostProcessing(**options)


@pytest.mark.parametrize(("options", "message"), [
    ({"simplify_px": -1}, "simplify_px must be 0 or a positive"), ({"simplify_px": math.nan}, "simplify_px must"),
    ({"simplify_px": math.inf}, "simplify_px must"), ({"unsure_below": 75}, "unsure_below must lie between 0 and 1")])
def test_senseless_export_options_are_refused(options, message):
    with pytest.raises(HfGlandError, match=message):
        ExportOptions(**options)


def test_a_typo_names_the_group_and_the_word():
    with pytest.raises(TypeError, match=r"PostProcessing.*min_gland_area'"):
        PostProcessing(min_gland_area=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Tiling().views = 2


def test_a_core_is_surer_than_85_percent():
    assert (PostProcessing().core_probability, PostProcessing().split_touching) == (0.85, True)


def test_a_gland_has_a_mean_probability_of_85_percent_unless_the_threshold_of_its_pixels_was_chosen():
    assert PostProcessing().least_confidence == 0.85
    assert PostProcessing(gland_threshold=0.5).least_confidence == 0
    assert PostProcessing(gland_threshold=0.3, min_gland_confidence=0.4).least_confidence == 0.4
    assert PostProcessing(min_gland_confidence=0).least_confidence == 0
    assert ExportOptions().unsure_below == 0.9


@pytest.mark.parametrize(("mpp", "gland", "detail"), [(0.5, 2000, 800), (0.62, 1301, 520), (None, 0, 0)])
def test_the_smallest_gland_and_core_have_500_square_micrometres_and_the_smallest_hole_200(mpp, gland, detail):
    assert PostProcessing().areas_px(mpp) == (gland, detail, gland)


def test_areas_come_in_either_unit_and_pixels_take_precedence():
    assert PostProcessing(min_gland_area_um2=50, max_hole_area_um2=0).areas_px(0.5) == (200, 0, 2000)
    assert PostProcessing(min_gland_area_um2=50, min_gland_area_px=7).areas_px(0.5) == (7, 800, 2000)
    assert PostProcessing(min_gland_area_px=7).areas_px(None) == (7, 0, 0)
    with pytest.raises(PixelSizeError, match=r"a\.png: max_hole_area_um2 needs the image's µm per pixel"):
        PostProcessing(max_hole_area_um2=3).areas_px(None, "a.png")
