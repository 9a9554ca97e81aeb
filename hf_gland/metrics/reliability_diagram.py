"""The reliability diagram: accuracy against confidence, drawn from the `reliability` of a result alone."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

DIAGONAL_COLOUR, BAR_COLOUR, GAP_COLOUR = "#333333", "#56B4E9", "#D55E00"  # Okabe and Ito


def reliability_diagram(reliability: dict[str, list[Any]], path: str | os.PathLike[str],
                        title: str = "") -> Path:
    """Write the diagram as a PNG and return its path.

    `reliability`: what `CalibrationCounts.metrics` gives under that key: `pixels`, `confidence`, `accuracy`
    of equal-width bins over 0..1. Bars show the accuracy of each bin, the mark its mean confidence, the lower
    panel the share of pixels. The picture is a function of its input: no date or version is written into the
    file.
    """
    pixels = np.asarray(reliability["pixels"], np.float64)
    confidence, accuracy = (np.array([np.nan if v is None else v for v in reliability[key]])
                            for key in ("confidence", "accuracy"))
    edges = np.linspace(0, 1, len(pixels) + 1)
    figure = Figure(figsize=(4.8, 5.6), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    top.bar(edges[:-1], accuracy, np.diff(edges), align="edge", color=BAR_COLOUR, edgecolor="white",
            label="accuracy")
    top.plot(confidence, confidence, "o", color=GAP_COLOUR, markersize=4, label="mean confidence")
    top.vlines(confidence, np.minimum(accuracy, confidence), np.maximum(accuracy, confidence), GAP_COLOUR)
    top.plot([0, 1], [0, 1], "--", color=DIAGONAL_COLOUR, linewidth=1, label="perfect calibration")
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of pixels that are right", title=title)
    top.legend(loc="upper left", frameon=False)
    bottom.bar(edges[:-1], 100 * pixels / max(pixels.sum(), 1), np.diff(edges), align="edge",
               color=BAR_COLOUR, edgecolor="white")
    bottom.set(xlabel="confidence (highest class probability)", ylabel="pixels (%)")
    target = Path(path)
    temporary = target.with_name(f".{target.name}.part")
    figure.savefig(temporary, format="png", metadata={"Software": None})
    os.replace(temporary, target)
    return target
