"""Pictures of results: functions of the figures alone."""

import numpy as np
import pytest
from PIL import Image
from test_report_section import record

from hf_gland.evaluation.figures import draw_curves, draw_reliability, draw_risk_coverage


def test_a_reliability_diagram_is_drawn_from_the_bins_alone(tmp_path):
    reliability = {"pixels": [0, 30, 70], "confidence": [None, 0.5, 0.9], "accuracy": [None, 0.6, 0.8]}
    for name in ("first", "again"):
        draw_reliability(reliability, tmp_path / f"{name}.png", "title")
    first = (tmp_path / "first.png").read_bytes()
    assert (tmp_path / "again.png").read_bytes() == first
    assert len(np.unique(np.asarray(Image.open(tmp_path / "first.png").convert("RGB")).reshape(-1, 3), axis=0)) > 3
    draw_reliability(reliability | {"accuracy": [None, 0.3, 0.4]}, tmp_path / "other.png", "title")
    assert (tmp_path / "other.png").read_bytes() != first
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again.png", "first.png", "other.png"]


def measured(variant, level, **changes):
    """A record with the curves of training and of confidence, all at `level`."""
    steps = {"step": [1, 2], "coverage": [0.5, level / 100], "threshold": [0.9, level / 100], "ema_decay": [0.9, 0.9],
             "pseudo_accuracy": [0.9, level / 100]}
    one = record(variant, level, extra={"curve": steps, "mpp": 0.83}, **changes)
    one.metrics["risk_coverage"] = {"coverage": [0.5, 1.0], "error": [1.0, level / 10]}
    return one


@pytest.mark.parametrize("draw", [draw_curves, draw_risk_coverage])
def test_other_budgets_and_styles_are_not_drawn_with_the_usual_ones(draw, tmp_path):
    usual = [measured(variant, level) for variant, level in (("ours", 80.0), ("naive", 70.0), ("sparse-only", 60.0))]
    others = [measured(name, 30.0, budget=budget, style=style) for name in ("ours", "naive", "sparse-only")
              for style, budget in (("glands", 1), ("glands", 1.0), ("glands", 0.1), ("images", 0.2), ("points", 1.0))]
    assert draw(usual, tmp_path / "usual.png")
    assert draw([*others, *usual], tmp_path / "all.png")
    assert (tmp_path / "all.png").read_bytes() == (tmp_path / "usual.png").read_bytes()
    assert draw([measured("ours", 50.0), *usual[1:]], tmp_path / "other.png")
    assert (tmp_path / "other.png").read_bytes() != (tmp_path / "usual.png").read_bytes()
    assert not draw(others, tmp_path / "none.png")
