import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.config import make_config
from hf_gland.method.schedules import (
    anneal,
    learning_rate_factor,
    quantile_thresholds,
    ramp,
    refined_progress,
    refresh_steps,
    step_values,
    warmup_steps,
)


@pytest.mark.parametrize(("steps", "share", "expected"),
                         [(600, 0.25, 150), (10, 0.0, 0), (10, 1.0, 10), (3, 0.5, 2)])
def test_warmup_is_a_share_of_the_steps(steps, share, expected):
    assert warmup_steps(steps, share) == expected


@settings(deadline=None, max_examples=60)
@given(steps=st.integers(1, 400), share=st.floats(0, 1))
def test_refined_progress_runs_from_0_to_1_over_the_refined_steps(steps, share):
    warmup = warmup_steps(steps, share)
    progress = [refined_progress(step, warmup, steps) for step in range(steps)]
    assert all(p == 0 for p in progress[:warmup + 1])
    assert all(0 <= a <= b <= 1 for a, b in pairwise(progress))
    if steps - warmup >= 2:
        assert progress[-1] == 1
        assert len(set(progress[warmup:])) == steps - warmup  # it moves at every step


@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.parametrize(("start", "end"), [(0.95, 0.6), (0.99, 0.999)])
def test_annealing_goes_from_start_to_end_without_turning_back(shape, start, end):
    values = np.array([anneal(p, start, end, shape) for p in np.linspace(0, 1, 101)])
    assert values[0] == start
    assert values[-1] == pytest.approx(end, abs=1e-12)
    assert values[50] == pytest.approx((start + end) / 2, abs=1e-12)
    assert (np.diff(values) * np.sign(end - start) > 0).all()


def test_the_shapes_are_half_a_cosine_and_a_line():
    for p in np.linspace(0, 1, 11):
        assert anneal(p, 2, 1, "cosine") == pytest.approx(1 + (1 + math.cos(math.pi * p)) / 2)
        assert anneal(p, 2, 1, "linear") == pytest.approx(2 - p)


def test_ramp():
    assert [ramp(p, 0.2) for p in (0, 0.1, 0.2, 0.9)] == [0, 0.5, 1, 1]
    assert ramp(0, 0) == 1


@settings(deadline=None, max_examples=60)
@given(steps=st.integers(2, 500), share=st.floats(0, 0.5))
def test_learning_rate_rises_to_its_peak_then_falls_towards_0(steps, share):
    factors = [learning_rate_factor(step, steps, share) for step in range(steps)]
    peak = round(steps * share)
    assert all(f > 0 for f in factors)
    assert factors[peak] == 1 == max(factors)
    assert factors[:peak + 1] == sorted(factors[:peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert learning_rate_factor(steps, steps, share) == 0


def test_learning_rate_falls_with_the_power_of_0_9():
    assert learning_rate_factor(50, 100, 0.0) == pytest.approx(0.535887, abs=1e-6)  # 0.5 ** 0.9
    assert learning_rate_factor(60, 100, 0.2) == pytest.approx(0.535887, abs=1e-6)  # half-way after the rise
    assert learning_rate_factor(90, 100, 0.0) == pytest.approx(0.125893, abs=1e-6)  # 0.1 ** 0.9


@settings(deadline=None, max_examples=80)
@given(warmup=st.integers(0, 50), length=st.integers(1, 2000), refreshes=st.integers(1, 12),
       growth=st.floats(1, 2.5))
def test_refreshes_start_after_warmup_and_grow_rarer(warmup, length, refreshes, growth):
    steps = refresh_steps(warmup, warmup + length, refreshes, growth)
    assert steps[0] == warmup
    assert all(warmup <= s < warmup + length for s in steps)
    assert list(steps) == sorted(set(steps))
    assert len(steps) <= refreshes
    gaps = np.diff([*steps, warmup + length])
    first_gap = length / sum(growth**i for i in range(refreshes))
    if first_gap > 2:  # rounding to whole steps merges or evens out shorter ones
        assert len(steps) == refreshes
        expected = first_gap * growth ** np.arange(refreshes)
        assert np.abs(gaps - expected).max() <= 1
        assert (np.diff(gaps) >= -1).all()


def test_refresh_gaps_by_hand():
    assert refresh_steps(100, 800, 3, 2.0) == (100, 200, 400)  # gaps 100, 200, 400
    assert refresh_steps(10, 40, 3, 1.0) == (10, 20, 30)  # equal gaps
    assert refresh_steps(0, 2, 8, 1.6) == (0, 1)
    assert refresh_steps(10, 10, 3, 1.6) == ()


def passing_share(counts, threshold):
    confidences = np.repeat(np.arange(256), counts) / 255
    return (confidences > threshold).mean()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), share=st.floats(0.01, 1), floor=st.sampled_from([0.0, 0.5]))
def test_quantile_thresholds_are_the_highest_that_let_the_share_pass(seed, share, floor):
    rng = np.random.default_rng(seed)
    histograms = rng.integers(0, 40, (3, 256)) * (rng.random((3, 256)) < 0.1)
    histograms[:, 128] += 1
    for counts, threshold in zip(histograms, quantile_thresholds(histograms, share, floor), strict=True):
        levels = [(level - 0.5) / 255 for level in range(256)]
        highest = max(level for level in levels if passing_share(counts, level) >= share)
        assert threshold == pytest.approx(max(floor, highest), abs=1e-12)


def test_quantile_thresholds_treat_classes_apart():
    histograms = np.zeros((3, 256), np.int64)
    histograms[0, [200, 250]] = 50, 50
    histograms[1, [140, 160]] = 90, 10
    thresholds = quantile_thresholds(histograms, 0.5, floor=0.5)
    assert thresholds * 255 == pytest.approx([249.5, 139.5, 127.5])  # the last class has no pixel: the floor
    assert quantile_thresholds(histograms, 1.0, floor=0.7)[1] == 0.7


def test_quantile_thresholds_fall_as_the_share_grows():
    histograms = np.random.default_rng(0).integers(0, 100, (2, 256))
    thresholds = np.array([quantile_thresholds(histograms, share, 0.0) for share in np.linspace(0.05, 1, 20)])
    assert (np.diff(thresholds, axis=0) <= 0).all()
    assert (thresholds[0] > thresholds[-1]).all()


def test_without_a_teachers_part_the_warm_up_that_there_is_none_of_changes_nothing():
    """A setting that has no effect may stand in a file."""
    one, other = (make_config({"warmup_fraction": share}, {"mode": "sparse-only"}) for share in (0.25, 0.0))
    for step in range(0, 100, 7):
        assert step_values(one, step).ema_decay == step_values(other, step).ema_decay
