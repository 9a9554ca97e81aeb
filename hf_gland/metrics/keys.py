"""The keys of the metrics: what each is called, its unit and decimals, and which of them stand in which table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Metric:
    """How a figure is shown; `unit` "%" means 0-100."""

    name: str
    unit: str = "%"
    decimals: int = 1


METRICS = {
    "mIoU": Metric("mIoU"), "mDice": Metric("mDice"), "gland_iou": Metric("gland IoU"), "gland_dice": Metric("gland Dice"),
    "image_dice": Metric("per-image Dice"), "object_f1": Metric("object F1"), "object_dice": Metric("object Dice"),
    "object_hausdorff": Metric("object Hausdorff", "px"), "ece": Metric("ECE"), "brier": Metric("Brier", "", 3),
    "object_precision": Metric("object precision"), "object_recall": Metric("object recall"),
    "errors_in_least_confident_10": Metric("errors in least confident 10"),
    "error_rate_least_confident_10": Metric("error rate least confident 10"),
    "cleaned_mIoU": Metric("mIoU after clean-up"), "cleaned_mDice": Metric("mDice after clean-up"),
    "mIoU_restained": Metric("mIoU, restained"),
}
# What every record holds and every card shows, and shorter selections for tables with many columns of other kinds.
MEASURED = ("mIoU", "mDice", "gland_iou", "gland_dice", "image_dice", "object_f1", "object_dice", "object_hausdorff", "ece",
            "brier")
MAIN = tuple(key for key in MEASURED if key not in ("gland_dice", "brier"))
COMPARED = tuple(key for key in MAIN if key != "image_dice")
FEW = tuple(key for key in COMPARED if key not in ("gland_iou", "object_hausdorff"))
CLEANED = ("cleaned_mIoU", "cleaned_mDice")  # of the masks that predict writes; records of before lack them
CALIBRATION = ("mIoU", "ece", "brier", "errors_in_least_confident_10")
PIXEL = ("mIoU", "mDice", "gland_iou", "gland_dice")  # of validation during training


def heading(key: str) -> str:
    """`object Hausdorff (px)`; another key as it is, with spaces."""
    metric = METRICS.get(key, Metric(key.replace("_", " "), ""))
    return f"{metric.name} ({metric.unit})" if metric.unit else metric.name


def figure(key: str, value: float) -> str:
    """The value with the metric's decimals."""
    return f"{value:.{METRICS[key].decimals if key in METRICS else 1}f}"


def with_interval(key: str, metrics: Mapping[str, Any]) -> str:
    """`81.2 [79.0, 83.1]`, or `–` where `metrics` says that there is no such figure."""
    if metrics.get(key) is None:
        return "–"
    interval = metrics.get(f"{key}_ci95")
    return figure(key, metrics[key]) + (f" [{figure(key, interval[0])}, {figure(key, interval[1])}]" if interval else "")
