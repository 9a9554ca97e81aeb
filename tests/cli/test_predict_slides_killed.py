"""Slides whose prediction is killed: the next run ends with the same files, and does nothing twice."""

import functools
import os
import random
import signal
import time

import pytest
from processes import run_here, start
from slide_files import aperio, contents, texture, write_slide
from tiny_model import save_tiny_model

from hf_gland.cli.main import run_command
from hf_gland.inference.slides.outputs import SlideOutputs


@pytest.fixture
def words(tmp_path):
    """The command on two slides, without --out."""
    for number, name in enumerate(("in/a.svs", "in/b.svs")):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_slide(tmp_path / name, texture((330, 260), number), levels=2, description=aperio(0.5))
    model = save_tiny_model(tmp_path / "model", mpp=0.5)
    return [str(tmp_path / "in"), "--model", str(model), "--tile-px", "128", "--min-gland-um2", "0", "--min-confidence", "0",
            "--device", "cpu", "--formats", "geojson", "geojson.gz", "csv", "overlay", "mask", "confidence",
            "--skip-existing"]


def predict(words, kill_at=None):
    """Run the command; `kill_at`: kill this process before the event of that number, counted from 0."""
    events = 0

    def counted(function):
        @functools.wraps(function)
        def call(*arguments, **options):
            nonlocal events
            if events == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            events += 1
            return function(*arguments, **options)
        return call

    if kill_at is not None:
        os.replace = counted(os.replace)
        SlideOutputs.add, SlideOutputs.finish = counted(SlideOutputs.add), counted(SlideOutputs.finish)
    raise SystemExit(run_command("predict", words))


def check_after_a_kill(words, out, expected):
    done = {path.name: path.read_bytes() for path in out.glob("*.json")}
    assert run_here("predict", [*words, "--out", out])[0] == 0
    left = {name for name in contents(out) if name.endswith(".part")}
    assert {name: content for name, content in contents(out).items() if name not in left} == expected
    assert all((out / name).read_bytes() == record for name, record in done.items())  # with their timings: not done again
    return len(done)


def test_killed_between_two_steps_it_ends_the_same(words, tmp_path):
    assert run_here("predict", [*words, "--out", tmp_path / "whole"])[0] == 0
    expected = contents(tmp_path / "whole")
    assert len(expected) == 16
    # Of each slide: 4 stripes, the end, 6 files and the record renamed; and then the table of slides.
    for moment, finished in ((8, 0), (12, 1)):
        out = tmp_path / f"killed-{moment}"
        assert start(predict, [*words, "--out", str(out)], moment).wait() == -signal.SIGKILL
        assert len(list(out.glob("[ab]*"))) == (3 if moment == 8 else 7)
        assert check_after_a_kill(words, out, expected) == finished


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_twenty_random_moments_it_ends_the_same(words, tmp_path):
    running = start(predict, [*words, "--out", str(tmp_path / "whole")])
    started = time.perf_counter()
    assert running.wait() == 0
    seconds = time.perf_counter() - started
    expected, rng, killed = contents(tmp_path / "whole"), random.Random(7), 0
    for number in range(20):
        out = tmp_path / f"killed-{number}"
        running = start(predict, [*words, "--out", str(out)])
        running.process.join(rng.uniform(0.3, 1) * seconds)
        running.process.kill()
        killed += running.wait() == -signal.SIGKILL
        check_after_a_kill(words, out, expected)
    assert killed > 10
