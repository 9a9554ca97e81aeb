"""Object metrics against a direct, slow reading of the challenge's definitions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from hf_gland.instances import gland_instances
from hf_gland.metrics.objects import match_objects, object_intervals, object_metrics


def pixel_sets(ids):
    """{id: set of (row, column)}, in the order of ids."""
    return {int(i): set(map(tuple, np.argwhere(ids == i).tolist())) for i in np.unique(ids) if i}


def slow_hausdorff(a, b):
    def one_way(p, q):
        return max(min(math.dist(x, y) for y in q) for x in p)

    return max(one_way(a, b), one_way(b, a))


def counterpart(pixels, others):
    """The set that shares the most pixels with `pixels` (the first of several), or None."""
    best, most = None, 0
    for other in others.values():
        if len(pixels & other) > most:
            best, most = other, len(pixels & other)
    return best


def slow_metrics(images):
    """The challenge's definitions, pooled over images [(predicted ids, true ids)], one object at a time."""
    hits = 0
    sides = [[], []]  # (area, Dice, Hausdorff) of every object, predicted and true
    for predicted, truth in images:
        diagonal = math.dist((0, 0), (truth.shape[0] - 1, truth.shape[1] - 1))
        seg, gt = pixel_sets(predicted), pixel_sets(truth)
        for side, objects, others in ((sides[0], seg, gt), (sides[1], gt, seg)):
            for pixels in objects.values():
                other = counterpart(pixels, others)
                if other:
                    dice = 2 * len(pixels & other) / (len(pixels) + len(other))
                    far = slow_hausdorff(pixels, other)
                else:
                    dice = 0
                    far = min((slow_hausdorff(pixels, o) for o in others.values()), default=diagonal)
                side.append((len(pixels), dice, far))
        for pixels in seg.values():
            other = counterpart(pixels, gt)
            hits += bool(other) and len(pixels & other) / len(other) > 0.5
    s, g = map(len, sides)
    if s + g == 0:
        return {"object_f1": None, "object_dice": None, "object_hausdorff": None}
    dices, fars = [], []
    for side in sides:
        total = sum(area for area, _, _ in side)
        dices.append(sum(area * dice for area, dice, _ in side) / total if side else 0)
        fars += [sum(area * far for area, _, far in side) / total] if side else []
    precision, recall = hits / s if s else 0, hits / g if g else 0
    f1 = 2 * precision * recall / (precision + recall) if hits else 0
    return {"object_f1": 100 * f1, "object_dice": 100 * sum(dices) / 2,
            "object_hausdorff": sum(fars) / len(fars)}


def check(images):
    found = object_metrics([match_objects(predicted, truth) for predicted, truth in images])
    for key, expected in slow_metrics(images).items():
        assert found[key] == pytest.approx(expected), key


def blobs(rng, shape=(16, 20)):
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), rng.choice([0.6, 1.2, 2.0]))
    return gland_instances((smooth > rng.choice([-0.05, 0.05, 0.2])).astype(np.uint8))


def test_equals_the_slow_definitions_on_random_blobs():
    rng = np.random.default_rng(0)
    for _ in range(15):
        check([(blobs(rng), blobs(rng)) for _ in range(2)])


SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5))


IDS = st.sampled_from([0, 0, 1, 2, 9])


@settings(max_examples=40, deadline=None)
@given(SHAPES.flatmap(lambda shape: st.tuples(*[arrays(np.uint16, shape, elements=IDS)] * 2)))
def test_equals_the_slow_definitions_on_scattered_ids(pair):
    check([pair])


def square(top, left, size=4, shape=(20, 20), number=1):
    ids = np.zeros(shape, np.int32)
    ids[top:top + size, left:left + size] = number
    return ids


def test_perfect_prediction():
    truth = square(2, 2) + square(10, 10, number=2)
    metrics = object_metrics([match_objects(truth * 7, truth)])  # ids themselves do not matter
    assert (metrics["object_f1"], metrics["object_dice"], metrics["object_hausdorff"]) == (100, 100, 0)
    assert [metrics[key] for key in ("object_true_positives", "predicted_objects", "true_objects")] == [2] * 3


def test_exactly_half_is_not_a_hit_and_one_pixel_more_is():
    truth = square(0, 0, size=4)
    half = truth.copy()
    half[2:] = 0
    assert match_objects(half, truth).true_positives == 0
    half[2, 0] = 1
    assert match_objects(half, truth).true_positives == 1


def test_a_merged_pair_counts_once_and_a_split_gland_at_most_once():
    pair = square(0, 0) + square(0, 5, number=2)
    merged = (pair > 0).astype(np.int32)
    assert object_metrics([match_objects(merged, pair)])["object_f1"] == pytest.approx(100 * 2 / 3)
    gland = square(0, 0, size=6)
    halves = gland.copy()
    halves[:, 3:6] *= 2
    assert match_objects(halves, gland).true_positives == 0


def test_unmatched_object_goes_to_the_nearest_by_hausdorff_distance():
    # The small object touches the long one, but the far ends of that one count: the distant square is nearer.
    predicted = square(10, 10, size=1)
    truth = np.zeros((20, 60), np.int32)
    truth[11, :] = 1
    truth[3, 10] = 2
    predicted = np.pad(predicted, ((0, 0), (0, 40)))
    assert match_objects(predicted, truth).predicted_hausdorff.tolist() == [7.0]


def test_hausdorff_sees_the_inside_of_an_enclosing_ring():
    # Farthest from the ring is the middle of the disc, not its outline: all pixels count in the challenge.
    y, x = np.mgrid[-12:13, -12:13]
    ring = (np.hypot(y, x) > 10).astype(np.int32)
    disc = (np.hypot(y, x) < 9.5).astype(np.int32)
    found = match_objects(disc, ring).predicted_hausdorff[0]
    assert found == pytest.approx(slow_hausdorff(pixel_sets(disc)[1], pixel_sets(ring)[1]))
    assert found == pytest.approx(min(math.dist((12, 12), pixel) for pixel in pixel_sets(ring)[1]))


def test_single_pixel_objects():
    a, b = np.zeros((9, 9), np.int32), np.zeros((9, 9), np.int32)
    a[0, 0] = b[3, 4] = 1
    match = match_objects(a, b)
    assert (match.predicted_hausdorff[0], match.true_hausdorff[0], match.true_positives) == (5.0, 5.0, 0)


def test_empty_prediction_is_capped_at_the_diagonal():
    truth = square(0, 0, shape=(31, 41)) + square(10, 10, shape=(31, 41), number=2)
    metrics = object_metrics([match_objects(np.zeros_like(truth), truth)])
    assert (metrics["object_f1"], metrics["object_dice"], metrics["object_hausdorff"]) == (0, 0, 50.0)
    assert metrics["object_hausdorff_capped"] == 2
    assert metrics["object_precision"] is None


def test_no_object_anywhere_has_no_score():
    nothing = np.zeros((5, 5), np.int32)
    metrics = object_metrics([match_objects(nothing, nothing)])
    assert [metrics[k] for k in ("object_f1", "object_dice", "object_hausdorff")] == [None, None, None]


def test_pooling_weighs_by_area_over_all_images_not_by_image():
    big, small = square(0, 0, size=10), square(0, 0, size=2)
    hit, miss = match_objects(big, big), match_objects(square(15, 15, size=2), small)
    metrics = object_metrics([hit, miss])
    assert metrics["object_dice"] == pytest.approx(100 * 100 / 104)  # not 50, the mean of the images
    assert metrics["object_hausdorff"] == pytest.approx(4 / 104 * math.dist((0, 0), (15, 15)))


def test_order_of_images_and_numbering_do_not_matter():
    rng = np.random.default_rng(1)
    images = [(blobs(rng), blobs(rng)) for _ in range(4)]
    matches = [match_objects(p, t) for p, t in images]
    assert object_metrics(matches) == pytest.approx(object_metrics(matches[::-1]))
    assert object_intervals(matches, 100) == object_intervals(matches[::-1], 100)
    predicted, truth = images[0]
    gaps = np.where(truth > 0, truth.astype(np.uint16) * 300, 0).astype(np.uint16)
    assert object_metrics([match_objects(predicted, gaps)]) == object_metrics(matches[:1])


def test_intervals_hold_the_estimate():
    rng = np.random.default_rng(2)
    matches = []
    for _ in range(12):
        truth = blobs(rng)
        matches.append(match_objects(ndimage.grey_erosion(truth, 3 if rng.random() < 0.5 else 1), truth))
    metrics, intervals = object_metrics(matches), object_intervals(matches, 300)
    assert set(intervals) == {"object_f1", "object_dice", "object_hausdorff"}
    for key, (low, high) in intervals.items():
        assert low < metrics[key] < high, key


def test_bad_maps_are_refused():
    with pytest.raises(ValueError, match="differ in size"):
        match_objects(np.zeros((2, 3), int), np.zeros((3, 2), int))
    for bad in (np.zeros((2, 2)), np.array([[-1, 0]])):
        with pytest.raises(ValueError, match="integers"):
            match_objects(bad, np.zeros(bad.shape, int))
