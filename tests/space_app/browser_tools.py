"""Driving the page in Debian's chromium."""

import contextlib
import shutil

import pytest

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync", "--disable-default-apps", "--no-first-run"]


@contextlib.contextmanager
def browser():
    if shutil.which(CHROMIUM) is None:
        pytest.skip("chromium is not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@contextlib.contextmanager
def visit(running, url, width=1280, height=900, **options):
    """A fresh visitor's page; fails on a script error, and on any request that leaves the machine."""
    context = running.new_context(viewport={"width": width, "height": height}, accept_downloads=True, **options)
    page = context.new_page()
    page.set_default_timeout(90_000)
    faults = []
    page.on("pageerror", lambda error: faults.append(f"script error: {error}"))
    page.on("request", lambda request: None if request.url.startswith((url, "data:", "blob:"))
            else faults.append(f"outside request: {request.url}"))
    page.goto(url)
    page.wait_for_selector("#segment-examples [data-example='0']")
    try:
        yield page
        assert faults == []
    finally:
        context.close()


SIZES = [pytest.param((1280, 800), id="desk"), pytest.param((390, 844), id="phone")]


def upload(page, path, tab="segment"):
    page.set_input_files(f"#{tab}-drop input[type=file]", str(path))


def text_becomes(page, selector, part):
    page.wait_for_function("([s, t]) => document.querySelector(s)?.textContent.includes(t)", arg=[selector, part])


def text_goes(page, selector, part):
    page.wait_for_function("([s, t]) => !document.querySelector(s).textContent.includes(t)", arg=[selector, part])


def count_becomes(page, selector, count):
    page.wait_for_function("([s, n]) => document.querySelectorAll(s).length === n", arg=[selector, count])


def segment(page, path, mpp="0.8"):
    upload(page, path)
    text_becomes(page, "#segment-stage .gl-name", path.name.replace(" ", "_"))
    page.fill("#segment-mpp :is(input, textarea)", mpp)
    page.wait_for_selector("#segment-start:not([disabled])")
    page.click("#segment-start")
    page.wait_for_selector("#segment-stage [data-state=result]")
    page.wait_for_selector("#segment-status :text('Segmented in')")


def annotate(page, path):
    page.get_by_role("tab", name="Annotate").click()
    upload(page, path, "annotate")
    text_becomes(page, "#annotate-stage .gl-name", path.name.replace(" ", "_"))
    text_becomes(page, "#annotate-status", "Ready: outline a gland")


def settled(page, tab="segment"):
    """What the stage shows, [left, top, right, bottom] in pixels of the file, once it is drawn and no move is under way."""
    return page.wait_for_function("""(stage) => {
      const { sight, moving } = document.querySelector(stage).dataset;
      return moving === undefined && sight && sight.split(",").map(Number);
    }""", arg=f"#{tab}-stage .gl-stage").json_value()


def wheel(page, turn, tab="segment"):
    """Turn the wheel over the stage, and wait until that shows."""
    before, stage = settled(page, tab), f"#{tab}-stage .gl-stage"
    page.mouse.wheel(0, turn)
    page.wait_for_function("([stage, before]) => document.querySelector(stage).dataset.sight !== before",
                           arg=[stage, ",".join(f"{value:.1f}" for value in before)])


def on_screen(page, x, y, tab="segment"):
    """Where the pixel (x, y) of the file lies on the screen."""
    left, top, right, bottom = settled(page, tab)
    box = page.locator(f"#{tab}-stage .gl-canvas").bounding_box()
    return (box["x"] + (x - left) / (right - left) * box["width"], box["y"] + (y - top) / (bottom - top) * box["height"])


def stroke(page, points):
    """Draw through points (x, y) of the file on the Annotate tab."""
    page.locator("#annotate-stage .gl-canvas").scroll_into_view_if_needed()
    places = [on_screen(page, x, y, "annotate") for x, y in points]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=3)
    page.mouse.up()


def saved(page, button, folder):
    with page.expect_download() as started:
        page.click(button)
    path = folder / started.value.suggested_filename
    started.value.save_as(path)
    return path
