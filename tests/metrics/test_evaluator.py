"""The evaluator: its parts add up, order and unlabelled pixels do not matter, gaps are explained."""

import json

import numpy as np
import pytest
import torch
from scipy import ndimage

from hf_gland.instances import gland_instances
from hf_gland.labels import MaskError
from hf_gland.metrics.calibration import CalibrationCounts
from hf_gland.metrics.evaluator import SplitEvaluator
from hf_gland.metrics.objects import match_objects, object_metrics
from hf_gland.metrics.pixel import confusion_matrix, image_dice, pixel_metrics


def image(rng, num_classes=2, size=(40, 50), unlabelled=0.0):
    """(probabilities, truth, instances) of one made-up image with a plausible prediction."""
    fields = np.stack([ndimage.gaussian_filter(rng.normal(size=size), 4) * 12 for _ in range(num_classes)])
    truth = fields.argmax(0).astype(np.uint8)
    noise = [ndimage.gaussian_filter(rng.normal(size=size), 2) * 4 for _ in range(num_classes)]
    probs = np.exp(fields + noise) / np.exp(fields + noise).sum(0)
    instances = gland_instances(truth).astype(np.uint16)
    truth[rng.random(size) < unlabelled] = 255
    return probs.astype(np.float32), truth, instances


def evaluate(images, **options):
    evaluator = SplitEvaluator(options.pop("num_classes", 2), **options)
    for i, (probs, truth, instances) in enumerate(images):
        evaluator.update(probs, truth, instances, f"id {i}")
    return evaluator


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    return [image(rng, size=(40, 40 + 5 * i)) for i in range(4)]


@pytest.mark.parametrize("num_classes", [2, 4])
def test_equals_its_parts(num_classes):
    rng = np.random.default_rng(num_classes)
    images = [image(rng, num_classes) for _ in range(3)]
    metrics = evaluate(images, num_classes=num_classes, bootstrap=0).compute()
    confusions = [confusion_matrix(p.argmax(0), t, num_classes) for p, t, _ in images]
    matches = [match_objects(gland_instances(p.argmax(0)), ids) for p, _, ids in images]
    calibration = CalibrationCounts()
    for probs, truth, _ in images:
        calibration.update(probs, truth)
    expected = (pixel_metrics(np.sum(confusions, axis=0)) | {"image_dice": image_dice(confusions)}
                | object_metrics(matches) | calibration.metrics())
    assert {key: metrics[key] for key in expected} == expected
    assert metrics["images"] == 3


@pytest.mark.parametrize("with_probabilities", [True, False])
def test_predicted_glands_are_those_given_and_hidden_where_the_truth_is(split, with_probabilities):
    rng, evaluator, matches = np.random.default_rng(1), SplitEvaluator(2, bootstrap=0), []
    for probs, truth, ids in split:
        found = rng.integers(0, 4, truth.shape)
        matches.append(match_objects(np.where(truth != 255, found, 0), np.where(truth != 255, ids, 0)))
        if with_probabilities:
            evaluator.update(probs, truth, ids, predicted_instances=found)
        else:
            evaluator.update_class_map(probs.argmax(0), truth, ids, predicted_instances=found)
    expected = object_metrics(matches)
    assert {key: evaluator.compute()[key] for key in expected} == expected
    assert expected["predicted_objects"] == 12  # three ids in each of four images


def test_classes_after_clean_up_have_figures_of_their_own_and_change_no_other(split):
    evaluator, plain = SplitEvaluator(2, bootstrap=0), evaluate(split, bootstrap=0).compute()
    confusions = []
    for i, (probs, truth, instances) in enumerate(split):
        cleaned = probs.argmax(0)
        cleaned[:8] = 0
        confusions.append(confusion_matrix(cleaned, truth, 2))
        evaluator.update(probs, truth, instances, f"id {i}", cleaned=cleaned)
    expected = pixel_metrics(np.sum(confusions, axis=0))
    metrics = evaluator.compute()
    assert (metrics.pop("cleaned_mIoU"), metrics.pop("cleaned_mDice")) == (expected["mIoU"], expected["mDice"])
    assert expected["mIoU"] != metrics["mIoU"]
    assert metrics == plain
    evaluator.update(*split[0], "without")  # figures of some images alone would be none
    assert "cleaned_mIoU" not in evaluator.compute()
    with pytest.raises(ValueError, match="id 9: prediction and truth differ in size"):
        evaluator.update(*split[0], "id 9", cleaned=np.zeros((3, 3), np.uint8))
    assert evaluator.compute()["images"] == 5


def test_predicted_glands_of_another_size_are_an_error(split):
    probs, truth, ids = split[0]
    with pytest.raises(ValueError, match="here: the map of predicted gland ids is"):
        SplitEvaluator(2).update(probs, truth, ids, "here", predicted_instances=np.zeros((3, 3), int))


def test_perfect_prediction(split):
    perfect = [(np.stack([t == 0, t == 1]).astype(np.float32), t, ids) for _, t, ids in split]
    metrics = evaluate(perfect).compute()
    for key in ("mIoU", "mDice", "gland_iou", "gland_dice", "image_dice", "object_f1", "object_dice"):
        assert metrics[key] == 100, key
        if key != "gland_iou":
            assert metrics.get(f"{key}_ci95") in (None, [100, 100])
    assert (metrics["object_hausdorff"], metrics["ece"], metrics["brier"]) == (0, 0, 0)


def test_empty_prediction(split):
    empty = [(np.stack([np.ones(t.shape), np.zeros(t.shape)]), t, ids) for _, t, ids in split]
    metrics = evaluate(empty).compute()
    for key in ("gland_iou", "gland_dice", "image_dice", "object_f1", "object_dice"):
        assert metrics[key] == 0, key
    assert metrics["object_precision_missing"] == "no gland was predicted"
    assert metrics["object_hausdorff_capped"] == metrics["true_objects"] > 0


def test_order_of_images_does_not_matter(split):
    forward, backward = evaluate(split).compute(), evaluate(split[::-1]).compute()
    assert forward.pop("reliability")["pixels"] == backward.pop("reliability")["pixels"]
    assert forward.pop("risk_coverage") == backward.pop("risk_coverage")
    assert forward.keys() == backward.keys()
    for key, value in forward.items():
        assert value == pytest.approx(backward[key]), key


def test_nothing_under_unlabelled_pixels_matters():
    rng = np.random.default_rng(5)
    images = [image(rng, unlabelled=0.3) for _ in range(3)]
    changed = []
    for probs, truth, instances in images:
        hidden = truth == 255
        other = rng.dirichlet([1, 1], truth.shape).transpose(2, 0, 1).astype(np.float32)
        changed.append((np.where(hidden, other, probs), truth, np.where(hidden, 99, instances)))
    options = {"min_gland_area_px": 5, "max_hole_area_px": 10}
    assert evaluate(images, **options).compute() == evaluate(changed, **options).compute()


def test_arrays_tensors_and_half_precision_agree(split):
    tensors = [(torch.from_numpy(p), torch.from_numpy(t), torch.from_numpy(i.astype(np.int32)))
               for p, t, i in split]
    assert evaluate(tensors).compute() == evaluate(split).compute()
    half = [(p.to(torch.bfloat16), t, i) for p, t, i in tensors]
    assert evaluate(half).compute()["mIoU"] == pytest.approx(evaluate(split).compute()["mIoU"], abs=1)


def test_small_glands_and_holes_touch_object_metrics_only():
    truth = np.zeros((30, 30), np.uint8)
    truth[5:20, 5:20] = 1
    seen = truth.copy()
    seen[10:12, 10:12] = 0  # a hole of 4 px
    seen[25, 25] = 1  # a speck
    probs = np.stack([seen == 0, seen == 1]).astype(np.float32)
    raw = evaluate([(probs, truth, truth)]).compute()
    clean = evaluate([(probs, truth, truth)], min_gland_area_px=2, max_hole_area_px=4).compute()
    assert (raw["predicted_objects"], clean["predicted_objects"]) == (2, 1)
    assert (clean["object_f1"], clean["object_dice"], clean["object_hausdorff"]) == (100, 100, 0)
    assert raw["mIoU"] == clean["mIoU"] < 100


def test_missing_figures_say_why(split):
    evaluator = SplitEvaluator(2)
    probs, truth, instances = split[0]
    evaluator.update(probs, truth, instances, "first")
    evaluator.update(*split[1][:2], image_id="second")
    evaluator.update_class_map(split[2][0].argmax(0), split[2][1], split[2][2], "third")
    metrics = evaluator.compute()
    assert metrics["object_f1"] is metrics["object_f1_ci95"] is metrics["ece"] is None
    assert metrics["object_f1_missing"] == metrics["object_f1_ci95_missing"]
    assert "1 of 3 images, second" in metrics["object_f1_missing"]
    assert "1 of 3 images, third" in metrics["ece_missing"]
    assert metrics["mIoU"] is not None


@pytest.mark.parametrize("truth", [np.zeros((6, 6), np.uint8), np.full((6, 6), 255, np.uint8)])
def test_every_null_has_a_reason_and_no_reason_is_idle(truth):
    evaluator = evaluate([(np.stack([np.ones((6, 6)), np.zeros((6, 6))]), truth, np.zeros((6, 6), int))])
    metrics = evaluator.compute()
    json.dumps(metrics, allow_nan=False)
    for key, value in metrics.items():
        if key.endswith("_missing"):
            assert value, key
            figure = metrics[key.removesuffix("_missing")]
            assert figure is None or None in figure, key
        elif value is None:
            assert f"{key}_missing" in metrics, key


@pytest.mark.parametrize("right", [True, False])
def test_references_of_0_and_255_alone_score_nothing(right):
    reference = np.zeros((6, 8), np.uint8)
    reference[1:4, 2:7] = 255
    evaluator, sparse = SplitEvaluator(2, bootstrap=0), SplitEvaluator(2, bootstrap=0, pixel_only=True)
    for each in (evaluator, sparse):
        each.update_class_map((reference == 255) & right, reference, image_id="first")
    with pytest.raises(MaskError, match="hold 0 and 255 alone"):
        evaluator.compute()
    assert sparse.compute()["mIoU"] == 100  # sparse labels of an image in which no gland was outlined
    outlined = np.where(reference == 255, 1, 0).astype(np.uint8)
    evaluator.update_class_map(outlined, outlined, image_id="second")
    assert evaluator.compute()["mIoU"] == 100


def test_pixel_only_gives_the_same_pixel_metrics_and_no_others(split):
    light, full = evaluate(split, pixel_only=True).compute(), evaluate(split).compute()
    assert {key: full[key] for key in light} == light
    assert {"mIoU", "image_dice", "mIoU_ci95"} <= light.keys()
    assert not any(key.startswith(("object", "ece")) for key in light)


def test_no_intervals_without_resamples(split):
    assert not any("ci95" in key for key in evaluate(split, bootstrap=0).compute())


def test_class_maps_give_the_figures_of_their_probabilities(split):
    hard = SplitEvaluator(2)
    for i, (probs, truth, instances) in enumerate(split):
        hard.update_class_map(probs.argmax(0), truth, instances, f"id {i}")
    full = evaluate(split).compute()
    for key, value in hard.compute().items():
        if value is not None and not key.endswith("_missing"):
            assert value == full[key], key


def test_rows_per_image_are_the_metrics_of_each_alone(split):
    evaluator = evaluate(split)
    rows = evaluator.per_image()
    assert [row["image_id"] for row in rows] == ["id 0", "id 1", "id 2", "id 3"]
    for row, part in zip(rows, split, strict=True):
        alone = evaluate([part]).compute()
        assert row["labelled_pixels"] == part[1].size
        assert {k: row[k] for k in ("mIoU", "gland_dice", "object_f1", "object_hausdorff")} == {
            k: alone[k] for k in ("mIoU", "gland_dice", "object_f1", "object_hausdorff")}
    assert np.mean([row["gland_dice"] for row in rows]) == pytest.approx(evaluator.compute()["image_dice"])


@pytest.mark.parametrize(("change", "message"), [
    (lambda p, t, i: (p * 3, t, i), "softmax"),
    (lambda p, t, i: (np.where(p > 0.9, np.nan, p), t, i), "softmax"),
    (lambda p, t, i: (p[:, 1:], t, i), "match the truth"),
    (lambda p, t, i: (p, t + 2, i), "not classes"),
    (lambda p, t, i: (p, t, i[1:]), "map of gland ids is"),
    (lambda p, t, i: (p, t, i + 1), "lies outside the glands"),
    (lambda p, t, i: (p, t, i * 0), "has no id"),
    (lambda p, t, i: (p, t, t), "are the classes of the mask"),
])
def test_bad_input_is_refused_by_name_and_not_counted(split, change, message):
    evaluator = SplitEvaluator(2)
    evaluator.update(*split[0], image_id="good")
    before = evaluator.compute()
    with pytest.raises(ValueError, match=message) as caught:
        evaluator.update(*change(*split[1]), image_id="slide 7")
    assert "slide 7" in str(caught.value)
    assert evaluator.compute() == before


def test_an_image_counts_once(split):
    evaluator = evaluate(split)
    with pytest.raises(ValueError, match="id 2 was already evaluated"):
        evaluator.update(*split[2], image_id="id 2")


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="no image"):
        SplitEvaluator(2).compute()
