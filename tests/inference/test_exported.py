import importlib.util
import json
import shutil

import numpy as np
import pytest
import torch
from tiny_model import save_tiny_model

from hf_gland.cli.main import run_command
from hf_gland.errors import HfGlandError
from hf_gland.inference.exported import NETWORK, RECORD
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.options import Tiling

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model folder, exported where `predict` looks."""
    model = save_tiny_model(tmp_path_factory.mktemp("exported") / "model", mpp=0.5)
    assert run_command("export", [str(model)]) == 0
    return model


def record_of(model, **changes):
    path = model / "onnx" / RECORD
    record = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(record | changes))
    return record


@pytest.mark.parametrize("backend", ["onnx", pytest.param("openvino", marks=openvino)])
def test_another_library_gives_the_probabilities_of_torch_at_any_size_and_batch(exported, backend):
    torch_only, other = (GlandSegmenter.from_pretrained(exported, device="cpu") for _ in range(2))
    assert backend in other.use_backend(backend, exported / "onnx", "float32")
    assert other.backend == backend
    forward, expected = (one.network(Tiling(precision="float32")) for one in (other, torch_only))
    generator = torch.Generator().manual_seed(1)
    for shape in ((1, 3, 64, 96), (3, 3, 75, 50)):
        tiles = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        assert (forward(tiles) - expected(tiles)).abs().max() < 1e-4
    picture = np.random.default_rng(2).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    seen, wanted = (one.predict(picture, 0.5, Tiling(64, precision="float32")) for one in (other, torch_only))
    assert np.array_equal(seen.class_map, wanted.class_map)


def test_auto_takes_what_was_fastest_here_if_it_is_of_these_weights_and_says_so(exported, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(exported, model)

    def chosen(wanted="auto", precision="float32"):
        segmenter = GlandSegmenter.from_pretrained(model, device="cpu")
        return segmenter.backend, segmenter.use_backend(wanted, model / "onnx", precision), segmenter.backend

    record = record_of(model, seconds_per_tile={"torch": 0.5, "onnx": 0.25})
    assert chosen()[2] == "onnx"
    assert "torch 500 ms, onnx 250 ms" in chosen()[1]
    assert chosen("torch")[1:] == (None, "torch")
    assert chosen(precision="bfloat16")[1:] == (None, "torch")
    with pytest.raises(HfGlandError, match="float32"):
        chosen("onnx", "bfloat16")
    record_of(model, seconds_per_tile={"torch": 0.125, "onnx": 0.25})
    assert chosen()[2] == "torch"
    for changes, words in [({"hardware": "another"}, "another machine"), ({"weights_sha256": "0"}, "other weights"),
                           ({"seconds_per_tile": None}, "cannot be used")]:
        record_of(model, **(record | changes))
        assert chosen()[2] == "torch"
        assert words in chosen()[1]
    record_of(model, **record)
    (model / "onnx" / NETWORK).write_bytes(b"something else")
    assert "not the file that was exported" in chosen()[1]
    with pytest.raises(HfGlandError, match="not the file that was exported"):
        chosen("onnx")
    shutil.rmtree(model / "onnx")
    assert chosen()[1:] == (None, "torch")
    with pytest.raises(HfGlandError, match="hf-gland export"):
        chosen("onnx")


def test_predict_records_what_computed(exported, tmp_path, capsys):
    from PIL import Image

    Image.fromarray(np.random.default_rng(3).integers(0, 256, (60, 80, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "--model", str(exported), "--mpp", "0.5", "--formats", "csv", "--precision", "float32"]
    for backend, expected in (("onnx", "onnx"), ("torch", None)):
        out = tmp_path / backend
        assert run_command("predict", [*words, "--backend", backend, "--out", str(out)]) == 0
        assert json.loads((out / "predictions.json").read_text("utf-8"))["settings"].get("backend") == expected
        others = {"onnx": "torch", "torch": "onnx"}[backend]  # a run goes on with another back-end, and does nothing twice
        assert run_command("predict", [*words, "--backend", others, "--out", str(out), "--skip-existing"]) == 0
        assert json.loads((out / "predictions.json").read_text("utf-8"))["settings"].get("backend") == expected
    stdout, stderr = capsys.readouterr()
    assert stdout.count("nothing to do") == 2
    assert "back-end: onnx (onnxruntime" in stderr
