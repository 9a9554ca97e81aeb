"""Pictures of a prediction: outlines over the image, the confidence as colours, truth beside prediction."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from PIL import Image
from scipy import ndimage

from hf_gland.errors import HfGlandError
from hf_gland.files import write_atomically
from hf_gland.glands import PredictedGlands
from hf_gland.instances import gland_instances
from hf_gland.labels import BACKGROUND, IGNORE_INDEX, class_colour
from hf_gland.options import ExportOptions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 120
MAX_FIGURE_SIDE_PX = 1600  # figures are for the eye; larger maps are thinned out to this


def line_width_px(hw: tuple[int, int]) -> int:
    """Width of an outline that shows in a large image as well as in a small one: 1 px per 250 px of side."""
    return max(2, round(max(hw) / 250))


def draw_outlines(rgb: np.ndarray, class_map: np.ndarray, instances: np.ndarray | None = None,
                  width_px: int | None = None) -> np.ndarray:
    """A copy of uint8 [H, W, 3] with each gland's inner rim in its class's colour.

    `instances` int [H, W] keeps touching glands apart (default: the regions of `class_map`). The rim is
    `width_px` wide (default: by image size), lies inside the gland, and is not drawn along the image's
    border.
    """
    if instances is None:
        instances = gland_instances(class_map)
    size = 2 * (width_px or line_width_px(class_map.shape)) + 1
    rim = (instances > 0) & ((ndimage.maximum_filter(instances, size, mode="nearest") != instances)
                             | (ndimage.minimum_filter(instances, size, mode="nearest") != instances))
    drawn = rgb.copy()
    for class_id in np.unique(class_map[rim]):
        drawn[rim & (class_map == class_id)] = class_colour(int(class_id))
    return drawn


def overlay(prediction: PredictedGlands) -> np.ndarray:
    """The image, uint8 [H, W, 3], with the predicted glands outlined in their classes' colours."""
    if prediction.rgb is None:
        raise HfGlandError(f"{prediction.name}: the prediction was made without its image, which the overlay needs")
    return draw_outlines(prediction.rgb, prediction.class_map, prediction.instances)


def write_overlay(file: BinaryIO, prediction: PredictedGlands, options: ExportOptions) -> None:
    """PNG of `overlay`, at the image's own size."""
    Image.fromarray(overlay(prediction)).save(file, "PNG")


def write_heatmap(file: BinaryIO, prediction: PredictedGlands, options: ExportOptions) -> None:
    """PNG of the confidence as colours, with a colour bar from chance (1 / classes) to 1, glands outlined."""
    from matplotlib.figure import Figure  # only here, and below: most outputs need no figures

    figure = Figure(figsize=_figure_size(prediction.class_map.shape, 1), layout="constrained")
    _show_confidence(figure.subplots(), prediction)
    _save(figure, file)


def write_comparison(path: str | Path, rgb: np.ndarray, truth: np.ndarray, prediction: PredictedGlands,
                     true_instances: np.ndarray | None = None) -> Path:
    """PNG of three panels: the true outlines, the predicted ones, and the confidence.

    `rgb` uint8 [H, W, 3]; `truth` uint8 [H, W] class ids, where 255 (unlabelled) is greyed;
    `true_instances` int [H, W] its gland ids (default: its regions).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=_figure_size(truth.shape, 3), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    shown = rgb.copy()
    shown[truth == IGNORE_INDEX] = shown[truth == IGNORE_INDEX] // 2 + 64
    true_glands = gland_instances(truth) if true_instances is None else true_instances
    _show(left, draw_outlines(shown, truth, true_glands), f"truth: {_count(int(np.count_nonzero(np.unique(true_glands))))}")
    _show(middle, draw_outlines(rgb, prediction.class_map, prediction.instances),
          f"predicted: {_count(len(prediction.glands))}")
    _show_confidence(right, prediction)
    gland_classes = {i: name for i, name in prediction.id2label.items() if i != BACKGROUND}
    if len(gland_classes) > 1:
        _legend(figure, gland_classes)
    return write_atomically(path, lambda file: _save(figure, file))


def _save(figure: "Figure", file: BinaryIO) -> None:
    figure.savefig(file, format="png", dpi=DPI)
    figure.clear()  # its parts refer to one another: their 15 MB would stay until Python next looks for such circles


def _show_confidence(axes: "Axes", prediction: PredictedGlands) -> None:
    step = -(-max(prediction.confidence.shape) // MAX_FIGURE_SIDE_PX)
    mapped = axes.imshow(prediction.confidence[::step, ::step], cmap="cividis", interpolation="nearest",
                         vmin=1 / len(prediction.id2label), vmax=1)
    ids = prediction.instances[::step, ::step]
    outlined = ids > 0
    outlined[1:] &= (ids[:-1] == ids[1:]) | (ids[:-1] == 0)  # a gap between glands that touch
    outlined[:, 1:] &= (ids[:, :-1] == ids[:, 1:]) | (ids[:, :-1] == 0)
    if outlined.any() and not outlined.all() and min(outlined.shape) > 1:
        axes.contour(outlined, levels=[0.5], colors="white", linewidths=0.8)
    axes.set_title("confidence")
    axes.set_axis_off()
    bar = axes.figure.colorbar(mapped, ax=axes, shrink=0.8)
    bar.set_label("probability of the predicted class")


def _show(axes: "Axes", rgb: np.ndarray, title: str) -> None:
    step = -(-max(rgb.shape) // MAX_FIGURE_SIDE_PX)
    axes.imshow(rgb[::step, ::step])
    axes.set_title(title)
    axes.set_axis_off()


def _legend(figure: "Figure", names: Mapping[int, str]) -> None:
    from matplotlib.patches import Patch

    handles = [Patch(color="#" + bytes(class_colour(i)).hex(), label=name) for i, name in names.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _figure_size(hw: tuple[int, ...], panels: int) -> tuple[float, float]:
    """Inches for `panels` maps side by side, each at most 5 inches a side, titles and colour bar on top."""
    height, width = hw[0] / max(hw), hw[1] / max(hw)
    return max(5 * width, 1.5) * panels + 1.3, max(5 * height, 1.5) + 0.6


def _count(glands: int) -> str:
    return f"{glands} gland" if glands == 1 else f"{glands} glands"

