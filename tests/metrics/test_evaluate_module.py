"""The `evaluate` module, loaded by the path of the package's own (tests/hub: as a folder, and from a repository)."""

import evaluate
import pytest
from scored_images import expected, two_images

from hf_gland.metrics import gland_segmentation
from hf_gland.metrics.standalone import write_standalone


@pytest.fixture
def images():
    return two_images()


@pytest.fixture
def metric(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(evaluate.config, "HF_EVALUATE_OFFLINE", True)
    return evaluate.load(gland_segmentation.__file__, cache_dir=str(tmp_path / "cache"))


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


def test_standalone_folder_is_whole_and_names_no_absolute_import(tmp_path):
    script = write_standalone(tmp_path / "gland_segmentation")
    files = {p.name: p.read_text() for p in script.parent.iterdir()}
    assert {"gland_segmentation.py", "evaluator.py", "labels.py", "requirements.txt", "index.html"} <= files.keys()
    for name, text in files.items():
        assert "from hf_gland" not in text, name
        assert not name.startswith("."), name
    assert "{" not in files["index.html"].partition("<body")[2]
