"""Which part of a slide is predicted: tissue, and outlines from GeoJSON with whatever is wrong with them."""

import json
from pathlib import Path

import numpy as np
import pytest
import shapely
from slide_files import damage_tile, write_slide

from hf_gland.errors import HfGlandError
from hf_gland.imaging.slide_levels import PictureLevels
from hf_gland.imaging.slides import Slide, open_slide
from hf_gland.imaging.tissue import tissue_mask
from hf_gland.inference.slides.area import Outlined, Tissue, Whole, find_area, read_roi
from hf_gland.inference.slides.plan import SlideGrid, slide_grid
from hf_gland.inference.slides.tiles import plan_tiles, runs
from hf_gland.options import Tiling

SQUARE = [[10, 20], [50, 20], [50, 60], [10, 60], [10, 20]]


def write(path: Path, *geometries) -> Path:
    features = [{"type": "Feature", "properties": {}, "geometry": geometry} for geometry in geometries]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def polygon(*rings):
    return {"type": "Polygon", "coordinates": rings}


def test_tissue_is_what_is_stained_without_specks_and_with_its_lumens():
    rgb = np.full((600, 900, 3), 240, np.uint8)
    rgb[200:400, 300:700] = (200, 120, 170)
    rgb[280:320, 400:500] = 250  # a lumen of 200 × 80 µm
    rgb[50:54, 100:104] = (200, 120, 170)  # a speck
    rgb[500:560, 100:300] = 120  # grey: no stain
    mask = tissue_mask(Slide(PictureLevels(rgb, 2.0, ""), "a", None, ""), (2.0, 2.0))
    assert mask.shape == (150, 225)
    assert mask[50:100, 75:175].all()
    assert not mask[:35].any()
    assert not mask[120:].any()
    assert mask[43:107, 68:182].sum() == mask.sum()


def test_what_cannot_be_decoded_may_be_tissue(tmp_path):
    rgb = np.full((600, 900, 3), 240, np.uint8)
    rgb[200:300, 300:400] = (200, 120, 170)
    path = write_slide(tmp_path / "a.tif", rgb, levels=2, resolution=(5000, "CENTIMETER"))
    for index in (7, 11):  # of the smaller level, tiles of 128 px, four in a row: x from 384, y from 128
        damage_tile(path, index, page=1)
    with open_slide(path) as slide:
        mask = tissue_mask(slide, (2.0, 2.0))
    assert mask.shape == (150, 225)
    assert mask[64:150, 192:225].all()  # 300 × 450 px of the level are these 150 × 225
    assert mask[50:75, 75:100].all()
    assert not mask[85:, :160].any()


def test_areas_say_the_same_of_rows_and_of_columns():
    grid = SlideGrid(90, 70, 0.5)
    mask = np.zeros((7, 9), bool)
    mask[2:4, 3] = mask[5, 7] = True
    outlined = Outlined(grid, (shapely.box(10, 20, 30, 45.2), shapely.box(60.6, 5, 64, 70)))
    for area in (Whole(grid), Tissue(grid, mask), outlined):
        rows = area.rows(0, 70)
        assert rows.shape == (70, 90)
        for top, bottom in ((0, 70), (13, 29), (41, 70)):
            assert np.array_equal(area.rows(top, bottom), rows[top:bottom])
            assert np.array_equal(area.columns(top, bottom), rows[top:bottom].any(0))
    assert np.array_equal(np.argwhere(Tissue(grid, mask).rows(0, 70)).min(0), (20, 30))
    assert outlined.rows(0, 70)[20:45, 10:30].all()
    assert outlined.rows(0, 70).sum() == 25 * 20 + 65 * 3  # x from 60.6: the centre of pixel 60 lies outside


def test_tiles_are_those_with_a_part_of_the_area_and_are_read_in_runs():
    grid = SlideGrid(400, 200, 0.5)
    mask = np.zeros((20, 40), bool)
    mask[3, 5] = mask[15, 39] = True  # x 50 to 60, y 30 to 40; the last columns of rows 150 to 160
    plan = plan_tiles(grid, Tissue(grid, mask), Tiling(64, 32))
    assert plan.left_px == (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 336)
    assert plan.wanted.sum() == plan.tiles
    assert [tuple(at) for at in np.argwhere(plan.wanted)] == [(0, 0), (0, 1), (1, 0), (1, 1), (3, 11), (4, 11), (5, 11)]
    assert [(run.row, run.first, run.last) for run in runs(plan)] == [(0, 0, 1), (1, 0, 1), (3, 11, 11), (4, 11, 11),
                                                                       (5, 11, 11)]
    every = plan_tiles(grid, Whole(grid), Tiling(64, 32))
    assert [(run.first, run.last) for run in runs(every) if run.row == 0] == [(0, 5), (6, 11)]


def test_the_grid_covers_the_slide_at_the_models_pixel_size():
    grid = slide_grid((2967, 2220), (0.499, 0.499), 1.24)
    assert (grid.width_px, grid.height_px, grid.mpp) == (893, 1194, 1.24)
    assert np.allclose(grid.to_level0(np.array([[893, 1194], [0, 0]])), [[2220, 2967], [0, 0]])
    assert slide_grid((100, 300), (0.5, 0.6), 1.0).scale_xy == (2.0, 100 / 60)
    assert (slide_grid((100, 300), (0.5, 0.5), None).width_px, slide_grid((100, 300), (0.5, 0.5), None).mpp) == (300, 0.5)


def test_outlines_are_read_and_mended(tmp_path):
    hole = [[20, 30], [30, 30], [30, 40], [20, 30]]
    (one,), notes = read_roi(write(tmp_path / "a.geojson", polygon(SQUARE, hole)), (100, 200))
    assert (one.area, len(one.interiors), notes) == (1550, 1, [])
    (open_ring,), notes = read_roi(write(tmp_path / "b.geojson", polygon(SQUARE[:-1])), (100, 200))
    assert (open_ring.area, notes) == (1600, [])
    bow = polygon([[0, 0], [40, 40], [40, 0], [0, 40], [0, 0]])
    parts, notes = read_roi(write(tmp_path / "c.geojson", bow), (100, 200))
    assert sum(part.area for part in parts) == 800
    assert "outline 1 crosses itself" in notes[0]
    (cut,), notes = read_roi(write(tmp_path / "d.geojson", polygon(SQUARE)), (40, 200))
    assert cut.area == 800
    assert "50% of the outlined area lies beyond the slide" in notes[0]


def test_what_is_no_outline_of_a_region_is_left_out_with_a_note(tmp_path):
    cell = {"properties": {"objectType": "cell"}, "geometry": polygon([[90, 0], [99, 0], [99, 9], [90, 0]])}
    line = {"geometry": {"type": "LineString", "coordinates": [[0, 0], [9, 9]]}}
    drawn = {"geometry": {"type": "GeometryCollection", "geometries": [polygon(SQUARE)]}}
    (tmp_path / "a.geojson").write_text(json.dumps([cell, line, drawn]))
    (one,), notes = read_roi(tmp_path / "a.geojson", (100, 200))
    assert one.bounds == (10, 20, 50, 60)
    (note,) = notes
    assert note.endswith("a.geojson: left out: 1 × LineString geometries, which enclose no area, 1 × cells")


@pytest.mark.parametrize(("content", "message"), [
    ("{", "not GeoJSON"), ("[1]", "feature 1 is not a GeoJSON object"),
    ('{"type": "Polygon", "coordinates": [[[0, "a"]]]}', "feature 1"),
    ('{"type": "Point", "coordinates": [1, 2]}', "holds no outline"), ('{"features": []}', "holds no outline"),
    ('{"type": "Polygon", "coordinates": [[[300, 20], [340, 20], [340, 50], [300, 20]]]}', "slide at full size"),
    ('{"type": "Polygon", "coordinates": [[[20, 150], [20, 190], [50, 190], [20, 150]]]}', "with x and y exchanged"),
    ('{"type": "Polygon", "coordinates": [[[NaN, 1], [2, 2], [3, 1], [NaN, 1]]]}', "feature 1: .*malformed"),
    ('{"type": "Polygon", "coordinates": [[[1, 1], [2, 2], [1, 1]]]}', "holds no outline")])
def test_outlines_that_cannot_be_used_are_refused(tmp_path, content, message):
    (tmp_path / "x.geojson").write_text(content)
    with pytest.raises(HfGlandError, match=message) as error:
        read_roi(tmp_path / "x.geojson", (100, 200))
    assert "x.geojson" in str(error.value)


def test_a_missing_file_of_outlines_is_named(tmp_path):
    slide = Slide(PictureLevels(np.zeros((9, 9, 3), np.uint8), 0.5, ""), "a", None, "")
    with pytest.raises(HfGlandError, match=r"none\.geojson: cannot be read \(No such file"):
        find_area(slide, SlideGrid(9, 9, 0.5), (0.5, 0.5), tmp_path / "none.geojson", False)


@pytest.mark.parametrize(("kind", "why"), [("zigzag", "3001 points that crosses"), ("spikes", "4004 points that runs to")])
def test_outlines_that_would_take_minutes_are_refused_with_their_number(tmp_path, kind, why):
    if kind == "zigzag":
        outline = np.random.default_rng(0).uniform(0, 900, (3_000, 2)).tolist()
    else:
        x, side = np.arange(4_000) / 2, np.arange(4_000) % 2
        outline = [*np.stack([x + 3_000 * side, 3_000.0 * side], axis=1).tolist(), [6_000, 3_010], [-10, 3_010], [-10, -10]]
    file = write(tmp_path / "roi.geojson", polygon(SQUARE), polygon([*outline, outline[0]]))
    with pytest.raises(HfGlandError, match=rf"roi\.geojson: feature 2: .*{why}"):
        read_roi(file, (1_000, 1_000))
    turns = np.linspace(0, 2 * np.pi, 3_001)
    disc = 500 + 400 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    (region,), notes = read_roi(write(tmp_path / "roi.geojson", polygon(disc.tolist())), (1_000, 1_000))
    assert region.area == pytest.approx(np.pi * 400**2, rel=0.01)
    assert notes == []
