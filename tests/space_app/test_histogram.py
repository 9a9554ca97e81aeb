import xml.etree.ElementTree as ET

import numpy as np
import pytest
from gland_space.view import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, histogram_svg

NS = "{http://www.w3.org/2000/svg}"


def parsed(shares, lowest=0.5, threshold=0.75):
    text = histogram_svg(np.array(shares), lowest, threshold)
    return ET.fromstring(text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def test_bars_are_as_high_as_their_share_and_stacked():
    svg = parsed([[0.1, 0.0, 0.2, 0.0], [0.3, 0.0, 0.0, 0.4]])
    bars = {(r.get("class"), round((float(r.get("x")) - LEFT) / ((WIDTH - LEFT - RIGHT) / 4))): float(r.get("height"))
            for r in svg.iter(f"{NS}rect")}
    full = HEIGHT - TOP - BOTTOM
    assert bars == pytest.approx({("gl-inside", 0): 0.75 * full, ("gl-outside", 0): 0.25 * full,
                                  ("gl-outside", 2): 0.5 * full, ("gl-inside", 3): full}, abs=0.1)


@pytest.mark.parametrize(("threshold", "share"), [(0.5, 0.0), (0.75, 0.5), (1.0, 1.0), (0.2, 0.0)])
def test_the_threshold_stands_where_it_belongs(threshold, share):
    svg = parsed([[0.5, 0.5], [0.0, 0.0]], threshold=threshold)
    line = next(p for p in svg.iter(f"{NS}path") if p.get("class") == "gl-threshold")
    assert float(line.get("d")[1:].split()[0]) == pytest.approx(LEFT + share * (WIDTH - LEFT - RIGHT), abs=0.1)


def test_it_says_in_words_what_it_shows():
    svg = parsed([[0.25, 0.25], [0.0, 0.5]], threshold=0.75)
    assert svg.get("role") == "img"
    assert "25 % of the pixels are below the threshold of 75 %" in svg.get("aria-label")


def test_no_pixels_at_all_is_no_error():
    assert list(parsed([[0.0] * 5, [0.0] * 5]).iter(f"{NS}rect")) == []
