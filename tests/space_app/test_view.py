import base64
import io
import json
import re

import numpy as np
import pytest
from gland_space.analysis import analyse, stage_view, svg_path
from PIL import Image
from space_tools import discs

from hf_gland.export.polygons import region_polygons
from hf_gland.glands import Gland
from hf_gland.imaging.pictures import Picture
from hf_gland.inference import GlandPrediction
from hf_gland.labels import class_colour


def decoded(uri):
    kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.+)", uri).groups()
    return kind, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def numbers(data):
    return data[..., 0].astype(int) + 256 * data[..., 1].astype(int)


def analysed(demo, pixels, mpp=0.8):
    return analyse(demo.model, Picture(pixels, "a.png", pixels.shape[:2]), mpp, demo.limits)


def test_the_browser_gets_every_pixels_gland_and_confidence(make_demo):
    pixels = discs(10)
    analysis = analysed(make_demo(), pixels)
    view = stage_view(analysis.picture, analysis)
    kind, data = decoded(view["data"])
    assert kind == "png"
    ids = numbers(data)
    assert np.array_equal(ids, analysis.prediction.instances)
    assert np.abs(data[..., 2] / 255 - analysis.prediction.confidence).max() <= 0.5 / 255 + 1e-6
    assert decoded(view["image"])[1].shape == pixels.shape
    assert [c["name"] for c in view["classes"]] == ["background", "gland"]
    assert view["classes"][1]["colour"] == "#" + bytes(class_colour(1)).hex()
    assert (len(view["ramp"]), view["lowest"], view["unit"], view["mpp"]) == (256, 0.5, "µm", 0.8)
    json.dumps(view, allow_nan=False)


def filled(path, hw):
    """The pixels inside an SVG path of axis-parallel edges, by the even-odd rule."""
    inside = np.zeros(hw, int)
    for part in path.split("M")[1:]:
        x, y, steps = re.fullmatch(r"(\d+) (\d+)(.*)z", part).groups()
        x, y = int(x), int(y)
        start = (x, y)
        edges = []
        for axis, size in re.findall(r"([hv])(-?\d+)", steps):
            end = (x + int(size), y) if axis == "h" else (x, y + int(size))
            edges.append((x, y, *end))
            x, y = end
        edges.append((x, y, *start))
        for x0, y0, x1, y1 in edges:
            if x0 == x1:
                inside[min(y0, y1):max(y0, y1), x0:] += 1
    return inside % 2 == 1


def test_outlines_enclose_exactly_their_pixels():
    rng = np.random.default_rng(0)
    for density in (0.3, 0.6, 0.9):
        region = rng.random((14, 17)) < density
        box = np.zeros((20, 25), bool)
        box[3:17, 5:22] = region
        assert np.array_equal(filled(svg_path(region_polygons(region), 5, 3), box.shape), box)


def test_each_gland_comes_with_its_outline_and_measures(make_demo):
    analysis = analysed(make_demo(), discs(3))
    view = stage_view(analysis.picture, analysis)
    for shown, gland in zip(view["glands"], analysis.prediction.glands, strict=True):
        assert np.array_equal(filled(shown["outline"], (200, 260)), analysis.prediction.instances == gland.id)
        assert shown["area"] == pytest.approx(gland.area_um2, abs=0.1)
    unknown = analysed(make_demo(), discs(3), mpp=None)
    in_px = stage_view(unknown.picture, unknown)
    assert in_px["unit"] == "px"
    assert in_px["glands"][0]["area"] == analysis.prediction.glands[0].area_px


def test_a_large_picture_is_shown_smaller_with_the_same_glands(make_demo):
    pixels = np.tile(discs(4), (1, 9, 1))
    analysis = analysed(make_demo(), pixels)
    view = stage_view(analysis.picture, analysis)
    assert (view["width"], view["full"]) == (2048, [2340, 200])
    assert set(np.unique(numbers(decoded(view["data"])[1]))) == {0, *(g["id"] for g in view["glands"])}
    assert all(gland["outline"] for gland in view["glands"])


def test_a_picture_alone_has_no_glands_yet():
    view = stage_view(Picture(discs(2), "a.png", (200, 260), mpp=0.4))
    assert (view["data"], view["glands"], view["width"], view["height"], view["mpp"]) == (None, [], 260, 200, 0.4)


def test_no_pixels_number_is_lost_where_regions_are_more_than_two_bytes_count(make_demo, monkeypatch):
    """The model's own answer is made up, since measuring so many regions takes a minute: the last fifty are the largest."""
    demo, count, side = make_demo(max_glands=50), 70_000, 280
    ids = np.zeros((side, side), np.int32)
    ids.flat[:count] = np.arange(1, count + 1)
    ids[-50:, 0] = np.arange(count - 49, count + 1)
    areas = np.bincount(ids.ravel(), minlength=count + 1)
    glands = tuple(Gland(i, 1, "gland", int(areas[i]), None, 4.0, None, 0.5, 0.5, 0.0, 0.9, 0.0, False)
                   for i in range(1, count + 1))
    found = GlandPrediction(class_map=(ids > 0).astype(np.uint8), probabilities=np.full((2, side, side), 0.5, np.float32),
                            confidence=np.full((side, side), 0.9, np.float32), instances=ids, glands=glands,
                            id2label={0: "background", 1: "gland"}, mpp=None, rgb=None, name="a.png")
    monkeypatch.setitem(vars(demo.model), "predict", lambda *_, **__: found)
    analysis = analyse(demo.model, Picture(np.zeros((side, side, 3), np.uint8), "a.png", (side, side)), None, demo.limits)
    shown = numbers(decoded(stage_view(analysis.picture, analysis)["data"])[1])
    assert np.array_equal(np.unique(shown), np.arange(51))
    assert np.array_equal(shown[-50:, 0], np.arange(1, 51))
    assert [gland.id for gland in analysis.prediction.glands] == list(range(1, 51))
