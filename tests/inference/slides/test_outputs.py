import csv
import gzip
import hashlib
import json

import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image
from shapely.geometry import shape

from hf_gland.export.formats import FORMATS
from hf_gland.inference.glands import GlandRules, glands_from_probabilities
from hf_gland.inference.slides.outputs import SlideOutputs
from hf_gland.inference.slides.plan import SlideGrid, Stripe
from hf_gland.options import ExportOptions, PostProcessing

NAMES = {0: "background", 1: "benign", 2: "malignant"}
POST = PostProcessing(min_gland_area_px=20, max_hole_area_px=30)
HW = (1100, 700)
GRID = SlideGrid(700, 1100, 0.5, origin_xy=(100.0, 40.0), scale_xy=(2.0, 2.5))


def scene():
    """Rings with lumina, some across the borders of bands, one with a hole to fill, of two classes; tissue in a part."""
    y, x = np.mgrid[:HW[0], :HW[1]]
    classes = np.zeros(HW, np.uint8)
    for number, (cy, cx, radius, lumen) in enumerate([(100, 100, 60, 20), (512, 200, 90, 40), (515, 500, 50, 2),
                                                      (1020, 300, 70, 0), (1090, 600, 40, 10)]):
        distance = np.hypot(y - cy, x - cx)
        classes[distance < radius] = 1 + number % 2
        classes[distance < lumen] = 0
    tissue = np.ones(HW, bool)
    tissue[:, 650:] = False
    classes[~tissue] = 0
    probabilities = np.full((3, *HW), 0.04, np.float32)
    np.put_along_axis(probabilities, classes[None].astype(np.intp), np.float32(0.92), axis=0)
    probabilities[:, ~tissue] = np.array([1, 0, 0], np.float32)[:, None]
    return probabilities, tissue


def write(stem, probabilities, tissue, step, formats=tuple(FORMATS), record=None):
    thumbnail = np.full((550, 350, 3), 230, np.uint8)
    with SlideOutputs(stem, formats, GlandRules(NAMES, POST, mpp=0.5), GRID, thumbnail, "a slide.svs",
                      ExportOptions(unsure_below=0.7)) as outputs:
        for top in range(0, HW[0], step):
            outputs.add(Stripe(top, probabilities[:, top:top + step].astype(np.float32), tissue[top:top + step]))
        assert not outputs.record_path.exists()
        outputs.finish({"slide": "a slide.svs", "seconds": {"network": 1.5}, **(record or {})})
    return outputs


def test_what_is_written_of_a_slide_is_what_its_glands_are(tmp_path):
    probabilities, tissue = scene()
    outputs = write(tmp_path / "s" / "a slide", probabilities, tissue, 130)
    whole = glands_from_probabilities(probabilities, NAMES, POST, mpp=0.5)
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [
        "a slide.geojson", "a slide.geojson.gz", "a slide.json", "a slide_confidence.ome.tif", "a slide_glands.csv",
        "a slide_mask.ome.tif", "a slide_overlay.png"]

    text = outputs.paths["geojson"].read_bytes()
    assert gzip.decompress(outputs.paths["geojson.gz"].read_bytes()) == text
    features = json.loads(text)["features"]
    assert len(features) == len(whole.glands) == 5
    for feature, gland in zip(sorted(features, key=lambda f: f["properties"]["measurements"]["Area px^2"]),
                              sorted(whole.glands, key=lambda g: g.area_px), strict=True):
        polygon = shape(feature["geometry"])
        assert polygon.is_valid
        assert polygon.area == pytest.approx(gland.area_px * 5)  # 2 × 2.5
        assert polygon.envelope.contains(shapely.Point(gland.centroid_x_px * 2 + 100, gland.centroid_y_px * 2.5 + 40))
        measured = feature["properties"]["measurements"]
        assert measured["Area µm^2"] == gland.area_px / 4
        assert feature["properties"]["classification"]["name"] == gland.class_name
        assert all(ring[0] == ring[-1] for ring in feature["geometry"]["coordinates"])
    assert sum(len(feature["geometry"]["coordinates"]) - 1 for feature in features) == 2  # one is filled, one open

    with outputs.paths["csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["area_px"]) for row in rows) == sorted(gland.area_px for gland in whole.glands)
    assert {row["image"] for row in rows} == {"a slide.svs"}
    assert sorted(float(row["centroid_x_px"]) for row in rows) == pytest.approx(
        sorted(gland.centroid_x_px * 2 + 100 for gland in whole.glands), rel=1e-5)

    record = json.loads(outputs.record_path.read_text("utf-8"))
    assert record["figures"] == {
        "glands": 5, "unsure": 0, "left_out": 0, "reach_border": 1, "gland_px": int((whole.class_map > 0).sum()),
        "area_px": 1100 * 650, "mean_confidence": 0.92}
    assert set(record["seconds"]) == {"network", "finding glands", "writing"}
    assert record["files"]["a slide.geojson"] == {"bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    assert len(record["files"]) == 6


def test_what_the_network_is_hardly_sure_of_is_counted_and_not_written(tmp_path):
    rules = GlandRules(NAMES, PostProcessing(min_gland_confidence=0.97, min_gland_area_px=20, max_hole_area_px=30), mpp=0.5)
    probabilities, tissue = scene()
    with SlideOutputs(tmp_path / "a", ["geojson"], rules, GRID, np.zeros((9, 9, 3), np.uint8), "a.svs") as outputs:
        for top in (0, 500):
            outputs.add(Stripe(top, probabilities[:, top:top + 500 + top], tissue[top:top + 500 + top]))
        outputs.finish({})
    figures = json.loads(outputs.record_path.read_text("utf-8"))["figures"]
    assert (figures["glands"], figures["left_out"], figures["gland_px"]) == (0, 5, 0)
    assert json.loads(outputs.paths["geojson"].read_text())["features"] == []


def test_maps_are_pyramids_that_state_their_pixel_size(tmp_path):
    probabilities, tissue = scene()
    outputs = write(tmp_path / "a", probabilities, tissue, 1100, ["mask", "confidence", "instances"])
    whole = glands_from_probabilities(probabilities, NAMES, POST)
    expected = {"mask": whole.class_map, "confidence": np.where(tissue, np.uint8(92), np.uint8(0))}
    assert set(outputs.paths) == {"mask", "confidence"}  # gland ids there are of pictures alone
    for name, path in outputs.paths.items():
        with tifffile.TiffFile(path) as file:
            assert file.is_ome
            (series,) = file.series
            assert [level.shape for level in series.levels] == [(1100, 700), (550, 350), (275, 175)]
            assert np.array_equal(series.levels[0].asarray(), expected[name])
            assert np.array_equal(series.levels[1].asarray(), expected[name][::2, ::2])  # 650 is even: no mean over an edge
            page = series.levels[0].pages[0]
            assert (page.tilewidth, page.tilelength, page.compression.name) == (512, 512, "ADOBE_DEFLATE")
            assert len(page.subifds) == 2
            assert 'PhysicalSizeX="0.5" PhysicalSizeXUnit="µm"' in file.ome_metadata


def test_outlines_lie_on_the_thumbnail(tmp_path):
    outputs = write(tmp_path / "a", *scene(), 1100, ["overlay"])
    drawn = np.asarray(Image.open(outputs.paths["overlay"]).convert("RGB"))
    assert drawn.shape == (550, 350, 3)
    changed = (drawn != 230).any(axis=2)
    assert changed[50 - 30:50 + 30, 50].any()  # the first ring's upper or lower rim
    assert not changed[50, 50]  # its lumen
    assert not changed[:15].any()
    assert len(np.unique(drawn[changed], axis=0)) == 2  # two classes


def test_files_do_not_depend_on_the_height_of_stripes(tmp_path):
    probabilities, tissue = scene()
    one = write(tmp_path / "one" / "a", probabilities, tissue, 1100)
    other = write(tmp_path / "other" / "a", probabilities, tissue, 77)
    for path, same in zip(one.paths.values(), other.paths.values(), strict=True):
        assert path.read_bytes() == same.read_bytes(), path.name


def test_a_slide_that_fails_leaves_nothing_and_what_a_kill_left_is_written_over(tmp_path):
    probabilities, tissue = scene()
    with pytest.raises(KeyboardInterrupt), SlideOutputs(  # noqa: PT012 - the files are there until it ends
            tmp_path / "a", FORMATS, GlandRules(NAMES, POST), GRID, np.zeros((5, 5, 3), np.uint8), "a") as outputs:
        outputs.add(Stripe(0, probabilities[:, :600], tissue[:600]))
        begun = sorted(tmp_path.iterdir())
        assert len(begun) == 6
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with SlideOutputs(tmp_path / "a", FORMATS, GlandRules(NAMES, POST), GRID, np.zeros((5, 5, 3), np.uint8), "a"):
        pass  # left without an end
    assert list(tmp_path.iterdir()) == []
    for path in begun:
        path.write_bytes(b"what a killed run left")
    write(tmp_path / "a", probabilities, tissue, 1100)
    assert not set(begun) & set(tmp_path.iterdir())


def test_an_empty_slide_says_so(tmp_path):
    probabilities = np.zeros((3, *HW), np.float32)
    probabilities[0] = 1
    outputs = write(tmp_path / "a", probabilities, np.ones(HW, bool), 500, record={"notes": ["one"]})
    assert json.loads(outputs.paths["geojson"].read_text()) == {"type": "FeatureCollection", "features": []}
    assert json.loads(outputs.record_path.read_text())["notes"] == ["one", "no gland was found"]
