"""How figures are named and rounded."""

import pytest

from hf_gland.metrics.keys import COMPARED, FEW, MAIN, MEASURED, METRICS, figure, heading, with_interval


@pytest.mark.parametrize(("key", "name"), [("mIoU", "mIoU (%)"), ("object_hausdorff", "object Hausdorff (px)"),
                                           ("brier", "Brier"), ("predicted_objects", "predicted objects")])
def test_headings_have_their_unit(key, name):
    assert heading(key) == name


def test_figures_with_their_interval_or_a_dash():
    metrics = {"mIoU": 81.26, "mIoU_ci95": [79.04, 83.15], "brier": 0.12345, "ece": None}
    assert [with_interval(k, metrics) for k in ("mIoU", "brier", "ece", "mDice")] == [
        "81.3 [79.0, 83.2]", "0.123", "–", "–"]
    assert (figure("brier", 2), figure("predicted_objects", 2)) == ("2.000", "2.0")


def test_tables_show_metrics_that_are_measured():
    assert (len(MEASURED), len(MAIN), len(COMPARED), len(FEW)) == (10, 8, 7, 5)
    assert set(FEW) < set(COMPARED) < set(MAIN) < set(MEASURED) < set(METRICS)
