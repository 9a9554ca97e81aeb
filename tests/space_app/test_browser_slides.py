"""Slides in a real browser: the overview sharpens, a part goes through the model, and its glands lie in place."""

import copy
import json
import re

import numpy as np
import pytest
import shapely.geometry
from browser_tools import SIZES, on_screen, saved, settled, text_becomes, upload, visit, wheel
from PIL import Image
from slide_scene import write_scene

pytestmark = pytest.mark.browser

STAGE = "#segment-stage .gl-stage"
ROWS = "#segment-stage .gl-table tbody tr"
WIDE, HIGH = 20_000, 15_000
DISCS = [(8000, 7400, 60), (8300, 7500, 40), (8700, 7450, 80), (12_500, 9100, 90)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("slides") / "scene.svs", WIDE, HIGH, DISCS)


def open_scene(page, path):
    upload(page, path)
    text_becomes(page, "#segment-stage .gl-name", "scene.svs · 20,000 × 15,000 px")
    text_becomes(page, "#segment-status", "zoom to a part and press Segment")
    page.locator(STAGE).scroll_into_view_if_needed()


def sharp_at(page, level):
    page.wait_for_function("([stage, level]) => document.querySelector(stage).dataset.sharp === level", arg=[STAGE, level])


def zoom_to(page, x, y, wanted):
    """Zoom about a place of the slide with + and the pointer until its pixels are `wanted` per cent of the screen's."""
    page.focus(STAGE)
    page.mouse.move(*on_screen(page, x, y))
    while float(page.inner_text("#segment-stage .gl-zoom").removesuffix(" %")) < wanted:
        wheel(page, -100)
        page.mouse.move(*on_screen(page, x, y))


def columns(page, x, y):
    """The grey values of the canvas along a line of 24 pixels of the screen, from a place of the slide."""
    left, top = on_screen(page, x, y)
    return page.evaluate("""([stage, left, top]) => {
      const canvas = document.querySelector(stage).querySelector(".gl-canvas"), box = canvas.getBoundingClientRect();
      const ratio = canvas.width / box.width;
      const line = canvas.getContext("2d").getImageData((left - box.left) * ratio, (top - box.top) * ratio, 24, 1).data;
      return Array.from({ length: 24 }, (_, i) => line[4 * i]);
    }""", [STAGE, left, top])


def test_the_command_for_the_whole_slide_names_the_file_as_the_visitor_has_it(chromium, server, tmp_path):
    with visit(chromium, server.url) as page:
        upload(page, write_scene(tmp_path / "a b ($1).svs", 1200, 900, [], levels=2))
        text_becomes(page, "#segment-stage .gl-command code", "hf-gland predict 'a b ($1).svs' --model ")


@pytest.mark.parametrize("size", SIZES)
def test_a_slide_sharpens_as_one_zooms_and_the_part_in_sight_is_segmented_in_place(chromium, server, scene, tmp_path, size):
    with visit(chromium, server.url, *size) as page:
        open_scene(page, scene)
        sharp_at(page, "overview")
        assert "hf-gland predict scene.svs --model test/dark-is-gland --out results" in page.inner_text(
            "#segment-stage .gl-command")
        page.click("#segment-start")
        text_becomes(page, "#segment-status", "million can be segmented here: zoom in")

        zoom_to(page, 8300, 7450, 30)
        page.wait_for_function("(stage) => ['0', '1'].includes(document.querySelector(stage).dataset.sharp)", arg=STAGE)
        before = settled(page)
        inside = [d for d in DISCS if before[0] < d[0] - d[2] and d[0] + d[2] < before[2]
                  and before[1] < d[1] - d[2] and d[1] + d[2] < before[3]]
        assert inside
        page.click("#segment-start")
        page.wait_for_selector("#segment-stage [data-state=result]")
        text_becomes(page, "#segment-status", "Segmented in")
        assert settled(page) == pytest.approx(before, abs=0.2)
        assert page.locator(ROWS).count() == len(inside)
        assert "of the part" in page.inner_text("#segment-stage .gl-summary")

        page.locator(ROWS).first.click()
        left, top, right, bottom = settled(page)
        x, y, radius = min(inside, key=lambda d: abs(d[0] - (left + right) / 2))  # numbers go by strips
        assert left < x - radius < x + radius < right
        assert top < y - radius < y + radius < bottom
        page.locator(STAGE).scroll_into_view_if_needed()
        page.mouse.move(*on_screen(page, x, y))
        text_becomes(page, "#segment-stage .gl-readout", "px: gland, confidence 9")
        read = [int(value) for value in re.findall(r"[xy] (\d+)", page.inner_text("#segment-stage .gl-readout"))]
        assert read == pytest.approx([x, y], abs=3)
        page.focus(STAGE)
        page.keyboard.press("f")
        sharp_at(page, "0")
        stripes = columns(page, x, y)
        assert np.ptp(stripes) > 15, stripes

        features = json.loads(saved(page, "#download-geojson", tmp_path).read_text())["features"]
    found = sorted((shapely.geometry.shape(feature["geometry"]) for feature in features), key=lambda s: s.centroid.x)
    for shape, (x, y, radius) in zip(found, inside, strict=True):
        assert (shape.centroid.x, shape.centroid.y) == pytest.approx((x, y), abs=1)
        assert shape.area == pytest.approx(np.pi * radius**2, rel=0.03)
    assert re.fullmatch(r"scene_x\d+_y\d+\.geojson", next(tmp_path.glob("*.geojson")).name)


@pytest.mark.parametrize("size", SIZES)
def test_a_rectangle_is_drawn_segmented_and_taken_over_to_be_annotated(chromium, server, scene, tmp_path, size):
    with visit(chromium, server.url, *size) as page:
        open_scene(page, scene)
        zoom_to(page, 12_500, 9100, 10)
        page.click("#segment-stage .gl-choose")
        assert page.get_attribute("#segment-stage .gl-choose", "aria-pressed") == "true"
        corners = [on_screen(page, 12_300, 8900), on_screen(page, 12_700, 9300)]
        page.mouse.move(*corners[0])
        page.mouse.down()
        page.mouse.move(*corners[1], steps=5)
        page.mouse.up()
        text_becomes(page, "#segment-stage .gl-readout", "Segment works on this rectangle of 0.2")
        assert page.get_attribute("#segment-stage .gl-choose", "aria-pressed") == "false"
        page.click("#segment-start")
        page.wait_for_selector("#segment-stage [data-state=result]")
        assert page.locator(ROWS).count() == 1
        text_becomes(page, "#segment-status", "Part of 4")

        page.get_by_role("tab", name="Annotate").click()
        page.click("#annotate-reuse")
        text_becomes(page, "#annotate-stage .gl-name", "scene_x12")
        page.click("#annotate-stage label:has([value=take])")
        page.locator("#annotate-stage .gl-canvas").scroll_into_view_if_needed()
        page.mouse.click(*on_screen(page, 200, 200, "annotate"))  # the model's outlines are in place
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        kept = saved(page, "#annotate-save-geojson", tmp_path)
        taken = np.asarray(Image.open(saved(page, "#annotate-save-mask", tmp_path)))
        page.click("#annotate-stage .gl-clear")
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        drawn = json.loads(kept.read_text())
        away = copy.deepcopy(drawn["features"][0])
        away["geometry"]["coordinates"] = [[[x - 5000, y] for x, y in ring] for ring in away["geometry"]["coordinates"]]
        for name, features, words in (
                ("away", [away], "No outline of the file covers a pixel of this picture"),
                ("both", [away, *drawn["features"]], "outline loaded; left out, as they cover no pixel of this picture: 1")):
            (tmp_path / f"{name}.geojson").write_text(json.dumps(drawn | {"features": features}))
            page.set_input_files("#annotate-stage .gl-load input", str(tmp_path / f"{name}.geojson"))
            text_becomes(page, "#annotate-stage .gl-readout", words)
        assert np.array_equal(np.asarray(Image.open(saved(page, "#annotate-save-mask", tmp_path))), taken)

        page.get_by_role("tab", name="Segment").click()
        upload(page, scene, "annotate")
        page.get_by_role("tab", name="Annotate").click()
        text_becomes(page, "#annotate-status", "scene.svs: is a slide. Open it in the Segment tab")
