"""Pictures of results: functions of the figures alone."""

import numpy as np
from PIL import Image

from hf_gland.evaluation.figures import draw_reliability


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
