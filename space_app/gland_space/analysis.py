"""One picture, segmented: what is computed once, and what follows from the sliders without the model."""

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gland_space.limits import MEGAPIXEL, Limits
from gland_space.model_source import LoadedModel
from hf_gland.imaging.pictures import Picture
from hf_gland.imaging.pixel_size import check_mpp, working_hw
from hf_gland.inference import Gland, GlandPrediction, PixelSizeError, PixelSizeWarning
from hf_gland.options import SMALLEST_GLAND_UM2, PostProcessing

HISTOGRAM_BINS = 25


@dataclass(frozen=True, eq=False)
class Analysis:
    """A picture and what the model says of it.

    `prediction` covers `picture.rgb` and holds everything that could be a gland, measured in pixels of the *file's*
    picture; its `probabilities` are emptied, since nothing that the demo shows needs them. mpp: µm per pixel of the
    file's picture, None when unknown; model_mpp: that the model was trained at, None when it does not say.
    """

    picture: Picture
    prediction: GlandPrediction
    mpp: float | None
    model_mpp: float | None
    notes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.prediction.id2label)

    @property
    def lowest_confidence(self) -> float:
        """What a guess among the classes would have."""
        return 1 / self.num_classes

    @cached_property
    def histogram(self) -> np.ndarray:
        """Share of pixels, float [2, HISTOGRAM_BINS] from lowest_confidence to 1: outside glands, inside glands."""
        inside = self.prediction.instances > 0
        edges = np.linspace(self.lowest_confidence, 1, HISTOGRAM_BINS + 1)
        counts = [np.histogram(np.clip(self.prediction.confidence[where], edges[0], 1), edges)[0]
                  for where in (~inside, inside)]
        return np.array(counts) / inside.size

    @property
    def nbytes(self) -> int:
        arrays = (self.picture.rgb, self.prediction.class_map, self.prediction.confidence, self.prediction.instances)
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True)
class Choice:
    """What the sliders say. uncertain_below: mean confidence, 0-1; min_area: µm² where the pixel size is known, else px
    of the file's picture."""

    uncertain_below: float = 0.75
    min_area: float = 0.0


def analyse(model: LoadedModel, picture: Picture, mpp: float | None, limits: Limits,
            progress: Callable[[float], None] | None = None) -> Analysis:
    """Segment a picture. `mpp`: µm per pixel of the file's picture, None when unknown.

    Raises PixelSizeError with a message for the user.
    """
    notes = list(picture.notes)
    here = None
    if mpp is not None:
        check_mpp(mpp, picture.name)
        here = mpp * picture.reduction
        _check_work(picture, mpp, here, model.segmenter.mpp, limits)
    else:
        notes.append(_no_mpp_note(model.segmenter.missing_mpp))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PixelSizeWarning)  # said above, in the page's own words
        prediction = model.predict(picture.rgb, here, progress=progress, name=picture.name,
                                   post=PostProcessing(min_gland_area_px=limits.smallest_gland_px))
    prediction, dropped = _largest_glands(prediction, limits.max_glands)
    glands = tuple(_in_file_pixels(gland, picture.reduction) for gland in prediction.glands)
    if dropped:
        notes.append(f"Only the {limits.max_glands:,} largest of {limits.max_glands + dropped:,} glands are kept.")
    empty = np.empty((len(prediction.id2label), 0, 0), np.float32)
    lean = dataclasses.replace(prediction, probabilities=empty, glands=glands, mpp=mpp)
    return Analysis(picture, lean, mpp, model.segmenter.mpp, tuple(notes))


def _in_file_pixels(gland: Gland, reduction: float) -> Gland:
    """The gland with its pixel measures in pixels of the file's picture; those in µm are the same at any size."""
    if reduction == 1:
        return gland
    return dataclasses.replace(
        gland, area_px=round(gland.area_px * reduction**2), perimeter_px=gland.perimeter_px * reduction,
        centroid_x_px=gland.centroid_x_px * reduction, centroid_y_px=gland.centroid_y_px * reduction)


def _no_mpp_note(assumed_mpp: float | None) -> str:
    if assumed_mpp is None:
        return "No pixel size given: sizes are in pixels."
    return (f"No pixel size given: {assumed_mpp:g} µm per pixel was assumed, as in the model's training, and sizes are in "
            "pixels. At another magnification the outlines will be wrong.")


def _check_work(picture: Picture, mpp: float, here: float, model_mpp: float | None, limits: Limits) -> None:
    try:
        height, width = working_hw(picture.rgb.shape[:2], here, model_mpp, picture.name)
    except PixelSizeError:
        height = width = 0
    if model_mpp is not None and not 0 < height * width <= limits.max_working_px:
        raise PixelSizeError(
            f"{picture.name}: {picture.full_hw[1]}×{picture.full_hw[0]} px of {mpp:g} µm are more than "
            f"{limits.max_working_px / MEGAPIXEL:.0f} million pixels at the model's {model_mpp:g} µm per pixel. Check the "
            "pixel size, or crop the picture")


def _largest_glands(prediction: GlandPrediction, count: int) -> tuple[GlandPrediction, int]:
    """The prediction with its `count` largest glands alone, and how many were dropped."""
    dropped = len(prediction.glands) - count
    if dropped <= 0:
        return prediction, 0
    largest = sorted(prediction.glands, key=lambda gland: -gland.area_px)[:count]
    return with_glands(prediction, {gland.id for gland in largest}), dropped


def with_glands(prediction: GlandPrediction, ids: set[int]) -> GlandPrediction:
    """The prediction with all other glands turned into background; those kept keep their ids."""
    keep = np.zeros(int(prediction.instances.max(initial=0)) + 1, bool)
    keep[list(ids)] = True
    inside = keep[prediction.instances]
    return dataclasses.replace(
        prediction, instances=np.where(inside, prediction.instances, 0).astype(np.int32),
        class_map=np.where(inside, prediction.class_map, 0).astype(np.uint8),
        glands=tuple(gland for gland in prediction.glands if gland.id in ids))


def area_of(gland: Gland) -> float:
    """The area that the slider judges: µm², or px of the file's picture."""
    return gland.area_px if gland.area_um2 is None else gland.area_um2


def kept_glands(analysis: Analysis, choice: Choice) -> list[Gland]:
    """The glands that are large enough, in order of their ids."""
    return [gland for gland in analysis.prediction.glands if area_of(gland) >= choice.min_area]


def uncertain_ids(analysis: Analysis, choice: Choice) -> set[int]:
    """Ids of the glands whose mean confidence lies below the threshold."""
    return {gland.id for gland in analysis.prediction.glands if gland.mean_confidence < choice.uncertain_below}


def chosen_prediction(analysis: Analysis, choice: Choice) -> GlandPrediction:
    """What the downloads hold: the prediction without the glands that are too small, the others numbered from 1."""
    chosen = with_glands(analysis.prediction, {gland.id for gland in kept_glands(analysis, choice)})
    number = np.zeros(int(analysis.prediction.instances.max(initial=0)) + 1, np.int32)
    number[[gland.id for gland in chosen.glands]] = np.arange(1, len(chosen.glands) + 1)
    return dataclasses.replace(chosen, instances=number[chosen.instances], glands=tuple(
        dataclasses.replace(gland, id=index) for index, gland in enumerate(chosen.glands, start=1)))


def default_choice(analysis: Analysis) -> Choice:
    """The sliders' first position: what `GlandSegmenter.predict` itself would drop is dropped."""
    if analysis.mpp is not None:
        return Choice(min_area=SMALLEST_GLAND_UM2)
    if analysis.model_mpp is not None:
        return Choice(min_area=float(round(SMALLEST_GLAND_UM2 / analysis.model_mpp**2)))
    return Choice()
