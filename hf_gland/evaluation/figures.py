"""Pictures drawn from result records alone."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from hf_gland.config import all_variants
from hf_gland.evaluation.records import HELD_OUT, ResultRecord
from hf_gland.files import write_atomically

# Okabe and Ito's colours, which colour-blind readers tell apart.
BLUE, VERMILION, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9"


def draw_curves(records: Iterable[ResultRecord], path: Path) -> bool:
    """Self-training over the steps, the variants of group `self_training` side by side, one column per background; False
    if none has all of them.

    From above: the share of pixels with a pseudo-label, the threshold τ (the lower class's) and the teacher's decay α;
    the share of those labels that is right; and in a column of runs that held patients out, their mIoU.
    """
    runs: dict[tuple[str, str], ResultRecord] = {}
    for record in sorted(records, key=lambda r: r.seed):
        method = record.variant.removesuffix(HELD_OUT)
        if (method in _shown_in("self_training") and "curve" in record.extra and record.on_usual_images
                and record.on_usual_budget):
            watched = ", patients held out" if record.variant.endswith(HELD_OUT) else ""
            size = f" at {record.mpp:g} µm per pixel" if record.mpp else ""
            runs.setdefault((f"{record.recipe}{size},\nstroma by {record.background}{watched}", method), record)
    methods = _shown_in("self_training")
    complete = {t for t, _ in runs if {(t, method) for method in methods} <= set(runs)}
    titles = sorted(complete, key=lambda t: ("held out" in t, t))
    if not titles:
        return False
    validated = any("validation_step" in runs[t, methods[0]].extra["curve"] for t in titles)
    figure = Figure(figsize=(4.2 * len(titles), 8 if validated else 5.5), dpi=110, layout="constrained")
    axes = figure.subplots(3 if validated else 2, len(titles), sharex=True, sharey="row", squeeze=False)
    for column, title in enumerate(titles):
        top, middle = axes[:2, column]
        for method, colour in zip(methods, (BLUE, VERMILION, GREEN, PURPLE), strict=False):
            record = runs[title, method]
            curve = {k: np.array(v, float) for k, v in record.extra["curve"].items()}
            taught = curve["coverage"] > 0
            top.plot(curve["step"], curve["coverage"], color=colour,
                     label=f"{method} ({record.metrics['mIoU']:.1f} mIoU): coverage")
            top.plot(curve["step"][taught], curve["threshold"][taught], color=colour, linestyle=":", label="threshold τ")
            top.plot(curve["step"], curve["ema_decay"], color=colour, linestyle="--", linewidth=0.8, label="decay α")
            middle.plot(curve["step"], curve["pseudo_accuracy"], color=colour, label=method)
            if "validation_step" in curve:
                axes[2, column].plot(curve["validation_step"], curve["validation_mIoU"], color=colour, marker=".",
                                     label=method)
                axes[2, column].legend(fontsize=7)
        top.set(title=title, ylim=(0, 1.02))
        top.title.set_fontsize(9)
        axes[-1, column].set(xlabel="training step")
        top.legend(fontsize=6)
        middle.legend(fontsize=7)
    for row, label in enumerate(("share of pixels", "accuracy of the pseudo-labels", "mIoU on held-out patients (%)")):
        if row < len(axes):
            axes[row, 0].set_ylabel(label)
    if validated:
        for column in range(len(titles)):
            if not axes[2, column].lines:
                axes[2, column].text(0.5, 0.5, "no patients held out", ha="center", va="center", color="grey", fontsize=8,
                                     transform=axes[2, column].transAxes)
    _save(figure, path)
    return True


def draw_risk_coverage(records: Iterable[ResultRecord], path: Path) -> bool:
    """Share of wrong pixels among the most confident ones, one line per method, all of one pixel size: that at which most
    methods were measured, the finest of several. False if no record has the curve."""
    found_at: dict[float, dict[str, list[list[float]]]] = {}
    shares: list[float] = []
    for record in records:
        found = record.metrics.get("risk_coverage")
        usual = record.on_usual_budget and record.background == "rim+scribble"
        if (record.variant in _shown_in("risk_coverage") and found and record.on_usual_images
                and record.recipe == "bench" and (usual or record.style == "full")):
            found_at.setdefault(record.mpp or 0.0, {}).setdefault(record.variant, []).append(found["error"])
            shares = found["coverage"]
    if not found_at:
        return False
    lines = found_at[max(found_at, key=lambda mpp: (len(found_at[mpp]), -mpp))]
    figure = Figure(figsize=(5, 3.5), dpi=130, layout="constrained")
    axes = figure.subplots()
    for (variant, curves), colour in zip(sorted(lines.items()), (GREEN, BLUE, VERMILION, PURPLE), strict=False):
        axes.plot(100 * np.array(shares), np.mean(curves, axis=0), color=colour, marker=".", label=variant)
    axes.set(xlabel="most confident pixels kept (%)", ylabel="of them wrong (%)", xlim=(0, 100), ylim=(0, None))
    axes.axvline(90, color="grey", linewidth=0.8, linestyle=":")
    axes.legend(fontsize=8)
    _save(figure, path)
    return True


def draw_budget_curves(record: Mapping[str, Any], path: Path) -> None:
    """mIoU over the share of glands outlined, a line for each way of choosing them, its seeds as points.

    `record`: as scripts/annotation_curve.py writes it; what is not measured yet (None) is left out.
    """
    budgets = 100 * np.array(record["budgets"])
    figure = Figure(figsize=(5.5, 3.8), dpi=130, layout="constrained")
    axes = figure.subplots()
    for (choice, seeds), colour in zip(record["mIoU"].items(), (VERMILION, BLUE, GREEN, PURPLE), strict=False):
        scores = np.array(seeds, float)
        known = ~np.isnan(scores).all(axis=0)
        if known.any():
            axes.plot(budgets[known], np.nanmean(scores[:, known], axis=0), color=colour, label=choice)
            for row in scores:
                axes.plot(budgets, row, ".", color=colour, alpha=0.5)
    axes.set(xscale="log", xlabel="glands outlined (% of all)", ylabel=f"mIoU on {record['split']} (%)")
    axes.set_xticks(budgets, [f"{budget:g}" for budget in budgets])
    axes.minorticks_off()
    if axes.lines:
        axes.legend(fontsize=8)
    _save(figure, path)


def draw_reliability(reliability: Mapping[str, list[Any]], path: Path, title: str) -> None:
    """The reliability diagram as a PNG, from the `reliability` of a result: `pixels`, `confidence`, `accuracy` of
    equal-width bins over 0..1.

    Bars show the accuracy of each bin, the mark its mean confidence, the lower panel the share of pixels.
    """
    pixels, confidence, accuracy = (np.array(reliability[key], float) for key in ("pixels", "confidence", "accuracy"))
    edges = np.linspace(0, 1, len(pixels) + 1)
    figure = Figure(figsize=(4.8, 5.6), dpi=150, layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    bars = {"align": "edge", "color": SKY, "edgecolor": "white"}
    top.bar(edges[:-1], accuracy, np.diff(edges), label="accuracy", **bars)
    top.plot(confidence, confidence, "o", color=VERMILION, markersize=4, label="mean confidence")
    top.vlines(confidence, np.minimum(accuracy, confidence), np.maximum(accuracy, confidence), VERMILION)
    top.plot([0, 1], [0, 1], "--", color="#333333", linewidth=1, label="perfect calibration")
    top.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of pixels that are right", title=title)
    top.legend(loc="upper left", frameon=False)
    bottom.bar(edges[:-1], 100 * pixels / max(pixels.sum(), 1), np.diff(edges), **bars)
    bottom.set(xlabel="confidence (highest class probability)", ylabel="pixels (%)")
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    """As a PNG that is a function of what is drawn: no version is written into it."""
    write_atomically(path, lambda file: figure.savefig(file, format="png", metadata={"Software": None}))


def _shown_in(figure: str) -> list[str]:
    """The variants whose files name this figure."""
    return [name for name, variant in all_variants().items() if figure in variant.groups]
