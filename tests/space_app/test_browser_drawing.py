"""Drawing in a real browser: strokes, points, what is kept and loaded, and what comes from the Segment tab."""

import json
import zipfile

import numpy as np
import pytest
from browser_tools import SIZES, annotate, on_screen, saved, segment, settled, stroke, text_becomes, upload, visit
from PIL import Image
from space_tools import discs

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local

pytestmark = pytest.mark.browser

NAME, READOUT, LOAD = ("#annotate-stage " + part for part in (".gl-name", ".gl-readout", ".gl-load input"))
AROUND_THE_FIRST = [(5, 24), (47, 24), (47, 76), (5, 76)]  # pixels of the file


def test_annotating_ends_in_a_row_that_build_dataset_accepts(chromium, server, picture_file, tmp_path):
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(discs(3), "biopsy.png"))
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        page.click("#annotate-save-rows")
        text_becomes(page, "#annotate-status", "Nothing has been drawn yet")
        stroke(page, AROUND_THE_FIRST)
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        page.keyboard.press("2")
        page.keyboard.press("b")
        stroke(page, [(26, 140), (156, 160)])
        page.wait_for_function("!/ 0.00 % stroma/.test(document.querySelector('#annotate-budget').textContent)")
        page.click("#annotate-stage .gl-undo")
        text_becomes(page, "#annotate-budget", " 0.00 % stroma")
        stroke(page, [(26, 140), (156, 160)])
        page.wait_for_function("!/ 0.00 % stroma/.test(document.querySelector('#annotate-budget').textContent)")

        page.click("#annotate-start")
        page.wait_for_selector("#annotate-stage .gl-layers", state="visible")
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


def drawn_mask(page, folder):
    return np.asarray(Image.open(saved(page, "#annotate-save-mask", folder)))


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
        text_becomes(page, READOUT, "still in this browser")
        kept = drawn_mask(page, tmp_path)
        assert (kept == 1).sum() > 1000
        page.reload()  # downloaded, so nothing is asked
        page.wait_for_selector("#segment-examples [data-example='0']")
        assert questions == ["beforeunload"]
        page.get_by_role("tab", name="Annotate").click()
        text_becomes(page, "#annotate-budget", "1 gland outlined")

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
        text_becomes(page, NAME, "1-benign")
        upload(page, picture_file(discs(3), "biopsy.png"), "annotate")
        text_becomes(page, NAME, "biopsy")
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
        assert page.inner_text(NAME).startswith("biopsy")
        answers.append(True)
        upload(page, picture_file(discs(1), "other.png"), "annotate")
        text_becomes(page, NAME, "other")
        assert len(questions) == 4


def test_a_saved_mask_loads_back_and_one_of_another_picture_does_not(chromium, server, picture_file, tmp_path):
    mask = np.full((200, 260), 255, np.uint8)
    mask[30:70, 6:46], mask[120:126, 30:200] = 1, 0
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(discs(3), "biopsy.png"))
        for wrong, words in ((mask[:100], "has 260 × 100 px, the picture 260 × 200"),
                             (np.where(mask == 1, 7, mask), "other values"), (discs(3), "other values")):
            page.set_input_files(LOAD, str(picture_file(wrong.astype(np.uint8), "wrong.png")))
            text_becomes(page, READOUT, words)
        (tmp_path / "notes.png").write_text("no picture")
        page.set_input_files(LOAD, str(tmp_path / "notes.png"))
        text_becomes(page, READOUT, "neither a picture nor GeoJSON")
        page.set_input_files(LOAD, str(picture_file(mask, "saved.png")))
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        assert np.array_equal(drawn_mask(page, tmp_path), mask)
        page.click("#annotate-stage .gl-undo")
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")


def test_drawing_works_where_the_picture_is_zoomed_and_moved(chromium, server, picture_file, tmp_path):
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(discs(3), "biopsy.png"))
        stage = page.locator("#annotate-stage .gl-stage")
        stage.focus()
        page.keyboard.press("+")
        page.keyboard.press("+")
        page.keyboard.press("m")
        before = settled(page, "annotate")
        stage.scroll_into_view_if_needed()
        box = stage.bounding_box()
        page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
        page.mouse.down()
        page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 0.9 * box["height"], steps=5)  # to the top left corner
        page.mouse.up()
        assert before[0] > 0 or before[1] > 0
        assert settled(page, "annotate")[1] == 0
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        page.keyboard.press("o")
        stroke(page, AROUND_THE_FIRST)
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        drawn = drawn_mask(page, tmp_path) == 1
    expected = np.zeros(drawn.shape, bool)
    expected[24:76, 5:47] = True
    assert (drawn ^ expected).sum() < 0.04 * expected.sum()


def test_drawing_by_keyboard_alone(chromium, server, picture_file):
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(discs(1)))
        page.focus("#annotate-stage .gl-stage")
        page.keyboard.press("Enter")
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
            for _ in range(3):
                page.keyboard.press(f"Shift+{key}")
        page.keyboard.press("Enter")
        text_becomes(page, "#annotate-budget", "1 gland outlined")


@pytest.mark.parametrize("size", SIZES)
def test_reviewed_glands_go_to_the_annotate_tab_and_an_outline_is_moved_by_its_points(chromium, server, picture_file,
                                                                                       tmp_path, size):
    with visit(chromium, server.url, *size) as page:
        segment(page, picture_file(discs(3), "case.png"))
        rows = "#segment-stage .gl-table tbody tr"
        page.click(f"{rows}:nth-child(2) td:nth-child(4)")
        page.click("#segment-stage [data-review=rejected]")
        assert page.inner_text(f"{rows}:nth-child(2)").split()[0] == "–"
        assert page.inner_text(f"{rows}:nth-child(3)").split()[0] == "2"  # without a gap
        features = json.loads(saved(page, "#download-geojson", tmp_path).read_text())["features"]
        assert [feature["properties"]["name"] for feature in features] == ["gland 1", "gland 2"]
        page.click(f"{rows}:nth-child(1) td:nth-child(4)")
        page.click("#segment-stage .gl-redraw")
        text_becomes(page, READOUT, "Points:")
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        assert page.input_value("#annotate-mpp :is(input, textarea)") == "0.8"
        before = settled(page, "annotate")
        assert before[0] < 6 < 46 < before[2]  # the gland is in sight
        page.locator("#annotate-stage .gl-canvas").scroll_into_view_if_needed()
        page.mouse.move(*on_screen(page, 26, 30, "annotate"))  # a point at the top of the disc of radius 20 about (26, 50)
        page.mouse.down()
        page.mouse.move(*on_screen(page, 26, 10, "annotate"), steps=4)
        page.mouse.up()
        mask = np.asarray(Image.open(saved(page, "#annotate-save-mask", tmp_path)))
        assert mask[50, 26] == mask[20, 26] == 1  # pulled upwards
        assert mask[50, 78] == 0  # the rejected one is stroma
        assert mask[50, 130] == 255
        page.focus("#annotate-stage .gl-stage")
        page.keyboard.press("Delete")
        shorter = np.asarray(Image.open(saved(page, "#annotate-save-mask", tmp_path)))
        assert (shorter[50, 26], shorter[15, 26]) == (1, 255)
        for _ in range(3):
            page.keyboard.press("Control+z")
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")


def test_suggestions_keep_away_from_what_is_drawn_and_a_predicted_gland_is_taken_by_a_click(chromium, server, picture_file,
                                                                                            tmp_path):
    pixels = discs(2)
    pixels[120:160, 60:100] = pixels[120:160, 180:220] = 122  # where the model can only guess
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(pixels, "biopsy.png"))
        assert page.locator("#annotate-stage .gl-layers").is_hidden()
        assert page.locator("#annotate-stage [value=take]").is_hidden()

        def suggested_after(action, *arguments):
            """The places that the server names in answer to what is done."""
            with page.expect_response(lambda answer: "component_server" in answer.url
                                      and "suggest" in (answer.request.post_data or "")) as answered:
                action(*arguments)
            return answered.value.json()

        asked = [suggested_after(page.click, "#annotate-start")]
        page.wait_for_selector("#annotate-stage .gl-layers", state="visible")
        page.click("#annotate-stage label:has([value=take])")
        asked.append(suggested_after(page.mouse.click, *on_screen(page, 26, 50, "annotate")))
        text_becomes(page, "#annotate-budget", "1 gland outlined")
        page.keyboard.press("o")
        asked.append(suggested_after(stroke, page, [(55, 115), (105, 115), (105, 165), (55, 165)]))
        text_becomes(page, "#annotate-budget", "2 glands outlined")
        mask = np.asarray(Image.open(saved(page, "#annotate-save-mask", tmp_path)))
        y, x = np.mgrid[:200, :260]
        assert np.array_equal(mask[:100] == 1, ((x - 26) ** 2 + (y - 50) ** 2 <= 400)[:100])
        near = [[abs(place["x"] - 80) < 40 and abs(place["y"] - 140) < 40 for place in places] for places in asked]
        assert any(near[0])
        assert near[-1]
        assert not any(near[-1])


def test_annotations_of_qupath_load_and_what_is_saved_loads_back(chromium, server, picture_file, tmp_path):
    def feature(ring, name=None, kind="Polygon"):
        properties = {} if name is None else {"classification": {"name": name, "color": [1, 2, 3]}}
        return {"type": "Feature", "geometry": {"type": kind, "coordinates": ring}, "properties": properties}

    hole = [[20, 40], [30, 40], [30, 50], [20, 50], [20, 40]]
    features = [feature([[[10, 30], [40, 30], [40, 60], [10, 60], [10, 30]], hole], "Gland"),
                feature([[[0, 20], [100, 20], [100, 80], [0, 80], [0, 20]]], "Stroma"),
                feature([[[60, 30], [70, 30], [70, 40], [60, 40], [60, 30]]], "Gland: Atypical"),
                feature([[[0, 0], [9, 0], [9, 9]]], "Tumor"), feature([[[0, 0], [120, 0], [120, 90], [0, 90], [0, 0]]])]
    expected = np.full((200, 260), 255)
    expected[20:80, 0:100] = 0
    expected[30:60, 10:40] = 1
    expected[40:50, 20:30] = 0
    expected[30:40, 60:70] = 1
    (tmp_path / "own.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (tmp_path / "bad.geojson").write_text("{")
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(discs(3), "biopsy.png"))
        page.set_input_files(LOAD, str(tmp_path / "bad.geojson"))
        text_becomes(page, READOUT, "bad.geojson is no GeoJSON")
        page.set_input_files(LOAD, str(tmp_path / "own.geojson"))
        text_becomes(page, READOUT, "3 outlines loaded; left out, as they have no class: 1; left out, as the model has no "
                     "such class: Tumor")
        assert np.array_equal(drawn_mask(page, tmp_path), expected)
        (tmp_path / "none.geojson").write_text(json.dumps([feature([[[60, 30], [70, 30], [70, 40], [60, 40], [60, 30]]])]))
        page.click("#annotate-stage .gl-clear")
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        page.set_input_files(LOAD, str(tmp_path / "none.geojson"))
        text_becomes(page, READOUT, "1 outline loaded")
        assert (drawn_mask(page, tmp_path) == 1).sum() == 100  # without classes all are glands, as there is one kind
        page.click("#annotate-stage .gl-clear")
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        page.set_input_files(LOAD, str(tmp_path / "own.geojson"))
        text_becomes(page, READOUT, "3 outlines loaded")
        kept = saved(page, "#annotate-save-geojson", tmp_path)
        page.click("#annotate-stage .gl-clear")
        text_becomes(page, "#annotate-budget", "Nothing labelled yet")
        page.set_input_files(LOAD, str(kept))
        text_becomes(page, READOUT, "outlines loaded")
        assert np.array_equal(drawn_mask(page, tmp_path), expected)


def test_the_brush_is_measured_in_micrometres_where_the_pixel_size_is_known(chromium, server, picture_file):
    with visit(chromium, server.url) as page:
        annotate(page, picture_file(discs(3), "biopsy.png"))
        page.fill("#annotate-stage .gl-width", "10")
        assert page.inner_text("#annotate-stage .gl-width-shown") == "10 px"
        page.fill("#annotate-mpp :is(input, textarea)", "0,25")
        text_becomes(page, "#annotate-stage .gl-width-shown", "2.5 µm")
        text_becomes(page, "#annotate-stage .gl-scale-text", "µm")
