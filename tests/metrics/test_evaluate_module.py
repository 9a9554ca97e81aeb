"""The `evaluate` module, loaded the ways users load it: from the package, as a folder, from a repository."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import evaluate
import numpy as np
import pytest

from hf_gland.instances import gland_instances
from hf_gland.metrics import gland_segmentation
from hf_gland.metrics.evaluator import SplitEvaluator
from hf_gland.metrics.standalone import write_standalone


@pytest.fixture
def images():
    """Two images of different sizes: (probabilities, prediction, truth, instances)."""
    rng = np.random.default_rng(0)
    made = []
    for size in ((12, 17), (20, 9)):
        truth = np.zeros(size, np.uint8)
        truth[2:8, 2:7] = 1
        probs = np.clip(np.stack([1 - truth, truth]) * 0.6 + rng.uniform(0, 0.4, (2, *size)), 0, 1)
        probs = (probs / probs.sum(0)).astype(np.float32)
        instances = gland_instances(truth)
        truth[-1] = 255
        made.append((probs, probs.argmax(0).astype(np.uint8), truth, instances))
    return made


@pytest.fixture
def metric(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    return evaluate.load(gland_segmentation.__file__, cache_dir=str(tmp_path / "cache"))


def expected(images, **options):
    evaluator = SplitEvaluator(2, **options)
    for probs, _, truth, instances in images:
        evaluator.update(probs, truth, instances)
    return evaluator.compute()


def test_loaded_by_path_gives_the_figures_of_the_evaluator(metric, images):
    probs, predictions, references, instances = zip(*images, strict=True)
    found = metric.compute(predictions=predictions, references=references, instances=instances,
                           probabilities=probs, min_gland_area_px=3, bootstrap=50)
    assert found == expected(images, min_gland_area_px=3, bootstrap=50)
    assert found["object_f1"] is not None


def test_predicted_glands_can_be_given(metric, images):
    _, predictions, references, instances = zip(*images, strict=True)
    found = metric.compute(predictions=predictions, references=references, instances=instances,
                           predicted_instances=[2 * i for i in instances], bootstrap=0)
    assert found["object_f1"] == found["object_dice"] == 100
    with pytest.raises(ValueError, match="2 images but 1 predicted_instances"):
        metric.compute(predictions=predictions, references=references, predicted_instances=instances[:1])


def test_images_can_be_added_one_by_one_as_lists(metric, images):
    for _, prediction, truth, _ in images:
        metric.add(prediction=prediction.tolist(), reference=truth.tolist())
    found, full = metric.compute(), expected(images)
    assert (found["mIoU"], found["image_dice"]) == (full["mIoU"], full["image_dice"])
    assert found["object_f1"] is None
    assert found["ece_missing"]


def test_mismatched_inputs_are_refused(metric, images):
    probs, predictions, references, instances = zip(*images, strict=True)
    with pytest.raises(ValueError, match="2 images but 1 instances"):
        metric.compute(predictions=predictions, references=references, instances=instances[:1])
    with pytest.raises(ValueError, match="not the most probable class"):
        metric.compute(predictions=[1 - p for p in predictions], references=references, probabilities=probs)


@pytest.fixture
def repository(tmp_path):
    """(endpoint, folder): a server that answers for the files of the Space `someone/my_metric`, main branch."""
    folder = write_standalone(tmp_path / "my_metric", "my_metric").parent

    class Files(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path):
            name = path.partition("/spaces/someone/my_metric/resolve/main/")[2].partition("?")[0]
            return str(folder / (name or "absent"))  # 404 for any other repository or revision

        def end_headers(self):
            self.send_header("ETag", f'"{hashlib.sha1(self.path.encode()).hexdigest()}"')
            super().end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()


def test_standalone_module_needs_no_installed_package(tmp_path, images, repository):
    endpoint, folder = repository
    probs, predictions, references, instances = ([a.tolist() for a in column] for column in
                                                 zip(*images, strict=True))
    (tmp_path / "inputs.json").write_text(json.dumps({
        "predictions": predictions, "references": references, "instances": instances, "probabilities": probs,
        "bootstrap": 20}))
    program = ("import json, sys; sys.modules['hf_gland'] = None\n"
               "import evaluate\n"
               "inputs = json.load(open('inputs.json'))\n"
               "print(json.dumps([evaluate.load(path).compute(**inputs) for path in sys.argv[1:]]))")
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": endpoint,
                                "HF_UPDATE_DOWNLOAD_COUNTS": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", program, str(folder), "someone/my_metric"], cwd=tmp_path,
                          env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    from_folder, from_repository = json.loads(done.stdout.splitlines()[-1])
    assert from_folder == from_repository
    full = expected(images, bootstrap=20)
    assert from_folder.keys() == full.keys()
    assert from_folder.pop("reliability")["pixels"] == full.pop("reliability")["pixels"]
    assert from_folder.pop("risk_coverage")["error"] == pytest.approx(full.pop("risk_coverage")["error"])
    for key, value in full.items():
        assert from_folder[key] == pytest.approx(value), key  # as lists, probabilities become float64


def test_standalone_folder_is_whole_and_names_no_absolute_import(tmp_path):
    script = write_standalone(tmp_path / "gland_segmentation")
    files = {p.name: p.read_text() for p in script.parent.iterdir()}
    assert {"gland_segmentation.py", "evaluator.py", "labels.py", "requirements.txt", "index.html"} <= files.keys()
    for name, text in files.items():
        assert "from hf_gland" not in text, name
        assert not name.startswith("."), name
    assert "{" not in files["index.html"].partition("<body")[2]
