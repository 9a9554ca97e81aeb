"""Pixel metrics against set arithmetic on single pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hf_gland.metrics.pixel import confusion_matrix, image_dice, pixel_intervals, pixel_metrics

C = 3
SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6))
PAIRS = SHAPES.flatmap(lambda shape: st.tuples(
    arrays(np.uint8, shape, elements=st.integers(0, C - 1)),
    arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 2, 255]))))


def naive(pairs, members):
    """(IoU, Dice) in percent of the pixels whose class is in `members`, pooled; None if there are none."""
    true, predicted = set(), set()
    for image, (prediction, truth) in enumerate(pairs):
        for index in np.ndindex(truth.shape):
            if truth[index] == 255:
                continue
            if truth[index] in members:
                true.add((image, index))
            if prediction[index] in members:
                predicted.add((image, index))
    if not true | predicted:
        return None, None
    both = len(true & predicted)
    return 100 * both / len(true | predicted), 200 * both / (len(true) + len(predicted))


def mean(values):
    there = [v for v in values if v is not None]
    return sum(there) / len(there) if there else None


def confusions(pairs):
    return [confusion_matrix(prediction, truth, C) for prediction, truth in pairs]


@settings(max_examples=40, deadline=None)
@given(st.lists(PAIRS, min_size=1, max_size=3))
def test_equals_set_arithmetic(pairs):
    metrics = pixel_metrics(np.sum(confusions(pairs), axis=0))
    ious, dices = zip(*(naive(pairs, {c}) for c in range(C)), strict=True)
    gland_iou, gland_dice = naive(pairs, set(range(1, C)))
    expected = {"class_iou": list(ious), "class_dice": list(dices), "mIoU": mean(ious), "mDice": mean(dices),
                "gland_iou": gland_iou, "gland_dice": gland_dice}
    assert metrics.keys() == expected.keys()
    for key, value in expected.items():
        assert metrics[key] == pytest.approx(value), key
    per_image = mean([naive([pair], set(range(1, C)))[1] for pair in pairs])
    assert image_dice(confusions(pairs)) == pytest.approx(per_image)


@settings(max_examples=30, deadline=None)
@given(PAIRS, st.integers(0, C - 1))
def test_prediction_under_unlabelled_pixels_is_irrelevant(pair, other):
    prediction, truth = pair
    changed = np.where(truth == 255, other, prediction)
    np.testing.assert_array_equal(confusion_matrix(prediction, truth, C), confusion_matrix(changed, truth, C))
    assert confusion_matrix(prediction, truth, C).sum() == (truth != 255).sum()


def test_rows_are_truth():
    counts = confusion_matrix(np.array([[1, 1, 0]]), np.array([[0, 1, 0]], np.uint8), 2)
    assert counts.tolist() == [[1, 1], [0, 1]]
    assert counts.dtype == np.int64


def test_absent_class_is_left_out_and_never_perfect():
    background = np.zeros((4, 4), np.uint8)
    metrics = pixel_metrics(confusion_matrix(background, background, 2))
    assert metrics["class_iou"] == [100.0, None]
    assert metrics["mIoU"] == 100.0
    assert metrics["gland_dice"] is None


def test_class_predicted_without_being_there_scores_zero():
    truth = np.zeros((2, 2), np.uint8)
    prediction = np.array([[0, 0], [0, 2]])
    assert pixel_metrics(confusion_matrix(prediction, truth, C))["class_iou"] == [75.0, None, 0.0]


def test_gland_scores_do_not_punish_mixed_up_gland_classes():
    truth, prediction = np.array([[1, 2, 0]], np.uint8), np.array([[2, 1, 0]])
    metrics = pixel_metrics(confusion_matrix(prediction, truth, C))
    assert (metrics["gland_iou"], metrics["gland_dice"]) == (100.0, 100.0)
    assert metrics["class_iou"] == [100.0, 0.0, 0.0]


def test_nothing_labelled_has_no_score():
    empty = confusion_matrix(np.ones((3, 3), int), np.full((3, 3), 255, np.uint8), 2)
    assert pixel_metrics(empty) == {"mIoU": None, "mDice": None, "gland_iou": None, "gland_dice": None,
                                    "class_iou": [None, None], "class_dice": [None, None]}
    assert image_dice([empty]) is None


def test_image_dice_leaves_out_images_without_glands():
    gland, none = np.array([[1, 1, 0, 0]], np.uint8), np.zeros((1, 4), np.uint8)
    half = np.array([[1, 0, 0, 0]])
    counts = [confusion_matrix(half, gland, 2), confusion_matrix(none, none, 2)]
    assert image_dice(counts) == pytest.approx(100 * 2 / 3)
    counts.append(confusion_matrix(half, none, 2))  # a false gland is scored, as 0
    assert image_dice(counts) == pytest.approx(100 / 3)


@pytest.mark.parametrize(("prediction", "truth", "word"), [
    ([[2]], [[0]], "prediction"), ([[-1]], [[0]], "prediction"), ([[0]], [[2]], "truth")])
def test_classes_out_of_range_are_refused(prediction, truth, word):
    with pytest.raises(ValueError, match=word):
        confusion_matrix(np.array(prediction), np.array(truth), 2)


def test_different_sizes_are_refused():
    with pytest.raises(ValueError, match="differ in size"):
        confusion_matrix(np.zeros((2, 3), int), np.zeros((3, 2), np.uint8), 2)


def naive_intervals(counts, resamples, seed):
    """The same draws, each evaluated through the public point estimates, one by one.

    The fixed order of images is that of their rows of counts read backwards: has a Dice, Dice, matrix.
    """
    dices = [image_dice([matrix]) for matrix in counts]
    rows = [[dice is not None, dice or 0, *m.ravel()[::-1]] for dice, m in zip(dices, counts, strict=True)]
    counts = [counts[i] for i in sorted(range(len(counts)), key=rows.__getitem__)]
    drawn = np.random.default_rng(seed).integers(0, len(counts), (resamples, len(counts)))
    draws = [[counts[i] for i in row] for row in drawn]
    scores = [pixel_metrics(np.sum(draw, axis=0)) | {"image_dice": image_dice(draw)} for draw in draws]
    keys = ("mIoU", "mDice", "gland_iou", "gland_dice", "image_dice")
    return {key: np.percentile([s[key] for s in scores if s[key] is not None], [2.5, 97.5]) for key in keys}


def random_confusions(rng, images):
    truth = rng.integers(0, 2, (images, 10, 10)).astype(np.uint8)
    wrong = rng.random(truth.shape) < rng.uniform(0.05, 0.5, (images, 1, 1))
    truth[0] = 0  # an image without glands, and none predicted: no Dice of its own
    prediction = np.where(wrong, 1 - truth, truth)
    prediction[0] = 0
    return [confusion_matrix(p, t, 2) for p, t in zip(prediction, truth, strict=True)]


def test_intervals_equal_one_draw_at_a_time():
    counts = random_confusions(np.random.default_rng(3), 6)
    found = pixel_intervals(counts, resamples=50, seed=7)
    for key, expected in naive_intervals(counts, 50, 7).items():
        np.testing.assert_allclose(found[key], expected, err_msg=key)


def test_intervals_are_seeded_and_ignore_the_order_of_images():
    counts = random_confusions(np.random.default_rng(4), 8)
    assert pixel_intervals(counts, 200) == pixel_intervals(counts[::-1], 200)
    assert pixel_intervals(counts, 200) != pixel_intervals(counts, 200, seed=1)


def test_interval_holds_the_estimate_and_narrows_with_more_images():
    rng = np.random.default_rng(5)
    few, many = random_confusions(rng, 8), random_confusions(rng, 200)
    low, high = pixel_intervals(few)["mIoU"]
    assert low < pixel_metrics(np.sum(few, axis=0))["mIoU"] < high
    narrow_low, narrow_high = pixel_intervals(many)["mIoU"]
    assert narrow_high - narrow_low < (high - low) / 2


def test_one_image_has_no_interval():
    assert set(pixel_intervals([np.eye(2, dtype=int)]).values()) == {None}


def test_identical_images_have_an_interval_of_no_width():
    counts = [np.array([[50, 10], [5, 35]])] * 5
    low, high = pixel_intervals(counts)["gland_dice"]
    assert low == high == pytest.approx(200 * 35 / 85)
