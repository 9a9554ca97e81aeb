import csv
import json
import zipfile

import numpy as np
import pytest
import shapely.geometry
from gland_space.analysis import KINDS, Choice, analyse, default_choice, write_download
from gland_space.pictures import read_picture
from PIL import Image
from space_tools import discs

from hf_gland.export.formats import FORMATS
from hf_gland.imaging.pictures import Picture


@pytest.fixture
def analysis(make_demo):
    demo = make_demo()
    pixels = np.minimum(discs(2), np.roll(discs(1, darkness=0.7), 120, axis=1))
    pixels[0:5, 0:6] = 10
    return analyse(demo.model, Picture(pixels, "a.png", pixels.shape[:2]), 0.8, demo.limits)


CHOICE = Choice(uncertain_below=0.95, min_area=100)


def test_the_mask_holds_class_numbers_of_the_glands_that_are_kept(analysis, tmp_path):
    path = write_download("mask", analysis, CHOICE, "m", tmp_path)
    mask = np.asarray(Image.open(path))
    assert path.name == "a_mask.png"
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 1}
    assert mask[:5, :6].sum() == 0  # too small
    assert mask.sum() == sum(g.area_px for g in analysis.prediction.glands if g.area_um2 >= 100)


def test_the_confidence_is_16_bit(analysis, tmp_path):
    image = Image.open(write_download("confidence", analysis, CHOICE, "m", tmp_path))
    assert (image.format, image.mode) == ("PNG", "I;16")
    assert np.abs(np.asarray(image) / 65535 - analysis.prediction.confidence).max() < 1e-5


def test_geojson_has_a_valid_polygon_a_class_a_colour_and_measures_for_each_gland(analysis, tmp_path):
    collection = json.loads(write_download("geojson", analysis, CHOICE, "m", tmp_path).read_text())
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == 3
    for feature in collection["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert shape.area == feature["properties"]["measurements"]["Area px^2"]
        assert feature["properties"]["classification"]["name"] == "gland"
        assert len(feature["properties"]["classification"]["color"]) == 3
        unsure = feature["properties"]["measurements"]["Unsure"]
        assert unsure == (feature["properties"]["measurements"]["Mean confidence"] < 0.95)
    names = ["gland 1", "gland 2", "gland 3 (unsure)"]  # without the speck, and without a gap
    assert [f["properties"]["name"] for f in collection["features"]] == names
    assert [f["properties"]["measurements"]["Unsure"] for f in collection["features"]] == [0, 0, 1]


def test_of_a_reduced_picture_geojson_has_the_files_own_coordinates(make_demo, picture_file, tmp_path):
    demo = make_demo(max_side_px=130)
    picture = read_picture(picture_file(discs(2)), demo.limits)
    analysis = analyse(demo.model, picture, 0.8, demo.limits)
    features = json.loads(write_download("geojson", analysis, Choice(), "m", tmp_path).read_text())["features"]
    for feature, x in zip(features, (26, 78), strict=True):
        shape = shapely.geometry.shape(feature["geometry"])
        assert (shape.centroid.x, shape.centroid.y) == pytest.approx((x + 0.5, 50.5), abs=1)
        assert shape.area == pytest.approx(np.pi * 20**2, rel=0.08)
        assert feature["properties"]["measurements"]["Area px^2"] == pytest.approx(shape.area, rel=0.01)


def test_the_table_has_a_line_per_gland_with_units(analysis, tmp_path):
    with write_download("csv", analysis, CHOICE, "m", tmp_path).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert {"area_um2", "perimeter_um", "eccentricity", "mean_confidence", "low_confidence_share", "unsure"} <= set(rows[0])
    kept = [g for g in analysis.prediction.glands if g.area_um2 >= 100]
    assert [float(r["area_um2"]) for r in rows] == pytest.approx([g.area_um2 for g in kept], rel=1e-5)
    assert [(r["id"], r["unsure"]) for r in rows] == [("1", "0"), ("2", "0"), ("3", "1")]


def test_without_a_pixel_size_micrometres_are_left_empty(make_demo, tmp_path):
    demo = make_demo()
    pixels = discs(1)
    analysis = analyse(demo.model, Picture(pixels, "a.png", pixels.shape[:2]), None, demo.limits)
    with write_download("csv", analysis, Choice(), "m", tmp_path).open(encoding="utf-8", newline="") as file:
        row = next(csv.DictReader(file))
    assert row["area_um2"] == row["mpp"] == ""
    assert int(row["area_px"]) == analysis.prediction.glands[0].area_px


def test_the_zip_holds_every_file_the_same_and_how_they_were_made(analysis, tmp_path):
    with zipfile.ZipFile(write_download("zip", analysis, CHOICE, "owner/model@v1", tmp_path)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        for kind in FORMATS:
            single = write_download(kind, analysis, CHOICE, "owner/model@v1", tmp_path)
            assert archive.read(single.name) == single.read_bytes()
        settings = json.loads(archive.read("settings.json"))
    assert len(set(names)) == len(names) == len(FORMATS) + 1
    assert set(names) >= {"a.geojson", "a_confidence.png", "a_glands.csv", "a_heatmap.png", "a_instances.png",
                          "a_mask.png", "a_overlay.png", "settings.json"}
    assert (settings["model"], settings["mpp"], settings["unsure_below"], settings["min_area"], settings["min_area_unit"]
            ) == ("owner/model@v1", 0.8, 0.95, 100, "µm²")


def test_files_have_the_names_and_bytes_that_predict_gives(make_demo, picture_file, tmp_path):
    demo = make_demo()
    pixels = np.minimum(discs(4), np.roll(discs(1, darkness=0.7), 120, axis=1))
    pixels[0:5, 0:6] = 10  # a speck, which both leave out
    path = picture_file(pixels)
    picture = read_picture(path, demo.limits)
    analysis = analyse(demo.model, picture, 0.8, demo.limits)
    theirs = demo.model.segmenter.predict(path, 0.8).save(tmp_path / "predicted" / picture.stem, FORMATS)
    for kind, expected in zip(FORMATS, theirs, strict=True):
        ours = write_download(kind, analysis, default_choice(analysis), "m", tmp_path)
        assert (ours.name, ours.read_bytes()) == (expected.name, expected.read_bytes())


def test_nothing_else_is_left_behind(analysis, tmp_path):
    paths = [write_download(kind, analysis, CHOICE, "m", tmp_path) for kind in KINDS]
    assert sorted(p for p in tmp_path.rglob("*")) == sorted(paths)
