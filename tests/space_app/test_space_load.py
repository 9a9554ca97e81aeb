"""Many visitors at once: each gets the result of its own picture, and memory is given back."""

import concurrent.futures
import gc
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from gradio_client import handle_file
from PIL import Image
from space_tools import Server, connect, discs


def resident_mb():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def visits(url, path, glands, seconds, folder):
    """Segment one picture again and again; returns how often, having checked every answer."""
    client = connect(url, folder)
    expected = (discs(glands)[..., 0] < 128).astype(np.uint8)
    until, count = time.monotonic() + seconds, 0
    while count == 0 or time.monotonic() < until:
        summary, table, _, _, _, mask, *_ = client.predict(handle_file(str(path)), mpp=0.8, api_name="/segment")
        assert (summary["glands"], summary["picture"], len(table["data"])) == (glands, path.name, glands)
        assert np.array_equal(np.asarray(Image.open(mask)), expected)
        count += 1
    client.close()
    return count


def crowd(url, folder, clients, seconds):
    jobs = []
    for number in range(clients):
        glands = 1 + number % 10
        path = folder / f"visitor{number}.png"
        Image.fromarray(discs(glands)).save(path)
        (folder / f"downloads{number}").mkdir(exist_ok=True)
        jobs.append((url, path, glands, seconds, folder / f"downloads{number}"))
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return sum(pool.map(lambda job: visits(*job), jobs))


def crowd_of_its_own(url, clients, seconds):
    """The same from another process, whose memory does not count.

    Its temporary folder goes when it ends: for every file that `gradio_client` downloads, it leaves an empty folder of a
    random name there.
    """
    code = ("import pathlib, sys\n"
            f"sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]}\n"
            "from test_space_load import crowd\n"
            f"print(crowd({url!r}, pathlib.Path(sys.argv[1]), {clients}, {seconds}))\n")
    with tempfile.TemporaryDirectory(prefix="crowd-") as place:
        done = subprocess.run([sys.executable, "-c", code, place], env=os.environ | {"TMPDIR": place}, capture_output=True,
                              text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.browser
def test_some_visitors_at_once_get_each_their_own_and_leave_nothing_behind(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert crowd_of_its_own(server.url, clients=6, seconds=2) >= 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_twenty_visitors_for_a_minute_leave_memory_as_it_was():
    server = Server()
    try:
        crowd_of_its_own(server.url, clients=20, seconds=15)  # pools, caches and threads reach their size
        gc.collect()
        before = resident_mb()
        answered = crowd_of_its_own(server.url, clients=20, seconds=60)
        gc.collect()
        grown = resident_mb() - before
        print(f"{answered} answers in about 60 s to 20 clients; resident memory {before:.0f} MB, then {grown:+.0f} MB")
        assert answered >= 20
        assert grown < 60  # gradio remembers up to SESSIONS visitors
        assert server.demo.store.bytes == 0  # the API keeps nothing between calls
        assert not server.demo.tickets._running
    finally:
        server.close()
    assert not server.temporary.path.exists()
