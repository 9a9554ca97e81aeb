"""The page in a real browser: what a visitor does, from upload to downloads."""

import contextlib
import csv
import io
import json
import re
import time
import zipfile

import numpy as np
import pytest
from browser_tools import (
    SIZES,
    annotate,
    count_becomes,
    on_screen,
    saved,
    segment,
    settled,
    stroke,
    text_becomes,
    text_goes,
    upload,
    visit,
    wheel,
)
from gland_space.demo import Demo
from gland_space.page import build_page, launch_options
from gland_space.page_parts import examples
from hostile import hostile_demo
from PIL import Image
from ports import free_port
from space_tools import Server, dark_demo, discs
from test_pictures import bad_files

pytestmark = pytest.mark.browser

ROWS = "#segment-stage .gl-table tbody tr"
SUMMARY = "#segment-stage .gl-summary"
READOUT = "#segment-stage .gl-readout"
SUM = "#segment-stage .gl-sum"
STAGE = "#segment-stage .gl-stage"
AROUND_THE_FIRST = [(5, 24), (47, 24), (47, 76), (5, 76)]  # pixels of the file


@contextlib.contextmanager
def serving(demo):
    """The address of a demo's page."""
    page = build_page(demo)
    page.launch(server_name="127.0.0.1", server_port=free_port(), prevent_thread_lock=True, quiet=True,
                **launch_options(demo))
    try:
        yield page.local_url.rstrip("/")
    finally:
        page.close()
        demo.runner.close()


def set_slider(page, elem_id, value):
    field = page.locator(f"#{elem_id} input[type=number]")
    field.fill(str(value))
    field.press("Enter")


def three_glands(picture_file):
    """Two glands of high confidence, one of low, and a speck of 100 px."""
    pixels = np.minimum(discs(2), np.roll(discs(1, darkness=0.7), 120, axis=1))
    pixels[150:160, 150:160] = 10
    return picture_file(pixels, "case 1.png")


def test_from_upload_to_downloads(chromium, server, picture_file, tmp_path):
    with visit(chromium, server.url) as page:
        path = three_glands(picture_file)
        upload(page, path)
        text_becomes(page, "#segment-status", "Ready: press Segment")
        assert "does not state its pixel size" in page.inner_text("#segment-status")
        page.fill("#segment-mpp :is(input, textarea)", "0,8")
        page.click("#segment-start")
        page.wait_for_selector(ROWS)
        assert page.locator(ROWS).count() == 3
        assert "case_1.png · 260 × 200 px" in page.inner_text("#segment-stage .gl-name")
        assert "Area (µm²)" in page.inner_text("#segment-stage .gl-table thead")
        assert page.inner_text(SUMMARY).startswith("3 glands")
        assert "1 smaller gland left out" in page.inner_text(SUMMARY)
        histogram = page.get_attribute("#segment-stage .gl-histogram", "aria-label")
        assert re.search(r"[1-9]\d* % of them are below 90 %", histogram)

        runs = server.network.runs
        set_slider(page, "segment-uncertain", 95)
        text_becomes(page, SUMMARY, "1 uncertain (mean confidence below 95 %)")
        assert page.locator(f"{ROWS} .gl-badge:text('uncertain')").count() == 1
        set_slider(page, "segment-area", 0)
        text_becomes(page, SUMMARY, "4 glands")
        set_slider(page, "segment-area", 101)
        text_becomes(page, SUMMARY, "3 glands")
        slider, field = page.locator("#segment-area input[type=range]"), page.locator("#segment-area input[type=number]")
        assert slider.get_attribute("aria-valuetext") == "101 µm²"
        for action, low, high in ((("fill", "200"), 90, 110), (("press", "ArrowRight"), 92, 112), (("fill", "0"), 0, 0),
                                  (("fill", "400"), 1000, 1000), (("fill", "255"), 180, 200)):  # 10 to 1000 µm² in 400 steps
            getattr(slider, action[0])(action[1])
            assert low <= float(field.input_value()) <= high
            assert slider.get_attribute("aria-valuetext") == f"{float(field.input_value()):,.0f} µm²"
        text_becomes(page, SUMMARY, "3 glands")
        assert server.network.runs == runs

        archive = saved(page, "#download-zip", tmp_path)
        singles = [saved(page, f"#download-{kind}", tmp_path) for kind in ("mask", "confidence", "geojson", "csv")]
    assert [path.name for path in singles] == ["case_1_mask.png", "case_1_confidence.png", "case_1.geojson",
                                               "case_1_glands.csv"]
    mask = np.asarray(Image.open(singles[0]))
    assert set(np.unique(mask)) == {0, 1}
    assert mask[150:160, 150:160].sum() == 0
    assert Image.open(singles[1]).mode == "I;16"
    features = json.loads(singles[2].read_text())["features"]
    assert [f["properties"]["name"] for f in features] == ["gland 1", "gland 2", "gland 3 (unsure)"]
    assert [f["properties"]["measurements"]["Unsure"] for f in features] == [0, 0, 1]
    assert len(list(csv.DictReader(singles[3].read_text().splitlines()))) == 3
    with zipfile.ZipFile(archive) as opened:
        assert all(opened.read(path.name) == path.read_bytes() for path in singles)
        assert json.loads(opened.read("settings.json"))["unsure_below"] == 0.95


def in_window(page, x, y, size):
    left, top = on_screen(page, x, y)
    return 0 <= left <= size[0] and 0 <= top <= size[1]


@pytest.mark.parametrize("size", SIZES)
def test_a_row_leads_to_its_gland_and_a_gland_to_its_row(chromium, server, picture_file, size):
    pixels = np.concatenate([discs(10), np.full((1200, 260, 3), 240, np.uint8)])
    pixels[1300:1340, 100:140] = 10  # far below: out of sight until it is looked for
    with visit(chromium, server.url, *size) as page:
        segment(page, picture_file(pixels, "tall.png"))
        assert page.locator(ROWS).all_inner_texts()[10].split()[0] == "11"
        page.locator(ROWS).nth(10).locator("td").nth(3).click()  # which scrolls the table, and the page
        assert page.get_attribute(STAGE, "data-selected") == "11"
        left, top, right, bottom = settled(page)
        assert left < 100 < 140 < right
        assert top < 1300 < 1340 < bottom < 1400  # near
        assert in_window(page, 100, 1300, size)
        assert in_window(page, 140, 1340, size)
        assert page.inner_text(READOUT).startswith(
            "Gland 11: gland, 1,024 µm², mean confidence 99 %, 0 % of its pixels below 75 %")
        assert not page.locator("#segment-stage .gl-minimap").is_hidden()
        zoomed = float(page.inner_text("#segment-stage .gl-zoom").removesuffix(" %"))
        box = page.locator(STAGE).bounding_box()
        assert zoomed == pytest.approx(100 * box["width"] / (right - left), rel=0.02)  # of the file's pixels

        page.focus(f"{ROWS}:nth-child(11)")
        page.keyboard.press("ArrowUp")
        assert page.get_attribute(f"{ROWS}:nth-child(10)", "aria-selected") == "true"
        page.hover(f"{ROWS}:nth-child(10) td:nth-child(4)")
        assert page.get_attribute(STAGE, "data-hovered") == "10"
        page.evaluate("""() => {  // both within one frame: the stage is still on its way to the gland
          document.querySelector("#segment-stage tbody tr:nth-child(11)").click();
          const fit = document.querySelector("#segment-stage [data-zoom=fit]");
          fit.dispatchEvent(new PointerEvent("pointerdown", { bubbles: true }));
          fit.click();
        }""")
        left, top, right, bottom = settled(page)
        assert max(left, top) <= 0
        assert right >= 260
        assert bottom >= 1400
        page.locator(STAGE).scroll_into_view_if_needed()
        page.mouse.move(*on_screen(page, 77, 50))
        page.mouse.move(*on_screen(page, 78, 50))
        text_becomes(page, READOUT, "gland 2")
        assert page.get_attribute(f"{ROWS}:nth-child(2)", "class") == "gl-hovered"
        assert re.search(r"x 7\d, y \d+ px: gland, confidence 9\d % · gland 2: 80\d µm²", page.inner_text(READOUT))
        page.mouse.click(*on_screen(page, 78, 50))
        assert page.get_attribute(f"{ROWS}:nth-child(2)", "aria-selected") == "true"
        page.mouse.move(*on_screen(page, 200, 900))
        text_goes(page, READOUT, "gland 2")  # the read-out goes with its gland
        page.mouse.move(2, 2)
        text_becomes(page, READOUT, "Gland 2: ")
        page.focus(STAGE)
        page.keyboard.press("Escape")
        text_becomes(page, READOUT, " a gland or a row")


def test_the_table_sorts_filters_and_sums_what_is_selected(chromium, server, picture_file):
    pixels = np.minimum(discs(2), np.roll(discs(1, radius=10, darkness=0.7), 120, axis=1))
    with visit(chromium, server.url) as page:
        segment(page, picture_file(pixels))
        set_slider(page, "segment-area", 0)
        count_becomes(page, ROWS, 3)
        page.click("#segment-stage [data-sort=area]")
        areas = [float(cell) for cell in page.locator(f"{ROWS} td:nth-child(4)").all_inner_texts()]
        assert areas == sorted(areas)
        page.click("#segment-stage [data-sort=area]")
        assert [float(cell) for cell in page.locator(f"{ROWS} td:nth-child(4)").all_inner_texts()] == areas[::-1]
        for column, text, count in (("area", "300", 2), ("area", "< 300", 1), ("area", "100-300", 1), ("mean", "<90", 1),
                                    ("class", "stroma", 0), ("remarks", "uncert", 1)):
            page.fill(f"[data-filter={column}]", text)
            assert page.locator(ROWS).count() == count
            page.fill(f"[data-filter={column}]", "")
        page.fill("[data-filter=area]", "many")
        assert page.get_attribute("[data-filter=area]", "aria-invalid") == "true"
        page.fill("[data-filter=area]", "300")
        text_becomes(page, SUMMARY, "2 shown by the filters")
        page.click("#segment-stage .gl-all")
        assert page.inner_text(SUM).startswith("2 selected · 1,609 µm² · 89 % of the gland area")  # 2 · 1257 px of 0.8 µm
        page.fill("[data-filter=area]", "")
        page.click(f"{ROWS}:nth-child(1) td:nth-child(4)")
        page.click(f"{ROWS}:nth-child(3) td:nth-child(4)", modifiers=["Control"])
        assert page.inner_text(SUM).startswith("2 selected")
        page.click(f"{ROWS}:nth-child(3) input")
        assert page.inner_text(SUM).startswith("1 selected")


def stage_pixels(page):
    """What the stage shows, uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(page.locator(STAGE).screenshot())).convert("RGB")).astype(int)


def test_layers_switch_and_outlines_stay_thin_at_any_zoom(chromium, server, picture_file):
    pixels = discs(3)
    pixels[120:160, 100:140] = 77  # less sure
    with visit(chromium, server.url) as page:
        segment(page, picture_file(pixels))
        page.mouse.move(2, 2)
        settled(page)
        whole = stage_pixels(page)
        page.fill("#segment-stage .gl-opacity", "0")
        assert page.inner_text("#segment-stage .gl-opacity-shown") == "0 %"
        settled(page)
        bare = stage_pixels(page)
        tinted = np.abs(whole - bare).sum(axis=2) > 30
        x, y = (round(value - corner) for value, corner in zip(
            on_screen(page, 120, 140), page.locator(STAGE).bounding_box().values(), strict=False))
        assert tinted[y - 30:y - 15, x - 20:x + 20].all()  # above its number
        page.select_option("#segment-stage .gl-layer", "map")
        page.fill("#segment-stage .gl-opacity", "100")
        text_becomes(page, "#segment-stage .gl-key", "100 % confidence, hatched below 90 %")
        settled(page)
        assert (np.abs(stage_pixels(page) - bare).sum(axis=2) > 30).mean() > 0.3
        page.select_option("#segment-stage .gl-layer", "off")
        page.uncheck("#segment-stage .gl-numbers")
        page.uncheck("#segment-stage .gl-outlines")
        settled(page)

        def outline_width():
            """Of the first disc's left rim, in pixels of the screen."""
            x, y = (round(value - corner) for value, corner in zip(
                on_screen(page, 6, 50.5), page.locator(STAGE).bounding_box().values(), strict=False))
            seen = []
            for switch in (page.check, page.uncheck):
                switch("#segment-stage .gl-outlines")
                page.mouse.move(2, 2)
                settled(page)
                seen.append(stage_pixels(page)[y, max(x - 15, 0):x + 15])
            return (np.abs(seen[0] - seen[1]).sum(axis=1) > 60).sum()

        assert 1 <= outline_width() <= 6
        page.mouse.move(*on_screen(page, 6, 50))
        page.keyboard.down("Control")
        wheel(page, -480)
        page.keyboard.up("Control")  # five times as large
        assert 1 <= outline_width() <= 6
        bar = page.locator("#segment-stage .gl-scale-bar").bounding_box()["width"]
        length = float(page.inner_text("#segment-stage .gl-scale-text").removesuffix(" µm"))
        left, _, right, _ = settled(page)
        assert bar == pytest.approx(length / 0.8 / (right - left) * page.locator(STAGE).bounding_box()["width"], rel=0.05)
        assert right - left < 150
        page.click("#segment-stage [data-zoom=full]")
        text_becomes(page, "#segment-stage .gl-zoom", "100 %")
        page.focus(STAGE)
        page.keyboard.press("0")
        assert settled(page)[1] == 0


def test_everything_works_by_keyboard(chromium, server, picture_file):
    with visit(chromium, server.url) as page:
        page.focus("#segment-examples [data-example='0']")
        page.keyboard.press("Enter")
        page.wait_for_selector("#segment-stage [data-state=result]")
        assert page.input_value("#segment-mpp :is(input, textarea)") == "0.62"  # from the file
        text_becomes(page, "#segment-status", "Segmented in")
        upload(page, picture_file(discs(3)))
        text_becomes(page, "#segment-status", "Ready: press Segment")
        page.focus("#segment-start")
        page.keyboard.press("Enter")
        page.wait_for_selector(ROWS)
        page.focus(STAGE)
        page.keyboard.press("ArrowRight")
        assert re.search(r"x \d+, y \d+ px: (gland|background), confidence \d+ %", page.inner_text(READOUT))
        whole = settled(page)
        page.keyboard.press("+")
        closer = settled(page)
        assert closer[2] - closer[0] == pytest.approx((whole[2] - whole[0]) / 1.5, rel=0.01)
        page.keyboard.press("0")
        page.keyboard.press("n")
        assert page.get_attribute(STAGE, "data-selected") == page.get_attribute(f"{ROWS}:nth-child(1)", "data-gland")
        page.keyboard.press("a")
        assert page.locator(f"{ROWS} .gl-badge:text('accepted')").count() == 1
        page.keyboard.press("r")
        assert "1 rejected" in page.inner_text(SUMMARY)
        page.keyboard.press("r")
        assert "rejected" not in page.inner_text(SUMMARY)
        page.focus(f"{ROWS}:nth-child(1)")
        page.keyboard.press("Escape")
        assert page.locator(f"{ROWS}[aria-selected=true]").count() == 0


def test_an_example_result_is_there_before_anything_is_uploaded(chromium, tmp_path):
    demo = dark_demo(tmp_path / "space")
    demo.prepare_example(examples()[0].path)
    with serving(demo) as url, visit(chromium, url) as page:
        page.wait_for_selector("#segment-stage [data-state=result]")
        text_becomes(page, "#segment-status", "An example result")
        runs = demo.model.segmenter.model.runs
        page.reload()
        page.wait_for_selector("#segment-stage [data-state=result]")
        assert demo.model.segmenter.model.runs == runs


def test_a_hostile_model_shows_its_words_and_nothing_else(chromium, tmp_path):
    demo = hostile_demo(tmp_path)
    with serving(demo) as url, visit(chromium, url) as page:  # which fails on any request to elsewhere
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.click("#segment-examples [data-example='0']")
        page.wait_for_selector("#segment-stage [data-state=result]")
        for tab in ("Annotate", "About"):
            page.get_by_role("tab", name=tab).click()
        page.wait_for_selector("text=/Classes: 0 background/")
        foreign = "input[type=password], form[action], img[src^=http], a[href*=evil], h1:text('Log in')"
        assert page.locator(foreign).count() == 0
        assert "![x](http://tracker.invalid/p.png)" in page.inner_text(".gl-about")


def test_when_the_server_is_full_the_page_says_so(chromium, picture_file):
    running = Server(quota_mb=1, max_file_mb=1)
    noise = np.random.default_rng(0).integers(0, 256, (480, 480, 3), np.uint8)  # 690 kB
    try:
        with visit(chromium, running.url) as page:
            upload(page, picture_file(noise, "first.png"))
            text_becomes(page, "#segment-stage .gl-name", "first.png")
            upload(page, picture_file(noise[::-1], "second.png"))
            page.wait_for_selector("text=/holds 1 MB of its visitors' pictures/")
    finally:
        running.close()


def test_bad_files_get_a_message_in_the_page_and_the_next_picture_works(chromium, server, picture_file, tmp_path):
    (tmp_path / "bad").mkdir()
    with visit(chromium, server.url) as page:
        for path, words in bad_files(tmp_path / "bad"):
            upload(page, path)
            page.wait_for_function("t => document.querySelector('#segment-status [role=alert]')?.textContent.includes(t)",
                                   arg=path.name)
            assert words in page.inner_text("#segment-status")
            page.wait_for_selector("#segment-start[disabled]")
        segment(page, picture_file(discs(2)))
        for mpp, words in (("-1", "not a plausible pixel size"), ("20x", "is not a number"), ("1e9", "not a plausible")):
            page.fill("#segment-mpp :is(input, textarea)", mpp)
            page.click("#segment-start")
            text_becomes(page, "#segment-status [role=alert]", words)
        page.fill("#segment-mpp :is(input, textarea)", "")
        page.click("#segment-start")
        text_becomes(page, "#segment-status", "No pixel size given")
        text_becomes(page, "#segment-stage .gl-table thead", "Area (px²)")


def test_a_file_that_is_too_large_is_refused_with_the_limit(chromium, picture_file):
    small = Server(max_file_mb=1)
    try:
        with visit(chromium, small.url) as page:
            assert "up to 1 MB" in page.inner_text("#segment-drop")
            noise = np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8)
            upload(page, picture_file(noise, "noise.png"))
            page.wait_for_selector("text=/maximum allowed size of 1.0 Mb/i")
            segment(page, picture_file(discs(1)))
    finally:
        small.close()


def test_a_stack_of_pages_offers_the_page_and_a_large_picture_says_that_it_was_reduced(chromium, server, tmp_path):
    pages = [Image.fromarray(discs(count)) for count in (1, 3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with visit(chromium, server.url) as page:
        upload(page, tmp_path / "stack.tif")
        text_becomes(page, "#segment-status", "The file holds 2 pages; this is page 1")
        field = page.locator("#segment-page input[type=number]")
        field.fill("2")
        field.blur()
        text_becomes(page, "#segment-status", "this is page 2")
        page.click("#segment-start")
        text_becomes(page, SUMMARY, "3 glands")
        Image.new("RGB", (5000, 100), (200, 150, 180)).save(tmp_path / "wide.jpg")
        upload(page, tmp_path / "wide.jpg")
        text_becomes(page, "#segment-status", "Reduced from 5000×100 to 4096×82 px")


@pytest.fixture
def own_server():
    running = Server(queue_size=1)
    yield running
    running.close()


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_cancel_stops_the_model_and_so_does_leaving(chromium, own_server, picture_file):
    network = own_server.network
    big = picture_file(np.tile(discs(10), (10, 10, 1)), "big.png")
    with visit(chromium, own_server.url) as page:
        upload(page, big)
        page.wait_for_selector("#segment-start:not([disabled])")
        network.gate.clear()
        page.click("#segment-start")
        page.wait_for_selector("#segment-status [role=progressbar]")
        assert until(lambda: network.runs == 1)
        page.click("#segment-cancel")
        text_becomes(page, "#segment-status", "Cancelled")
        network.gate.set()
        own_server.demo.runner.start(lambda job: None, _job()).result(60)  # the thread is free again
        assert network.runs == 1
        page.click("#segment-start")
        page.wait_for_selector(ROWS)
        runs, whole = network.runs, network.runs - 1
        network.gate.clear()
        page.click("#segment-start")
        assert until(lambda: network.runs == runs + 1)
    assert until(lambda: not own_server.demo.tickets._running)
    network.gate.set()
    own_server.demo.runner.start(lambda job: None, _job()).result(60)
    assert network.runs == runs + 1 < runs + whole


def _job():
    from gland_space.runner import Job
    return Job()


def test_a_new_picture_calls_off_the_run_of_the_last_one(chromium, own_server, picture_file):
    network = own_server.network
    with visit(chromium, own_server.url) as page:
        upload(page, picture_file(discs(1), "first.png"))
        page.wait_for_selector("#segment-start:not([disabled])")
        network.gate.clear()
        page.click("#segment-start")
        assert until(lambda: network.runs == 1)
        upload(page, picture_file(discs(3), "second.png"))
        text_becomes(page, "#segment-stage .gl-name", "second.png")
        page.wait_for_selector("#segment-cancel", state="hidden")
        network.gate.set()
        own_server.demo.runner.start(lambda job: None, _job()).result(60)  # the first run is over
        page.click("#segment-start")
        text_becomes(page, SUMMARY, "3 glands")
        assert "second.png" in page.inner_text("#segment-stage .gl-name")
        assert until(lambda: not own_server.demo.tickets._running)


def test_strokes_drawn_while_the_model_works_are_kept(chromium, own_server, picture_file, tmp_path):
    network = own_server.network
    with visit(chromium, own_server.url) as page:
        annotate(page, picture_file(discs(3), "biopsy.png"))
        network.gate.clear()
        page.click("#annotate-start")
        assert until(lambda: network.runs == 1)
        stroke(page, AROUND_THE_FIRST)
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        network.gate.set()
        page.wait_for_selector("#annotate-stage .gl-layers", state="visible")
        assert (np.asarray(Image.open(saved(page, "#annotate-save-mask", tmp_path))) == 1).sum() > 1000


def test_when_too_many_wait_the_next_is_told_so(chromium, own_server, picture_file):
    path = picture_file(discs(1))
    own_server.network.gate.clear()
    with visit(chromium, own_server.url) as first, visit(chromium, own_server.url) as second, \
            visit(chromium, own_server.url) as third:
        for page, words in ((first, "Segmenting"), (second, "Waiting for the model"), (third, "Too many people")):
            upload(page, path)
            page.wait_for_selector("#segment-start:not([disabled])")
            page.click("#segment-start")
            text_becomes(page, "#segment-status", words)
        own_server.network.gate.set()
        text_becomes(first, SUMMARY, "1 gland")
        text_becomes(second, SUMMARY, "1 gland")
        third.click("#segment-start")
        text_becomes(third, SUMMARY, "1 gland")


def test_a_result_that_is_no_longer_kept_says_so(chromium, own_server, picture_file):
    with visit(chromium, own_server.url) as page:
        segment(page, picture_file(discs(1)))
        own_server.demo.store._entries.clear()
        page.click("#download-csv")
        text_becomes(page, "#segment-status", "no longer kept")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(chromium, server, picture_file, scheme):
    with visit(chromium, server.url, 390, 844, color_scheme=scheme) as page:
        segment(page, three_glands(picture_file))
        for tab in ("Segment", "Annotate", "About"):
            page.get_by_role("tab", name=tab).click()
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(int(value) for value in re.findall(r"\d+", background)[:3])
        assert (brightness > 600) == (scheme == "light")


def test_nothing_lacks_a_name(chromium, server, picture_file):
    """Pictures have alternative texts, buttons and fields have names; decoration is marked as such."""
    nameless = """() => [...document.querySelectorAll('img:not([alt]), svg[role=img]:not([aria-label])')].concat(
        [...document.querySelectorAll('button, input:not([type=hidden]):not([type=file]), textarea, [role=application]')]
          .filter((e) => e.offsetParent && !(e.innerText || '').trim() && !e.getAttribute('aria-label') && !e.title
            && !(e.labels && e.labels.length) && !e.closest('label') && !e.getAttribute('aria-labelledby')))
        .map((e) => e.outerHTML.slice(0, 200))"""
    with visit(chromium, server.url) as page:
        segment(page, three_glands(picture_file))
        assert page.evaluate(nameless) == []
        assert "outlines of 3 glands" in page.get_attribute(STAGE, "aria-label")
        assert page.evaluate("document.documentElement.lang") != ""
        for tab in ("Annotate", "About"):
            page.get_by_role("tab", name=tab).click()
            assert page.evaluate(nameless) == []


def test_without_a_model_the_page_says_how_to_give_one_and_annotating_works(chromium, tmp_path, picture_file):
    demo = Demo(None, "owner/nmae: no such repository", tmp_path / "space")
    with serving(demo) as url, visit(chromium, url) as page:
        text = page.inner_text("#no-model-page")
        assert "no such repository" in text
        assert "HF_GLAND_MODEL=" in text
        assert "make demo" in text
        upload(page, picture_file(discs(1)))
        page.wait_for_selector("#segment-stage [data-state=picture]")
        assert page.is_disabled("#segment-start")
        annotate(page, picture_file(discs(1)))
        stroke(page, AROUND_THE_FIRST)
        text_becomes(page, "#annotate-budget", "1 gland outlined")


