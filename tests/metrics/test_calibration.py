"""Calibration metrics against loops over single pixels."""

import math

import numpy as np
import pytest

from hf_gland.metrics.calibration import CalibrationCounts


def random_split(rng, images=3, num_classes=3, size=(12, 9)):
    pairs = []
    for _ in range(images):
        logits = rng.normal(size=(num_classes, *size)) * 2
        probs = (np.exp(logits) / np.exp(logits).sum(0)).astype(np.float32)
        truth = rng.integers(0, num_classes, size).astype(np.uint8)
        truth[rng.random(size) < 0.2] = 255
        pairs.append((probs, truth))
    return pairs


def counts_of(pairs):
    counts = CalibrationCounts()
    for probs, truth in pairs:
        counts.update(probs, truth)
    return counts


def labelled_pixels(pairs):
    """(probabilities [C] as Python floats, true class) of every labelled pixel."""
    return [([float(v) for v in probs[:, y, x]], int(truth[y, x])) for probs, truth in pairs
            for y, x in np.argwhere(truth != 255)]


def naive_ece(pixels):
    bins = [[] for _ in range(15)]
    for probs, true in pixels:
        confidence = max(probs)
        bins[min(math.floor(confidence * 15), 14)].append((confidence, probs.index(confidence) == true))
    gaps = [abs(sum(c for c, _ in b) - sum(right for _, right in b)) for b in bins]
    return 100 * sum(gaps) / len(pixels)


def naive_brier(pixels):
    return sum(sum((p - (c == true))**2 for c, p in enumerate(probs)) for probs, true in pixels) / len(pixels)


@pytest.mark.parametrize("num_classes", [2, 3, 5])
def test_ece_and_brier_equal_loops(num_classes):
    pairs = random_split(np.random.default_rng(num_classes), num_classes=num_classes)
    metrics = counts_of(pairs).metrics()
    pixels = labelled_pixels(pairs)
    assert metrics["ece"] == pytest.approx(naive_ece(pixels))
    assert metrics["brier"] == pytest.approx(naive_brier(pixels))


def test_confidences_on_the_edges_of_bins_go_to_the_upper_bin():
    confidences = np.array([k / 15 for k in range(8, 16)] + [0.5, 1.0], np.float32)
    pairs = [(np.stack([confidences, 1 - confidences])[:, None], np.zeros((1, 10), np.uint8))]
    assert counts_of(pairs).metrics()["ece"] == pytest.approx(naive_ece(labelled_pixels(pairs)))
    assert counts_of(pairs).reliability()["pixels"][14] == 3  # 14/15 and both 1.0


def test_least_confident_tenth_equals_a_full_sort():
    rng = np.random.default_rng(8)
    confidence = rng.permutation(np.linspace(0.5, 0.9999, 2000)).astype(np.float32)
    truth = (rng.random(2000) > confidence).astype(np.uint8)  # class 0 is predicted everywhere
    metrics = counts_of([(np.stack([confidence, 1 - confidence])[:, None], truth[None])]).metrics()
    errors = truth[np.argsort(confidence)] == 1
    assert metrics["error_rate_least_confident_10"] == pytest.approx(100 * errors[:200].mean())
    assert metrics["errors_in_least_confident_10"] == pytest.approx(100 * errors[:200].sum() / errors.sum())


def test_equal_confidences_share_their_errors_evenly():
    probs = np.full((2, 1, 100), [[[0.8]], [[0.2]]], np.float32)
    truth = np.zeros((1, 100), np.uint8)
    truth[0, :30] = 1
    metrics = counts_of([(probs, truth)]).metrics()
    assert metrics["error_rate_least_confident_10"] == pytest.approx(30)
    assert metrics["errors_in_least_confident_10"] == pytest.approx(10)
    assert metrics["ece"] == pytest.approx(10, abs=1e-4)


def test_a_certain_and_right_prediction_is_perfect():
    truth = np.array([[0, 1, 1, 255]], np.uint8)
    probs = np.stack([truth != 1, truth == 1]).astype(np.float32)
    metrics = counts_of([(probs, truth)]).metrics()
    assert (metrics["ece"], metrics["brier"], metrics["error_rate_least_confident_10"]) == (0, 0, 0)
    assert metrics["errors_in_least_confident_10"] is None  # there is no error to find


def test_certain_and_wrong_is_the_worst():
    probs = np.array([[[1.0]], [[0.0]]], np.float32)
    metrics = counts_of([(probs, np.ones((1, 1), np.uint8))]).metrics()
    assert (metrics["ece"], metrics["brier"]) == (100, 2)


def test_order_and_unlabelled_pixels_do_not_matter():
    pairs = random_split(np.random.default_rng(1))
    forward, backward = counts_of(pairs).metrics(), counts_of(pairs[::-1]).metrics()
    assert forward.pop("reliability")["pixels"] == backward.pop("reliability")["pixels"]
    assert forward.pop("risk_coverage") == backward.pop("risk_coverage")
    assert forward == pytest.approx(backward)
    changed = [(np.where(truth == 255, 1 / 3, probs).astype(np.float32), truth) for probs, truth in pairs]
    assert counts_of(changed).metrics() == counts_of(pairs).metrics()


def test_nothing_labelled_has_no_score():
    metrics = counts_of([(np.full((2, 3, 3), 0.5, np.float32), np.full((3, 3), 255, np.uint8))]).metrics()
    assert metrics.pop("reliability")["pixels"] == [0] * 15
    assert set(metrics.values()) == {None}


def test_memory_does_not_grow():
    counts = CalibrationCounts()
    sizes = []
    for probs, truth in random_split(np.random.default_rng(2), images=4):
        counts.update(probs, truth)
        sizes.append(sum(value.nbytes for value in vars(counts).values() if isinstance(value, np.ndarray)))
    assert len(set(sizes)) == 1


def test_risk_coverage_is_the_error_rate_among_the_most_confident_pixels():
    rng = np.random.default_rng(5)
    foreground = rng.permutation(4000).reshape(40, 100) / 8000 + 0.25  # no two pixels are equally confident
    probs = np.stack([1 - foreground, foreground])
    truth = rng.integers(0, 2, (40, 100)).astype(np.uint8)
    found = counts_of([(probs, truth)]).metrics()["risk_coverage"]
    confidence, wrong = probs.max(0).ravel(), (probs.argmax(0) != truth).ravel()
    order = np.argsort(-confidence)
    for coverage, error in zip(found["coverage"], found["error"], strict=True):
        assert error == pytest.approx(100 * wrong[order[:round(coverage * 4000)]].mean(), abs=0.6)
    assert found["coverage"][-1] == 1
    assert found["error"][-1] == pytest.approx(100 * wrong.mean(), abs=1e-3)
