"""A region of the teacher's that the annotator's marks speak against is refuted as a whole; others stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.labels import IGNORE_INDEX
from hf_gland.method.veto import contradicted

EVEN = np.ones(2)


def sure(class_map, confidence=0.9, classes=2):
    """Probabilities that give `confidence` to each pixel's class and share out the rest."""
    rest = (1 - confidence) / (classes - 1)
    return np.where(np.arange(classes)[:, None, None] == class_map, confidence, rest).astype(np.float32)


def unlabelled(shape):
    return np.full(shape, IGNORE_INDEX, np.uint8)


@pytest.fixture
def two_glands():
    """Two blocks of gland, 12×12 px each, in stroma."""
    answer = np.zeros((20, 40), int)
    answer[4:16, 3:15] = answer[4:16, 25:37] = 1
    return answer


def test_a_stroke_refutes_the_whole_region_under_it_and_no_other(two_glands):
    sparse = unlabelled(two_glands.shape)
    sparse[10, 3:15] = 0
    expected = np.zeros(two_glands.shape, bool)
    expected[4:16, 3:15] = True
    assert np.array_equal(contradicted(sure(two_glands), sparse, EVEN), expected)


def test_labels_that_agree_outweigh_a_stroke(two_glands):
    sparse = unlabelled(two_glands.shape)
    sparse[10, 3:15] = 0
    sparse[11:13, 3:15] = 1
    assert not contradicted(sure(two_glands), sparse, EVEN).any()
    assert contradicted(sure(two_glands), sparse, np.array([2.5, 1.0])).any()  # but not where stroma counts for more


def test_a_few_pixels_are_no_evidence(two_glands):
    sparse = unlabelled(two_glands.shape)
    sparse[4, 3:12] = 0  # nine
    assert not contradicted(sure(two_glands), sparse, EVEN).any()
    sparse[4, 12] = 0  # ten
    assert contradicted(sure(two_glands), sparse, EVEN).any()


def test_as_much_for_a_region_as_against_it_refutes_nothing(two_glands):
    sparse = unlabelled(two_glands.shape)
    sparse[10, 3:15], sparse[11, 3:15] = 0, 1
    assert not contradicted(sure(two_glands), sparse, EVEN).any()
    assert not contradicted(sure(two_glands), sparse, np.array([0.75, 0.75])).any()
    sparse[12, 3] = 0
    assert contradicted(sure(two_glands), sparse, EVEN).any()


def test_a_bridge_that_the_teacher_is_not_sure_of_does_not_join_regions(two_glands):
    answer = two_glands.copy()
    answer[9:11, 15:25] = 1
    probabilities = sure(answer)
    probabilities[:, 9:11, 15:25] = sure(answer, 0.69)[:, 9:11, 15:25]
    sparse = unlabelled(answer.shape)
    sparse[10, 3:15] = 0
    assert not contradicted(probabilities, sparse, EVEN)[:, 15:].any()
    probabilities[:, 9:11, 15:25] = sure(answer, 0.71)[:, 9:11, 15:25]
    assert contradicted(probabilities, sparse, EVEN)[4:16, 25:37].all()  # with a bridge above 0.7 they are one region


def test_stroma_is_refuted_by_an_outline(two_glands):
    answer = np.zeros_like(two_glands)
    sparse = unlabelled(answer.shape)
    sparse[two_glands == 1] = 1
    assert contradicted(sure(answer), sparse, EVEN).all()


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 4))
@settings(deadline=None, max_examples=60)
def test_it_equals_a_flood_fill_by_hand(seed, classes):
    rng = np.random.default_rng(seed)
    coarse = rng.dirichlet(np.full(classes, 0.4), (4, 5)).transpose(2, 0, 1)
    probabilities = np.kron(coarse, np.ones((1, 5, 5)))
    sparse = rng.integers(0, classes, probabilities.shape[1:]).astype(np.uint8)
    sparse[rng.random(sparse.shape) < 0.5] = IGNORE_INDEX
    weights = rng.uniform(0.5, 2, classes)
    answer, confidence = probabilities.argmax(0), probabilities.max(0)
    expected, seen = np.zeros(sparse.shape, bool), np.zeros(sparse.shape, bool)
    for start in np.ndindex(sparse.shape):
        if seen[start] or confidence[start] <= 0.7:
            continue
        region, todo = [], [start]
        seen[start] = True
        while todo:
            y, x = todo.pop()
            region.append((y, x))
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if (0 <= near[0] < sparse.shape[0] and 0 <= near[1] < sparse.shape[1] and not seen[near]
                        and confidence[near] > 0.7 and answer[near] == answer[start]):
                    seen[near] = True
                    todo.append(near)
        said = [sparse[p] for p in region if sparse[p] != IGNORE_INDEX]
        against = [s for s in said if s != answer[start]]
        refuted = (len(against) >= 10
                   and sum(weights[s] for s in against) > sum(weights[s] for s in said if s == answer[start]) + 1e-9)
        for p in region:
            expected[p] = refuted
    assert np.array_equal(contradicted(probabilities, sparse, weights), expected)
