"""The `evaluate` module, loaded the ways users load it: from the package and as a folder on its own."""

import json
import os
import re
import subprocess
import sys

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


def test_standalone_folder_needs_no_installed_package(tmp_path, images):
    script = write_standalone(tmp_path / "my_metric", "my_metric")
    assert script == tmp_path / "my_metric" / "my_metric.py"
    probs, predictions, references, instances = ([a.tolist() for a in column] for column in
                                                 zip(*images, strict=True))
    (tmp_path / "inputs.json").write_text(json.dumps({
        "predictions": predictions, "references": references, "instances": instances, "probabilities": probs,
        "bootstrap": 20}))
    program = ("import json, sys; sys.modules['hf_gland'] = None\n"
               "import evaluate\n"
               "metric = evaluate.load('my_metric')\n"
               "print(json.dumps(metric.compute(**json.load(open('inputs.json')))))")
    environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_EVALUATE_OFFLINE": "1",
                                "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True,
                          text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found, full = json.loads(done.stdout.splitlines()[-1]), expected(images, bootstrap=20)
    assert found.keys() == full.keys()
    assert found.pop("reliability")["pixels"] == full.pop("reliability")["pixels"]
    for key, value in full.items():
        assert found[key] == pytest.approx(value), key  # as lists, probabilities become float64


def test_standalone_folder_is_whole_and_names_no_absolute_import(tmp_path):
    script = write_standalone(tmp_path / "gland_segmentation")
    files = {p.name: p.read_text() for p in script.parent.iterdir()}
    assert {"gland_segmentation.py", "evaluator.py", "labels.py", "README.md", "requirements.txt",
            "index.html"} <= files.keys()
    for name, text in files.items():
        assert "from hf_gland" not in text, name
        assert not name.startswith("."), name
        assert name.endswith(".py") or not re.search(r"\{(name|version|description|inputs|citation)\}", text)
