"""Temperature scaling: the known temperature is found, and labels never change."""

import numpy as np
import pytest
import torch

from hf_gland.metrics.temperature import apply_temperature, fit_temperature, sample_pixels


def softmax(logits):
    scaled = np.exp(logits - logits.max(0))
    return scaled / scaled.sum(0)


def drawn(rng, probs):
    """One class per column of `probs` [C, N], drawn with these probabilities."""
    return (rng.random(probs.shape[1]) > probs.cumsum(0)).sum(0).clip(max=len(probs) - 1)


@pytest.mark.parametrize(("num_classes", "temperature"), [(2, 0.5), (2, 2.5), (4, 1.0), (4, 3.0)])
def test_recovers_the_temperature_that_made_the_labels(num_classes, temperature):
    rng = np.random.default_rng(num_classes)
    logits = rng.normal(size=(num_classes, 40_000)) * 3
    truth = drawn(rng, softmax(logits / temperature))
    assert fit_temperature(softmax(logits), truth) == pytest.approx(temperature, rel=0.03)


def test_fit_is_the_minimum_of_the_likelihood():
    rng = np.random.default_rng(0)
    probs = softmax(rng.normal(size=(3, 2000)))
    truth = drawn(rng, softmax(np.log(probs) / 1.7))

    def loss(temperature):
        return -np.log(apply_temperature(probs, temperature)[truth, np.arange(2000)]).mean()

    best = fit_temperature(probs, truth)
    assert all(loss(best) < loss(best * factor) for factor in (0.8, 0.98, 1.02, 1.3))


def test_scaling_equals_dividing_the_logits_and_keeps_the_labels():
    logits = np.random.default_rng(1).normal(size=(3, 5, 6)) * 2
    probs = softmax(logits)
    for temperature in (0.3, 1.0, 4.0):
        scaled = apply_temperature(probs, temperature)
        np.testing.assert_allclose(scaled, softmax(logits / temperature), atol=1e-6)
        np.testing.assert_array_equal(scaled.argmax(0), probs.argmax(0))
    np.testing.assert_allclose(apply_temperature(probs, 1.0), probs, atol=1e-6)


def test_tensors_and_arrays_agree():
    probs = np.moveaxis(np.random.default_rng(2).dirichlet([1, 1, 1], (4, 5)).astype(np.float32), -1, 0)
    array = apply_temperature(probs, 2.0)
    tensor = apply_temperature(torch.from_numpy(probs), 2.0)
    assert array.dtype == np.float32
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), array, atol=1e-6)


def test_exact_zeros_and_ones_stay_finite():
    certain = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    scaled = apply_temperature(certain, 3.0)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled.sum(0), 1, atol=1e-6)
    assert 0.05 <= fit_temperature(certain, np.array([0, 1])) < 0.5  # always right: sharp
    assert 19 < fit_temperature(certain, np.array([1, 0])) <= 20  # always wrong: as flat as allowed


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_impossible_temperatures_are_refused(temperature):
    with pytest.raises(ValueError, match="above 0"):
        apply_temperature(np.full((2, 1), 0.5), temperature)


def test_no_pixel_is_refused():
    with pytest.raises(ValueError, match="no labelled pixel"):
        fit_temperature(np.zeros((2, 0)), np.zeros(0, int))


def test_sampling_takes_labelled_pixels_with_their_own_probabilities():
    truth = np.full((6, 7), 255, np.uint8)
    truth[:3] = 1
    truth[0, :4] = 0
    probs = np.stack([np.arange(42).reshape(6, 7), np.where(truth == 255, -1, truth)]).astype(np.float32)
    some, classes = sample_pixels(probs, truth, 10, np.random.default_rng(0))
    assert some.shape == (2, 10)
    np.testing.assert_array_equal(some[1], classes)
    assert len(set(some[0])) == 10
    everything, classes = sample_pixels(probs, truth, 1000, np.random.default_rng(0))
    assert everything.shape == (2, 21)
    assert (classes == 0).sum() == 4
