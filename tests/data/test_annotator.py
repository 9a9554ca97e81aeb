import numpy as np
import pytest
from tiny import picture

from hf_gland.data.annotator import (
    Drawn,
    annotation_of,
    answer,
    budget_marks,
    curve_area,
    glands_of,
    random_order,
    spread_of,
    spread_order,
)
from hf_gland.data.sparsify import SparsifyConfig

GLANDS = [(image, number) for image, count in (("a", 9), ("b", 2), ("c", 4)) for number in range(1, count + 1)]


def test_orders_are_nested_permutations_and_spread_gives_each_image_one_first():
    for order in (random_order, spread_order):
        assert sorted(order(GLANDS, 3)) == sorted(GLANDS)
        assert order(GLANDS, 3) == order(GLANDS, 3) != order(GLANDS, 4)
    assert [sorted(image for image, _ in spread_order(GLANDS, seed)[:3]) for seed in range(4)] == [["a", "b", "c"]] * 4
    assert {image for image, _ in spread_order(GLANDS, 0)[6:8]} == {"a", "c"}
    assert random_order(GLANDS, 3) != spread_order(GLANDS, 3)


def test_the_annotator_outlines_the_gland_that_is_asked_for_and_else_labels_stroma():
    _, mask, instances = picture(0, 2)
    drawn = Drawn()
    y, x = (int(found.mean()) for found in np.nonzero(instances == 2))
    for _ in range(2):  # the second time there is none left there
        answer(drawn, "a", x - 3, y - 3, np.ones((9, 9), bool), instances)
    assert drawn.glands == [("a", 2)]
    assert drawn.stroma == [("a", x - 3, y - 3, x + 6, y + 6)]
    answer(drawn, "a", 0, 0, np.ones((6, 5), bool), instances)
    assert drawn.stroma[1] == ("a", 0, 0, 5, 6)
    assert drawn.marks == 3

    labels = annotation_of(drawn, "a", mask, instances, SparsifyConfig(background="rim"), 0)
    assert ((labels.mask == 1) == (instances == 2)).all()
    assert (labels.mask[:6, :5] == 0).all()
    assert (labels.mask[instances == 1] == 255).all()
    assert (labels.annotated_glands, labels.total_glands, labels.marks) == (1, 2, 3)
    assert labels.labelled_fraction == pytest.approx((labels.mask != 255).mean())
    assert (annotation_of(drawn, "b", mask, instances, SparsifyConfig(), 0).mask == 255).all()


def test_specks_are_no_glands_and_budgets_are_shares_of_all():
    instances = np.zeros((40, 40), int)
    instances[:10, :10], instances[20:22, :4] = 3, 5
    assert glands_of(instances, "a") == [("a", 3)]
    assert budget_marks([0.02, 0.1, 0.2], 85) == [2, 8, 17]
    assert budget_marks([0.02], 10) == [1]


def test_the_area_under_a_curve_counts_each_doubling_the_same():
    assert curve_area([0.1, 0.2, 0.4], [60.0, 80.0, 80.0]) == pytest.approx(75)
    assert curve_area([0.1], [60.0]) == 60
    assert spread_of({"a": [[60.0, 80.0, 80.0], [62.0, 82.0, 82.0]]}, [0.1, 0.2, 0.4]) == {
        "a": {"mean": 76.0, "sd": pytest.approx(2**0.5, abs=1e-3)}}
    assert spread_of({"a": [[60.0, 80.0]]}, [0.1, 0.2]) == {"a": {"mean": 70.0, "sd": None}}  # one seed has no spread
