"""Slides on a Ray cluster: what a worker does, how the cluster is shared, and what a killed worker leaves."""

import errno
import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import run_here, start
from slide_files import aperio, contents, texture, write_slide
from tiny_model import save_tiny_model

from hf_gland.cli import predict_slides
from hf_gland.cli.main import run_command
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.inference.slides import on_ray
from hf_gland.inference.slides.outputs import SlideOutputs

open_model = predict_slides.open_model


@pytest.fixture
def words(tmp_path, monkeypatch):
    """The command on three slides, without --out; paths are relative."""
    (tmp_path / "in").mkdir()
    for seed, name in enumerate("abc"):
        write_slide(tmp_path / f"in/{name}.svs", texture((330, 260 + 40 * seed), seed), levels=2, description=aperio(0.5))
    save_tiny_model(tmp_path / "model", mpp=0.5)
    monkeypatch.chdir(tmp_path)
    return ["in", "--model", "model", "--tile-px", "128", "--min-gland-um2", "0", "--min-confidence", "0", "--device", "cpu",
            "--formats", "geojson", "csv", "mask"]


def test_a_worker_does_each_slide_once_and_tells_of_a_full_disk(words, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(predict_slides, "predict_on_ray", lambda *arguments: given.append(arguments) or iter(()))
    assert run_command("predict", [*words, "--out", "out", "--ray", "auto"]) == 1  # nothing was predicted
    (address, load, requests, settings, on_gpus), = given
    assert (address, on_gpus, settings.tiling.precision) == ("auto", False, "float32")
    monkeypatch.chdir("/")
    worker = on_ray.SlideWorker(load, requests, settings, str(tmp_path), [None, None, None])
    networks = []
    network = GlandSegmenter.network
    monkeypatch.setattr(GlandSegmenter, "network", lambda self, tiling: networks.append(1) or network(self, tiling))
    first, again = worker({"number": 1}), worker({"number": 1})
    assert (first, len(networks), first["errno"]) == (again, 1, 0)
    record = json.loads(first["record"])
    assert record["image"] == str(requests[1].path)
    assert json.loads((tmp_path / "out" / requests[1].path.with_suffix(".json").name).read_text()) == record
    of_before = on_ray.SlideWorker(load, requests, settings, str(tmp_path), [None, record, None])
    redone = json.loads(of_before({"number": 1})["record"])
    assert (len(networks), redone["files"] == record["files"]) == (2, True)
    requests[1].path.unlink()
    lost = on_ray.SlideWorker(load, requests, settings, str(tmp_path), [None, redone, None])({"number": 1})
    assert "its results of before stay" in json.loads(lost["record"])["error"]
    assert json.loads((tmp_path / "out" / requests[1].path.with_suffix(".json").name).read_text()) == redone
    full = OSError(errno.ENOSPC, "disk full")
    monkeypatch.setattr(SlideOutputs, "finish", lambda self, record: (_ for _ in ()).throw(full))
    assert worker({"number": 0}) == {"number": 0, "errno": errno.ENOSPC, "record": "[Errno 28] disk full"}


def test_the_cluster_is_shared_by_gpus_or_by_cores(monkeypatch):
    def shares(*resources, on_gpus=True):
        return on_ray._shares([{"Alive": alive, "Resources": each} for alive, each in resources], on_gpus)

    monkeypatch.delenv("HF_GLAND_THREADS", raising=False)
    gpus = (True, {"CPU": 16.0, "GPU": 4.0}), (True, {"CPU": 6.0}), (False, {"CPU": 2.0, "GPU": 8.0})
    assert shares(*gpus) == (1, 1, 4)
    assert shares(*gpus, on_gpus=False) == (6, 0, 3)
    monkeypatch.setenv("HF_GLAND_THREADS", "5")
    assert shares(*gpus, on_gpus=False) == (5, 0, 4)
    with pytest.raises(ValueError, match="no machine with processors"):
        shares((True, {"memory": 1.0}))


def test_without_ray_the_extra_is_named(words, monkeypatch, capsys):
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: None)
    assert run_command("predict", [*words, "--out", "out", "--ray", "local"]) == 2
    assert "pip install 'hf_gland[ray]'" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_costs_no_record_of_before(words, tmp_path, monkeypatch):
    assert run_command("predict", [*words, "--out", "out"]) == 0
    before = contents(tmp_path / "out")

    def unreachable(address, **options):
        raise ConnectionError(f"no cluster at {address}")

    ray = SimpleNamespace(init=unreachable, shutdown=lambda: None, exceptions=SimpleNamespace(RayError=RuntimeError))
    monkeypatch.setattr(on_ray.importlib.util, "find_spec", lambda name: name)
    for name, module in (("ray", ray), ("ray.data", SimpleNamespace())):
        monkeypatch.setitem(sys.modules, name, module)
    assert run_command("predict", [*words, "--out", "out", "--overwrite", "--ray", "10.0.0.1:6379"]) == 2
    assert contents(tmp_path / "out") == before


def model_of_workers_that_are_killed(arguments):
    """The model; the worker that writes of slide a kills itself each time, of b once, and once when it has finished c."""
    add, finish = SlideOutputs.add, SlideOutputs.finish

    def kill(name, outputs, once):
        mark = Path(f"killed-{name}")
        if outputs.record_path.stem == name and not (once and mark.exists()):
            mark.write_bytes(outputs.record_path.read_bytes() if outputs.record_path.exists() else b"")
            os.kill(os.getpid(), signal.SIGKILL)

    def added(self, stripe):
        add(self, stripe)
        kill("a", self, once=False)
        kill("b", self, once=True)

    def finished(self, record):
        finish(self, record)
        kill("c", self, once=True)

    SlideOutputs.add, SlideOutputs.finish = added, finished
    return open_model(arguments, arguments.device)[0]


def predict_there(words):
    predict_slides._model = model_of_workers_that_are_killed
    raise SystemExit(run_command("predict", words))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_workers_end_no_run_and_nothing_is_done_twice(words, tmp_path):
    pytest.importorskip("ray")
    assert run_here("predict", [*words, "--out", "whole"])[0] == 0
    expected = contents(tmp_path / "whole")
    running = start(predict_there, [*words, "--out", "out", "--ray", "local"],
                    environment={"RAY_raylet_start_wait_time_s": "300", "PYTHONPATH": os.pathsep.join(sys.path)})
    assert running.wait() == 1, running.stderr
    assert "a.svs: its worker was killed 4 times" in running.stderr
    assert "segmented: 2, failed: 1" in running.stdout
    now = contents(tmp_path / "out")
    assert {name: now[name] for name in expected if name[0] in "bc"} == {
        name: content for name, content in expected.items() if name[0] in "bc"}
    assert (tmp_path / "out" / "c.json").read_bytes() == (tmp_path / "killed-c").read_bytes()  # timings too: not done again
    assert (tmp_path / "killed-b").exists()
    assert [bool(row["error"]) for row in now["slides.csv"]] == [True, False, False]
    assert "slides.png" in now
    status, stdout, _ = run_here("predict", [*words, "--out", "out", "--skip-existing"])
    assert (status, "segmented: 1, skipped: 2" in stdout) == (0, True)
    assert contents(tmp_path / "out") == expected
