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
