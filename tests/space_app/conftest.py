import multiprocessing.util

import pytest
from browser_tools import browser
from PIL import Image
from space_tools import Server, dark_demo


@pytest.fixture(scope="session", autouse=True)
def _place_of_temporary_files(tmp_path_factory):
    """Settled before a server moves Python's temporary folder into its own, which is swept, and goes when the server ends.

    The processes of tests that come later are started by way of multiprocessing's.
    """
    tmp_path_factory.getbasetemp()
    multiprocessing.util.get_temp_dir()


@pytest.fixture(scope="session", autouse=True)
def _patience_with_a_busy_machine():
    """gradio takes a page that does not answer within three seconds of its launch for one that cannot be reached."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gradio.networking.url_ok", lambda url: True)
        yield


@pytest.fixture
def make_demo(tmp_path):
    """Build a demo around DarkIsGland: `make_demo(mpp=…, max_side_px=…, …)`."""
    demos = []

    def build(**options):
        demos.append(dark_demo(tmp_path / "space", **options))
        return demos[-1]

    yield build
    for demo in demos:
        demo.runner.close()


@pytest.fixture
def picture_file(tmp_path):
    """Save an array: `picture_file(pixels, "name.png", **save options)`."""
    def save(pixels, name="discs.png", **options):
        path = tmp_path / name
        Image.fromarray(pixels).save(path, **options)
        return path
    return save


@pytest.fixture(scope="session")
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture(scope="session")
def chromium():
    with browser() as running:
        yield running
