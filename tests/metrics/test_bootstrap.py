"""The bootstrap against its textbook coverage, and its edge cases."""

import numpy as np
import pytest

from hf_gland.metrics.bootstrap import bootstrap_intervals


def mean_score(sums):
    with np.errstate(invalid="ignore"):
        return {"mean": sums[:, 0] / sums[:, 1]}


def test_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(10, 3, 400)
    low, high = bootstrap_intervals(np.column_stack([values, np.ones(400)]), mean_score, 4000)["mean"]
    half = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for trial in range(200):
        rows = np.column_stack([rng.normal(0, 1, 60), np.ones(60)])
        low, high = bootstrap_intervals(rows, mean_score, 200, seed=trial)["mean"]
        hits += low <= 0 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_undefined_draws_are_left_out():
    rows = np.array([[4.0, 1.0], [0.0, 0.0], [0.0, 0.0]])  # a draw without the first row is 0 / 0
    assert bootstrap_intervals(rows, mean_score, 100)["mean"] == [4.0, 4.0]


@pytest.mark.parametrize("rows", [np.zeros((0, 2)), np.ones((1, 2)), np.zeros((5, 2))])
def test_no_interval_without_two_images_or_any_defined_draw(rows):
    assert bootstrap_intervals(rows, mean_score, 50) == {"mean": None}
