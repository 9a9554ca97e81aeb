"""Slides on the server's side: overview, tiles, the part for the model, and the files that come of it."""

import csv
import json
from dataclasses import replace

import gradio as gr
import numpy as np
import pytest
import shapely.geometry
from gland_space.analysis import Choice, analyse, settings, stage_view, write_download
from gland_space.annotation import decode_mask, geojson_file, make_drawing
from gland_space.demo import Demo, Loaded
from gland_space.model_source import ModelSource
from gland_space.page import AnnotateTab, SegmentTab
from gland_space.pictures import Limits
from gland_space.slides import (
    PartError,
    opens_as_slide,
    part_of,
    read_overview,
    read_part,
    read_whole,
    tile_images,
    whole_slide_command,
)
from gradio.data_classes import FileData
from PIL import Image
from slide_files import texture, write_dicom
from slide_scene import write_scene
from test_view import decoded

from hf_gland.imaging.slides import Box, open_slide
from hf_gland.inference import ImageError

DISCS = [(1100, 2130, 40), (1300, 2180, 30), (3900, 300, 40)]
WIDE, HIGH = 4400, 3000


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("slides") / "scene.svs", WIDE, HIGH, DISCS, levels=4)


@pytest.fixture(scope="module")
def ome_scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("slides") / "scene.ome.tif", 2 * WIDE, 2 * HIGH,
                       [(2 * x, 2 * y, 2 * r) for x, y, r in DISCS], levels=4, mpp=0.25, ome=True)


def test_the_overview_is_the_level_that_fits(scene, ome_scene):
    overview = read_overview(scene, Limits())
    assert overview.rgb.shape == (HIGH // 4, WIDE // 4, 3)  # 1100 px: the first of 4400, 2200, 1100, 550 below 2048
    assert (overview.full_hw, overview.mpp, overview.reduction, overview.name) == ((HIGH, WIDE), 0.5, 4, "scene.svs")
    assert "4400×3000 px, read by OpenSlide" in overview.notes[0]
    assert overview.rgb[2130 // 4, 1100 // 4].max() < 60
    of_ome = read_overview(ome_scene, Limits())
    assert (of_ome.rgb.shape, of_ome.full_hw, of_ome.mpp) == ((HIGH // 4, WIDE // 4, 3), (2 * HIGH, 2 * WIDE), 0.25)


def test_a_tile_is_what_the_slide_shows_there_at_the_resolution_of_its_level(scene, ome_scene):
    overview = read_overview(scene, Limits())
    full, edge = tile_images(scene, overview, {"level": 0, "at": [[2, 4], [8, 5]]})
    with open_slide(scene) as slide:
        expected = slide.region(Box(1024, 2048, 512, 512), (512, 512)).rgb
    assert np.abs(decoded(full)[1].astype(int) - expected).mean() < 3
    assert decoded(full)[1][2130 - 2048, 1100 - 1024:1116 - 1024].std() > 10  # stripes that no smaller level has
    assert decoded(edge)[1].shape == (HIGH - 5 * 512, WIDE - 8 * 512, 3)
    for path, level in ((scene, 1), (ome_scene, 2)):  # the same tissue
        (small,) = tile_images(path, read_overview(path, Limits()), {"level": level, "at": [[1, 2]]})
        pixels = decoded(small)[1]
        assert pixels.shape == ((HIGH - 2 * 1024) // 2, 512, 3)
        assert pixels[41, 38].max() < 80  # (1100, 2130) in steps of 2 from (1024, 2048)
        assert pixels[41, 38 + 24].min() > 200


@pytest.mark.parametrize("asked", [
    {}, {"level": 0}, {"level": 0, "at": []}, {"level": 0, "at": [[0]]}, {"level": "x", "at": [[0, 0]]},
    {"level": -1, "at": [[0, 0]]}, {"level": 10**12, "at": [[0, 0]]}, {"level": 0, "at": [[9, 0]]},
    {"level": 0, "at": [[0, -1]]}, {"level": 0, "at": [[0, 0]] * 17},
    {"level": 4, "at": [[0, 0]]}, {"level": 0, "at": [[float("inf"), 0]]}, {"level": 0, "at": "../../etc"}])
def test_what_is_no_tile_is_refused(scene, asked):
    with pytest.raises(PartError, match="No such tiles"):
        tile_images(scene, read_overview(scene, Limits()), asked)


def test_tiles_are_had_by_the_key_of_a_slide_alone(make_demo, scene, picture_file):
    demo = make_demo()
    key, loaded = demo.load(scene)
    assert loaded.is_slide
    assert len(demo.tiles({"view": key, "level": 0, "at": [[0, 0], [1, 0]]})) == 2
    assert demo.tiles({"view": key, "level": 9, "at": [[0, 0]]}) is None
    assert demo.tiles({"view": str(scene), "level": 0, "at": [[0, 0]]}) is None
    other, _ = demo.load(picture_file(np.full((600, 600, 3), 9, np.uint8)))
    assert demo.tiles({"view": other, "level": 0, "at": [[0, 0]]}) is None
    demo.store.drop(key)
    assert demo.tiles({"view": key, "level": 0, "at": [[0, 0]]}) is None


def test_a_file_of_no_slide_is_read_as_a_picture_and_a_damaged_one_is_told_of_by_its_name(make_demo, picture_file, tmp_path):
    demo = make_demo()
    path = picture_file(np.full((60, 80, 3), 200, np.uint8), "plain.tif")
    assert not opens_as_slide(path)
    assert not demo.load(path)[1].is_slide
    broken = tmp_path / "broken.svs"
    broken.write_bytes(b"II*\0" + bytes(3000))
    with pytest.raises(ImageError, match=r"broken\.svs: no slide that can be read") as caught:
        demo.load(broken)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(ImageError, match=r"is a slide\. Open it in the Segment tab"):
        demo.load(broken, slides=False)


def segmented(demo, path, part, mpp=0.5):
    overview = read_overview(path, demo.limits)
    box = part_of({"part": part}, overview.full_hw)
    picture = read_part(path, overview, box, mpp, demo.model.segmenter.mpp, demo.limits)
    return overview, analyse(demo.model, picture, mpp, demo.limits)


def test_a_part_is_segmented_at_the_models_pixel_size_and_its_files_count_in_pixels_of_the_slide(make_demo, scene, tmp_path):
    demo = make_demo(mpp=1.0)
    overview, analysis = segmented(demo, scene, [1000.4, 2049.6, 1601, 2450])
    part = analysis.picture
    assert (part.rgb.shape[:2], part.full_hw, part.origin_xy) == ((200, 301), (400, 601), (1000, 2050))
    with open_slide(scene) as slide:
        assert np.array_equal(part.rgb, slide.region(Box(1000, 2050, 601, 400), (200, 301)).rgb)
    assert part.name == "scene_x1000_y2050.svs"
    outlines = json.loads(write_download("geojson", analysis, Choice(), "m", tmp_path).read_text())["features"]
    with write_download("csv", analysis, Choice(), "m", tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(outlines) == len(rows) == 2
    for outline, row, (x, y, radius) in zip(outlines, rows, DISCS, strict=False):
        shape = shapely.geometry.shape(outline["geometry"])
        assert (shape.centroid.x, shape.centroid.y) == pytest.approx((x, y), abs=1)
        assert (float(row["centroid_x_px"]), float(row["centroid_y_px"])) == pytest.approx((x, y), abs=1)
        assert float(row["area_um2"]) == pytest.approx(np.pi * (radius / 2)**2, rel=0.05)
    assert settings(analysis, Choice(), "m")["origin_xy_px"] == [1000, 2050]

    view = stage_view(overview, analysis)
    assert (view["full"], view["width"]) == ([WIDE, HIGH], 1100)
    assert (view["part"], view["grid"]) == ([1000, 2050, 601, 400], [301, 200])
    assert decoded(view["data"])[1].shape == (200, 301, 3)
    assert Loaded(overview, scene, analysis, True).nbytes == overview.rgb.nbytes + analysis.nbytes
    shown = stage_view(part, analysis)  # on the Annotate tab, where it is the whole picture
    assert (shown["part"], shown["origin"], view["origin"]) == ([0, 0, 601, 400], [1000, 2050], [0, 0])


def test_parts_are_bounded_and_what_names_none_is_told_how_to(make_demo, scene):
    overview = read_overview(scene, Limits())
    assert part_of({"part": [-50, -3, 99999, 200.4]}, overview.full_hw) == (0, 0, WIDE, 200)
    for part in (None, [1, 2, 3], ["a", 0, 1, 1], [0, 0, float("nan"), 9]):
        value = None if part is None else {"part": part}
        with pytest.raises(PartError, match="Zoom to the part"):
            part_of(value, overview.full_hw)
    with pytest.raises(PartError, match="outside the slide"):
        part_of({"part": [5000, 0, 6000, 100]}, overview.full_hw)
    few = Limits(max_region_px=10**6)
    assert read_part(scene, overview, (0, 0, 2000, 2000), 0.5, 1.0, few).rgb.shape == (1000, 1000, 3)
    with pytest.raises(PartError, match="2002×2000 px is 1 million pixels for the model, and 1 million can be"):
        read_part(scene, overview, (0, 0, 2002, 2000), 0.5, 1.0, few)
    assert read_part(scene, overview, (0, 0, 900, 700), None, 1.0, few).rgb.shape == (700, 900, 3)
    with pytest.raises(PartError, match="too small"):
        read_part(scene, overview, (0, 0, 40, 300), 0.5, 1.0, few)


def test_programs_get_a_slide_at_full_resolution_where_it_is_small_enough(ome_scene):
    whole = read_whole(ome_scene, 1, None, 0.5, Limits())  # 8800×6000 px of 0.25 µm: 13 million pixels at the model's
    assert (whole.rgb.shape, whole.full_hw, whole.mpp, whole.name) == (
        (HIGH, WIDE, 3), (2 * HIGH, 2 * WIDE), 0.25, "scene.ome.tif")
    assert whole.notes == ()
    few = read_whole(ome_scene, 1, None, 0.5, Limits(max_region_px=13 * 10**6, max_side_px=2000))
    assert (max(few.rgb.shape), few.full_hw) == (2000, (2 * HIGH, 2 * WIDE))
    assert "Reduced from 8800×6000 to 2000×1364 px" in few.notes[0]


def test_programs_get_a_large_slide_as_it_is_read_with_the_pixel_size_that_it_states(tmp_path):
    path = write_dicom(tmp_path / "dicom", texture((1200, 2400)), levels=2)[0]
    few = Limits(max_region_px=10**4, max_side_px=1500)
    reduced = read_whole(path, 1, None, 0.5, few)
    with open_slide(path) as slide:
        assert np.array_equal(reduced.rgb, slide.whole(1500).rgb)
    assert (reduced.full_hw, reduced.mpp, reduced.name, len(reduced.notes)) == ((1200, 2400), 0.5, "level_0.dcm", 1)
    assert "Reduced from 2400×1200 to 1500×750 px (limit: 1500 px a side)" in reduced.notes[0]
    smaller = read_whole(path, 1, None, 0.5, replace(few, max_decoded_px=600 * 1200))
    assert smaller.rgb.shape == (600, 1200, 3)  # of the level that may be decoded whole
    with pytest.raises(ImageError, match=r"level_0\.dcm: 2400×1200 px is too small to show a gland; at least 1201 px"):
        read_whole(path, 1, None, 0.5, replace(few, min_side_px=1201))


def test_the_command_for_the_whole_slide_names_the_model_as_it_is_got(tmp_path, monkeypatch):
    assert whole_slide_command("a b.svs", ModelSource("me/glands", "v1")) == (
        "hf-gland predict 'a b.svs' --model me/glands --revision v1 --out results")
    (tmp_path / "here" / "runs" / "demo" / "run" / "model").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder, named in (("runs/demo/run/model", "runs/demo/run/model"),
                          (str(tmp_path / "here" / "runs" / "demo" / "run" / "model"), "runs/demo/run/model"),
                          (str(tmp_path / "elsewhere"), "path/to/model")):  # no full path of the server is shown
        assert whole_slide_command("a.svs", ModelSource(folder)) == f"hf-gland predict a.svs --model {named} --out results"


def test_the_command_for_the_whole_slide_names_the_file_as_it_was_sent(make_demo, tmp_path):
    demo = make_demo()
    with gr.Blocks():
        tab = SegmentTab(demo, [])
    scene = write_scene(tmp_path / "a b (1).svs", 600, 400, [], levels=2)  # gradio drops some characters itself
    for sent, named in (("a b ($1).svs", "'a b ($1).svs'"), ("C:\\scans\\<i>.svs", "'<i>.svs'"),
                        ("a\x1b[201~\n.svs", "'a[201~.svs'"), (None, "'a b (1).svs'")):
        path = tab.drop.preprocess(FileData(path=str(scene), orig_name=sent))
        key, loaded = demo.load(path)
        assert tab.view(key)["command"] == f"hf-gland predict {named} --model test/dark-is-gland --out results"
        assert loaded.picture.name == "a_b_1.svs"
    assert tab.drop.preprocess(None) is None


def annotate_tab(demo):
    with gr.Blocks():
        return AnnotateTab(demo, [], SegmentTab(demo, []), gr.Tabs())


@pytest.mark.parametrize("with_model", [True, False])
def test_a_part_of_a_slide_is_taken_over_to_be_annotated_in_pixels_of_the_slide(make_demo, scene, tmp_path, with_model):
    demo = make_demo(mpp=1.0, max_annotated_px=150)
    if not with_model:
        demo = Demo(None, None, tmp_path / "files", demo.limits)
    annotate = annotate_tab(demo)
    key, _ = demo.load(scene)
    value = {"view": key, "part": [1000, 2000, 1400, 2300]}
    asked = annotate.take_over(value, "1,0", False)  # as it is typed
    picture = demo.store.get(asked[annotate.stage]["view"]).picture
    assert (picture.rgb.shape[1], picture.full_hw, picture.origin_xy) == (150, (300, 400), (1000, 2000))
    assert (asked[annotate.mpp], asked[annotate.image_id]) == ("1", "scene_x1000_y2000")
    assert annotate.view(asked[annotate.stage]["view"])["mpp"] == 1
    for typed, words in (("20x", "not a number"), ("nan", "not a plausible pixel size")):
        assert words in annotate.take_over(value, typed, False)[annotate.status]
    mask = np.full(picture.rgb.shape[:2], 255, np.uint8)
    mask[30:60, 15:45] = 1
    drawing = make_drawing(picture, mask, "a", "", 0.5)
    assert drawing.mpp == pytest.approx(0.5 * 400 / 150, rel=1e-5)
    feature = json.loads(geojson_file(drawing, ("background", "gland"), tmp_path).read_text())["features"][0]
    bounds = shapely.geometry.shape(feature["geometry"]).bounds
    scale_x, scale_y = 400 / 150, 300 / picture.rgb.shape[0]
    assert bounds == pytest.approx((1000 + 15 * scale_x, 2000 + 30 * scale_y, 1000 + 45 * scale_x, 2000 + 60 * scale_y))


@pytest.mark.parametrize("limit_px", [150, 2048])
def test_what_was_reviewed_on_a_part_comes_along_where_the_part_is_made_smaller_too(make_demo, scene, limit_px):
    demo = make_demo(mpp=1.0, max_annotated_px=limit_px)
    annotate = annotate_tab(demo)
    _, loaded = demo.load(scene)
    _, analysis = segmented(demo, scene, [1000, 2000, 1400, 2300], mpp=0.4)
    value = {"view": demo.keep(replace(loaded, analysis=analysis)), "uncertain_below": 0.9, "min_area": 0,
             "accepted": [1], "rejected": [2]}
    asked = annotate.take_over(value, "0.6", True)  # typed since the glands were found
    picture = demo.store.get(asked[annotate.stage]["view"]).picture
    assert picture.rgb.shape[1] == min(limit_px, 160)
    mask = decode_mask(asked[annotate.stage]["given"], picture, 2)
    at = [mask[int((y - 2000) / picture.reduction), int((x - 1000) / picture.reduction)] for x, y, _ in DISCS[:2]]
    assert (at, mask[0, 0], asked[annotate.mpp]) == ([1, 0], 255, "0.4")
    assert annotate.restore(asked[annotate.stage])[annotate.mpp] == "0.4"  # after the page was reloaded


def test_a_picture_made_smaller_to_be_drawn_on_keeps_the_pixel_size_that_was_typed(make_demo, tmp_path):
    demo = make_demo(mpp=1.0, max_annotated_px=150)
    annotate = annotate_tab(demo)
    Image.fromarray(np.full((200, 300, 3), 200, np.uint8)).save(tmp_path / "large.png", dpi=(25400, 25400))  # states 1 µm
    key, loaded = demo.load(tmp_path / "large.png")
    assert loaded.picture.mpp == pytest.approx(1.0, rel=0.01)
    asked = annotate.take_over({"view": key}, "0.25", False)
    kept = demo.store.get(asked[annotate.stage]["view"])
    assert (kept.picture.rgb.shape[1], asked[annotate.mpp]) == (150, "0.25")
    assert annotate.view(asked[annotate.stage]["view"])["mpp"] == 0.25  # what the scale bar is drawn by
    assert annotate.restore(asked[annotate.stage])[annotate.mpp] == "0.25"  # after the page was reloaded
