"""The page in a real browser: what a visitor does, from upload to downloads."""

import contextlib
import csv
import json
import re
import time
import zipfile

import numpy as np
import pytest
from browser_tools import browser, visit
from gland_space.demo import Demo
from gland_space.page import build_page, launch_options
from gland_space.pictures import safe_name
from hostile import hostile_demo
from PIL import Image
from space_tools import Server, discs, free_port
from test_pictures import bad_files

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local

pytestmark = pytest.mark.browser

ROWS = "#segment-viewer .gl-table tbody tr"
SUMMARY = "#segment-viewer .gl-summary"
READOUT = "#segment-viewer .gl-readout"


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


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


def upload(page, path, tab="segment"):
    page.set_input_files(f"#{tab}-drop input[type=file]", str(path))


def segment(page, path, mpp="0.5"):
    upload(page, path)
    text_becomes(page, "#segment-viewer .gl-name", safe_name(path.name))
    page.fill("#segment-mpp :is(input, textarea)", mpp)
    page.wait_for_selector("#segment-start:not([disabled])")
    page.click("#segment-start")
    page.wait_for_selector("#segment-viewer .gl-body[data-state=result]")
    page.wait_for_selector("#segment-status :text('Segmented in')")


def set_slider(page, elem_id, value):
    field = page.locator(f"#{elem_id} input[type=number]")
    field.fill(str(value))
    field.press("Enter")


def text_becomes(page, selector, part):
    page.wait_for_function("([s, t]) => document.querySelector(s)?.textContent.includes(t)", arg=[selector, part])


def saved(page, button, folder):
    with page.expect_download() as started:
        page.click(button)
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path


def three_glands(picture_file):
    """Two glands of high confidence, one of low, and a speck of 100 px."""
    pixels = np.minimum(discs(2), np.roll(discs(1, darkness=0.6), 120, axis=1))
    pixels[150:160, 150:160] = 10
    return picture_file(pixels, "case 1.png")


def test_from_upload_to_downloads(chromium, server, picture_file, tmp_path):
    with visit(chromium, server.url) as page:
        path = three_glands(picture_file)
        upload(page, path)
        text_becomes(page, "#segment-status", "Ready: press Segment")
        assert "does not state its pixel size" in page.inner_text("#segment-status")
        page.fill("#segment-mpp :is(input, textarea)", "0,5")
        page.click("#segment-start")
        page.wait_for_selector(ROWS)
        assert page.locator(ROWS).count() == 3
        assert "case_1.png · 260 × 200 px" in page.inner_text("#segment-viewer .gl-name")
        assert "Area (µm²)" in page.inner_text("#segment-viewer .gl-table thead")
        assert "3 glands" in page.inner_text(SUMMARY)
        assert "1 smaller gland left out" in page.inner_text(SUMMARY)
        assert page.locator(".gl-panel[data-panel=contours] .gl-outlines g:not(.gl-hidden)").count() == 3
        assert page.locator("#segment-viewer .gl-histogram").is_visible()

        runs = server.network.runs
        set_slider(page, "segment-uncertain", 85)
        text_becomes(page, SUMMARY, "1 uncertain (below 85 %)")
        assert page.locator(".gl-panel[data-panel=contours] .gl-outlines g.gl-uncertain:not(.gl-hidden)").count() == 1
        assert page.locator(f"{ROWS} .gl-badge:text('uncertain')").count() == 1
        set_slider(page, "segment-area", 0)
        text_becomes(page, SUMMARY, "4 glands")
        set_slider(page, "segment-area", 100)
        text_becomes(page, SUMMARY, "3 glands")
        assert server.network.runs == runs

        page.click(f"{ROWS}:nth-child(2)")
        assert page.get_attribute(f"{ROWS}:nth-child(2)", "aria-selected") == "true"
        chosen = page.get_attribute(f"{ROWS}:nth-child(2)", "data-gland")
        assert [g.get_attribute("data-gland") for g in page.locator(".gl-outlines g.gl-selected").all()] == [chosen] * 2
        assert "Gland 2: gland" in page.inner_text(READOUT)  # the number in the table and in the downloads

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
        assert json.loads(opened.read("settings.json"))["unsure_below"] == 0.85


def test_an_example_runs_by_keyboard_and_the_pictures_are_read_by_keyboard_and_mouse(chromium, server):
    with visit(chromium, server.url) as page:
        page.focus("#segment-examples [data-example='0']")
        page.keyboard.press("Enter")
        page.wait_for_selector("#segment-viewer .gl-body[data-state=result]")
        assert page.input_value("#segment-mpp :is(input, textarea)") == "0.62"  # from the file
        text_becomes(page, "#segment-status", "Segmented in")
        page.focus(".gl-panel[data-panel=contours] .gl-stage")
        page.keyboard.press("ArrowRight")
        assert re.search(r"x \d+, y \d+: (gland|background), confidence \d+ %", page.inner_text(READOUT))
        assert page.locator(".gl-cross:visible").count() == 2
        page.keyboard.press("+")
        assert page.inner_text("#segment-viewer .gl-zoom") == "150 %"
        page.keyboard.press("0")
        box = page.locator(".gl-panel[data-panel=confidence] .gl-stage").bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        assert page.inner_text(READOUT).startswith("x 6, y ") or page.inner_text(READOUT).startswith("x ")
        if page.locator(ROWS).count() > 1:
            page.focus(f"{ROWS}:nth-child(1)")
            page.keyboard.press("ArrowDown")
            assert page.get_attribute(f"{ROWS}:nth-child(2)", "aria-selected") == "true"
            page.keyboard.press("Escape")
            assert page.locator(f"{ROWS}[aria-selected=true]").count() == 0


def test_pointing_reads_the_class_and_confidence_of_that_very_pixel_and_clicking_selects(chromium, server, picture_file):
    with visit(chromium, server.url) as page:
        segment(page, three_glands(picture_file))
        stage = page.locator(".gl-panel[data-panel=contours] .gl-stage")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()

        def point(x, y):
            page.mouse.move(box["x"] + (x + 0.5) / 260 * box["width"], box["y"] + (y + 0.5) / 200 * box["height"])
            return page.inner_text(READOUT)

        assert re.fullmatch(r"x 2\d, y 5\d: gland, confidence 99 % · gland \d", point(26, 50))
        assert re.fullmatch(r"x 13\d, y 12\d: background, confidence 99 %", point(130, 120))
        assert re.fullmatch(r"x 14\d, y 5\d: gland, confidence 7\d % · gland \d", point(146, 50))
        page.mouse.click(box["x"] + 26.5 / 260 * box["width"], box["y"] + 50.5 / 200 * box["height"])
        assert page.locator(f"{ROWS}[aria-selected=true]").count() == 1
        page.click("#segment-viewer [data-sort=area]")
        areas = [float(cell.replace(",", "")) for cell in page.locator(f"{ROWS} td:nth-child(3)").all_inner_texts()]
        assert areas == sorted(areas)
        assert page.locator(f"{ROWS}[aria-selected=true]").count() == 1


def stroke(page, points):
    ink = page.locator("#annotator .gl-ink")
    ink.scroll_into_view_if_needed()
    box = ink.bounding_box()
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()


def test_annotating_ends_in_a_row_that_build_dataset_accepts(chromium, server, picture_file, tmp_path):
    with visit(chromium, server.url) as page:
        page.get_by_role("tab", name="Annotate").click()
        upload(page, picture_file(discs(3), "biopsy.png"), "annotate")
        page.wait_for_selector("#annotator .gl-stage", state="visible")
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        page.click("#annotate-save-rows")
        text_becomes(page, "#annotate-status", "Nothing has been drawn yet")
        stroke(page, [(0.02, 0.12), (0.18, 0.12), (0.18, 0.38), (0.02, 0.38)])
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        page.keyboard.press("2")
        page.keyboard.press("b")
        stroke(page, [(0.1, 0.7), (0.6, 0.8)])
        page.wait_for_function("!/ 0.00 % stroma/.test(document.querySelector('#annotate-budget').textContent)")
        page.click("#annotator .gl-undo")
        text_becomes(page, "#annotate-budget", " 0.00 % stroma")
        stroke(page, [(0.1, 0.7), (0.6, 0.8)])
        page.wait_for_function("!/ 0.00 % stroma/.test(document.querySelector('#annotate-budget').textContent)")

        page.click("#annotate-start")
        page.wait_for_selector("#annotator .gl-uncertainty-bar", state="visible")
        text_becomes(page, "#annotate-budget", "1 gland outlined")  # the drawing is still there
        page.fill("#annotate-mpp :is(input, textarea)", "0.5")
        page.fill("#annotate-patient-id :is(input, textarea)", "P07")
        page.fill("#annotate-image-id :is(input, textarea)", "../evil")
        page.click("#annotate-save-mask")
        text_becomes(page, "#annotate-status", "image id may hold letters")
        page.fill("#annotate-image-id :is(input, textarea)", "biopsy-1")
        mask = np.asarray(Image.open(saved(page, "#annotate-save-mask", tmp_path)))
        archive = saved(page, "#annotate-save-rows", tmp_path)
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(tmp_path / "row")
    assert run_command("build_dataset", ["folder", "--root", str(tmp_path / "row" / "annotations"), "--style", "as-is",
                                         "--out", str(tmp_path / "built")]) == 0
    (row,) = load_local(tmp_path / "built")["train"]
    sparse = np.asarray(row["sparse_mask"])
    assert np.array_equal(sparse, mask)
    assert set(np.unique(sparse)) == {0, 1, 255}
    outlined = np.zeros(sparse.shape, bool)
    outlined[24:76, 5:47] = True
    assert ((sparse == 1) ^ outlined).sum() < 0.08 * outlined.sum()
    assert (sparse == 0).sum() > 300
    assert (row["image_id"], row["patient_id"], row["annotated_glands"], row["mpp"]) == ("biopsy-1", "P07", 1, 0.5)
    assert np.array_equal(np.asarray(row["image"]), discs(3))


def annotate(page, path):
    page.get_by_role("tab", name="Annotate").click()
    upload(page, path, "annotate")
    page.wait_for_selector("#annotator .gl-stage", state="visible")
    text_becomes(page, "#annotate-status", "Ready: outline a gland")


def drawn_mask(page, folder):
    return np.asarray(Image.open(saved(page, "#annotate-save-mask", folder)))


AROUND_THE_FIRST = [(0.02, 0.12), (0.18, 0.12), (0.18, 0.38), (0.02, 0.38)]


def test_a_drawing_outlives_a_reload_and_comes_back_with_its_picture(chromium, server, picture_file, tmp_path):
    with visit(chromium, server.url) as page:
        questions = []
        page.on("dialog", lambda dialog: (questions.append(dialog.type), dialog.accept()))
        annotate(page, picture_file(discs(3), "biopsy.png"))
        stroke(page, AROUND_THE_FIRST)
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        page.reload()
        page.wait_for_selector("#segment-examples [data-example='0']")
        assert questions == ["beforeunload"]
        page.get_by_role("tab", name="Annotate").click()
        text_becomes(page, "#annotate-budget", "1 gland outlined")  # without loading anything
        text_becomes(page, "#annotator .gl-readout", "still in this browser")
        kept = drawn_mask(page, tmp_path)
        assert (kept == 1).sum() > 1000
        page.reload()  # downloaded, so nothing is asked
        page.wait_for_selector("#segment-examples [data-example='0']")
        assert questions == ["beforeunload"]

        annotate(page, picture_file(discs(1), "other.png"))
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        upload(page, picture_file(discs(3), "under another name.png"), "annotate")
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        assert np.array_equal(drawn_mask(page, tmp_path), kept)
        server.demo.store._entries.clear()  # the server has forgotten it
        page.reload()
        page.wait_for_selector("#segment-examples [data-example='0']")
        page.get_by_role("tab", name="Annotate").click()
        text_becomes(page, "#annotate-status", "your drawing is still in this browser")


def test_another_picture_is_asked_about_while_the_drawing_is_not_downloaded(chromium, server, picture_file, tmp_path):
    with visit(chromium, server.url) as page:
        answers, questions = [], []

        def answer(dialog):
            questions.append(dialog.message)
            if answers.pop(0):
                dialog.accept()
            else:
                dialog.dismiss()

        page.on("dialog", answer)
        annotate(page, picture_file(discs(3), "biopsy.png"))
        page.click("#annotate-examples [data-example='0']")  # nothing drawn: not asked
        page.wait_for_function("document.querySelector('#annotator .gl-image').alt.startsWith('1-benign')")
        upload(page, picture_file(discs(3), "biopsy.png"), "annotate")
        page.wait_for_function("document.querySelector('#annotator .gl-image').alt.startsWith('biopsy')")
        assert questions == []
        stroke(page, AROUND_THE_FIRST)
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        answers += [False, False, False]
        page.click("#annotate-examples [data-example='0']")
        page.click("#annotate-reuse")
        upload(page, picture_file(discs(1), "other.png"), "annotate")
        assert len(questions) == 3
        assert "Your drawing on biopsy.png has not been downloaded" in questions[0]
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        assert page.get_attribute("#annotator .gl-image", "alt").startswith("biopsy")
        answers.append(True)
        upload(page, picture_file(discs(1), "other.png"), "annotate")
        page.wait_for_function("document.querySelector('#annotator .gl-image').alt.startsWith('other')")
        assert len(questions) == 4


def test_a_saved_mask_loads_back_and_one_of_another_picture_does_not(chromium, server, picture_file, tmp_path):
    mask = np.full((200, 260), 255, np.uint8)
    mask[30:70, 6:46], mask[120:126, 30:200] = 1, 0
    load = "#annotator .gl-load input"
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(discs(3), "biopsy.png"))
        for wrong, words in ((mask[:100], "has 260 × 100 px, the picture 260 × 200"),
                             (np.where(mask == 1, 7, mask), "other values"), (discs(3), "other values")):
            page.set_input_files(load, str(picture_file(wrong.astype(np.uint8), "wrong.png")))
            text_becomes(page, "#annotator .gl-readout", words)
        (tmp_path / "notes.png").write_text("no picture")
        page.set_input_files(load, str(tmp_path / "notes.png"))
        text_becomes(page, "#annotator .gl-readout", "no picture file")
        page.set_input_files(load, str(picture_file(mask, "saved.png")))
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        assert np.array_equal(drawn_mask(page, tmp_path), mask)
        page.click("#annotator .gl-undo")
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")


def test_drawing_works_where_the_picture_is_zoomed_and_moved(chromium, server, picture_file, tmp_path):
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(discs(3), "biopsy.png"))
        stage = page.locator("#annotator .gl-stage")
        stage.focus()
        page.keyboard.press("+")
        page.keyboard.press("+")
        assert page.inner_text("#annotator .gl-zoom") == "225 %"
        page.keyboard.press("m")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"], steps=5)  # to the top left corner
        page.mouse.up()
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        page.keyboard.press("o")
        places = [(box["x"] + 2.25 * x * box["width"], box["y"] + 2.25 * y * box["height"]) for x, y in AROUND_THE_FIRST]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=3)
        page.mouse.up()
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        drawn = drawn_mask(page, tmp_path) == 1
    expected = np.zeros(drawn.shape, bool)
    expected[24:76, 5:47] = True
    assert (drawn ^ expected).sum() < 0.04 * expected.sum()


def test_a_hostile_model_shows_its_words_and_nothing_else(chromium, tmp_path):
    demo = hostile_demo(tmp_path)
    with serving(demo) as url, visit(chromium, url) as page:  # which fails on any request to elsewhere
        page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        page.click("#segment-examples [data-example='0']")
        page.wait_for_selector("#segment-viewer .gl-body[data-state=result]")
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
            text_becomes(page, "#segment-viewer .gl-name", "first.png")
            upload(page, picture_file(noise[::-1], "second.png"))
            page.wait_for_selector("text=/holds 1 MB of its visitors' pictures/")
    finally:
        running.close()


def test_drawing_by_keyboard_alone(chromium, server, picture_file):
    with visit(chromium, server.url) as page:
        page.get_by_role("tab", name="Annotate").click()
        upload(page, picture_file(discs(1)), "annotate")
        page.wait_for_selector("#annotator .gl-stage", state="visible")
        page.focus("#annotator .gl-stage")
        page.keyboard.press("Enter")
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
            for _ in range(3):
                page.keyboard.press(f"Shift+{key}")
        page.keyboard.press("Enter")
        text_becomes(page, "#annotate-budget", "1 gland outlined")


def test_bad_files_get_a_message_in_the_page_and_the_next_picture_works(chromium, server, picture_file, tmp_path):
    (tmp_path / "bad").mkdir()
    with visit(chromium, server.url) as page:
        for path, words in bad_files(tmp_path / "bad"):
            upload(page, path)
            page.wait_for_function("t => document.querySelector('#segment-status [role=alert]')?.textContent.includes(t)",
                                   arg=path.name)
            assert words in page.inner_text("#segment-status")
            assert page.is_disabled("#segment-start")
        segment(page, picture_file(discs(2)))
        for mpp, words in (("-1", "not a plausible pixel size"), ("1e9", "not a plausible"), ("20x", "is not a number")):
            page.fill("#segment-mpp :is(input, textarea)", mpp)
            page.click("#segment-start")
            text_becomes(page, "#segment-status [role=alert]", words)
        page.fill("#segment-mpp :is(input, textarea)", "")
        page.click("#segment-start")
        text_becomes(page, "#segment-status", "No pixel size given")
        text_becomes(page, "#segment-viewer .gl-table thead", "Area (px²)")


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
        field.press("Enter")
        field.blur()
        page.locator("#segment-page input[type=range]").focus()
        page.keyboard.press("End")
        page.keyboard.up("End")
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
    big = picture_file(np.tile(discs(10), (6, 6, 1)), "big.png")
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
        text_becomes(page, "#segment-viewer .gl-name", "second.png")
        page.wait_for_selector("#segment-cancel", state="hidden")
        network.gate.set()
        own_server.demo.runner.start(lambda job: None, _job()).result(60)  # the first run is over
        page.click("#segment-start")
        text_becomes(page, SUMMARY, "3 glands")
        assert "second.png" in page.inner_text("#segment-viewer .gl-name")
        assert until(lambda: not own_server.demo.tickets._running)


def test_strokes_drawn_while_the_model_works_are_kept(chromium, own_server, picture_file, tmp_path):
    network = own_server.network
    with visit(chromium, own_server.url) as page:
        page.get_by_role("tab", name="Annotate").click()
        upload(page, picture_file(discs(3), "biopsy.png"), "annotate")
        page.wait_for_selector("#annotator .gl-stage", state="visible")
        network.gate.clear()
        page.click("#annotate-start")
        assert until(lambda: network.runs == 1)
        stroke(page, [(0.02, 0.12), (0.18, 0.12), (0.18, 0.38), (0.02, 0.38)])
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        network.gate.set()
        page.wait_for_selector("#annotator .gl-uncertainty-bar", state="visible")
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
        set_slider(page, "segment-uncertain", 80)
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
        assert "outlines of 3 glands" in page.get_attribute("#segment-viewer .gl-image", "alt")
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
        page.wait_for_selector("#segment-viewer .gl-body[data-state=picture]")
        assert page.is_disabled("#segment-start")
        page.get_by_role("tab", name="Annotate").click()
        upload(page, picture_file(discs(1)), "annotate")
        page.wait_for_selector("#annotator .gl-stage", state="visible")
        stroke(page, [(0.02, 0.12), (0.18, 0.12), (0.18, 0.38), (0.02, 0.38)])
        text_becomes(page, "#annotate-budget", "1 gland outlined")


