"""Pictures drawn from result records alone."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hf_gland.metrics.results import ResultRecord

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"


def draw_curves(records: Iterable[ResultRecord], path: Path) -> bool:
    """Pseudo-masks over training, ours beside the naive reading, one column per background; False if none has both.

    Above: the share of pixels with a pseudo-label and the threshold τ; below: the share of those labels that is right.
    """
    runs: dict[tuple[str, str], ResultRecord] = {}
    for record in records:
        if record.variant in ("ours", "naive") and "curve" in record.extra and "@" not in record.test_split:
            runs.setdefault((record.background, record.variant), record)
    backgrounds = sorted({b for b, _ in runs if {(b, "ours"), (b, "naive")} <= set(runs)})
    if not backgrounds:
        return False
    figure = Figure(figsize=(4.5 * len(backgrounds), 5.5), dpi=130, layout="constrained")
    axes = figure.subplots(2, len(backgrounds), sharex=True, sharey="row", squeeze=False)
    for column, background in enumerate(backgrounds):
        top, bottom = axes[:, column]
        for variant, colour in (("ours", BLUE), ("naive", VERMILION)):
            record = runs[background, variant]
            curve = {k: np.array(v, float) for k, v in record.extra["curve"].items()}
            top.plot(curve["step"], curve["coverage"], color=colour,
                     label=f"{variant} ({record.metrics['mIoU']:.1f} mIoU): coverage")
            taught = curve["coverage"] > 0
            top.plot(curve["step"][taught], curve["threshold"][taught], color=colour, linestyle=":",
                     label=f"{variant}: threshold τ")
            bottom.plot(curve["step"], curve["pseudo_accuracy"], color=colour, label=variant)
        top.set(title=f"stroma labelled by: {background}", ylim=(0, 1))
        bottom.set(xlabel="training step")
        top.legend(fontsize=7)
        bottom.legend(fontsize=7)
    axes[0, 0].set_ylabel("share of pixels")
    axes[1, 0].set_ylabel("accuracy of the pseudo-labels")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return True


def draw_risk_coverage(records: Iterable[ResultRecord], path: Path) -> bool:
    """Share of wrong pixels among the most confident ones, one line per method; False if no record has the curve."""
    lines: dict[str, list[list[float]]] = {}
    shares: list[float] = []
    for record in records:
        found = record.metrics.get("risk_coverage")
        if (record.variant in ("ours", "sparse-only", "full") and found and "@" not in record.test_split
                and record.recipe == "bench" and record.background in ("rim+scribble", "all")
                and record.budget in (0.2, 1.0) and record.style in ("glands", "full")):
            lines.setdefault(record.variant, []).append(found["error"])
            shares = found["coverage"]
    if not lines:
        return False
    figure = Figure(figsize=(5, 3.5), dpi=130, layout="constrained")
    axes = figure.subplots()
    for (variant, curves), colour in zip(sorted(lines.items()), (GREEN, BLUE, VERMILION), strict=False):
        axes.plot(100 * np.array(shares), np.mean(curves, axis=0), color=colour, marker=".", label=variant)
    axes.set(xlabel="most confident pixels kept (%)", ylabel="of them wrong (%)", xlim=(0, 100), ylim=(0, None))
    axes.axvline(90, color="grey", linewidth=0.8, linestyle=":")
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return True
