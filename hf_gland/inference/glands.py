"""From class probabilities to glands: the part of a prediction that needs no network.

A user interface can call `glands_from_probabilities` again with other thresholds as often as a slider moves.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import ndimage

from hf_gland.export.formats import DEFAULT_FORMATS, write_outputs
from hf_gland.export.geojson import glands_to_geojson
from hf_gland.export.overlay import overlay
from hf_gland.export.table import COLUMNS, gland_rows
from hf_gland.glands import Gland, Place, PredictedGlands
from hf_gland.imaging.appearance import USUAL_LOOK, Look
from hf_gland.inference.touching import core_probabilities, divide_by_cores, gland_probability
from hf_gland.instances import fill_holes, framed, gland_instances, join_small_parts
from hf_gland.labels import BACKGROUND
from hf_gland.options import LOW_CONFIDENCE, ExportOptions, PostProcessing

if TYPE_CHECKING:
    import pandas

READING_STRIPS = 8  # of a picture's shorter side: numbering by strips gives each gland its place whichever others there are
# What a square of 2 × 2 pixels adds, by which of them belong to the region: 1 that below to the right, 2 above to the right,
# 4 below to the left, 8 above to the left.
_ALONG, _ACROSS = np.pi / 4, np.pi / (4 * np.sqrt(2))
_CROFTON = np.array([0, np.pi / 4 * (1 + 1 / np.sqrt(2)), _ACROSS, np.pi / (2 * np.sqrt(2)), 0,
                     np.pi / 4 * (1 + 1 / np.sqrt(2)), 0, _ACROSS, _ALONG, np.pi / 2, _ACROSS, _ACROSS, _ALONG, np.pi / 2,
                     0, 0])


@dataclass(frozen=True, eq=False, repr=False)
class GlandPrediction(PredictedGlands):
    """The glands of one image, and what can be made of them; see PredictedGlands for its arrays. `look`: whether the image
    was unlike the training images, as `look.sentence()` says, and how its stain was matched for the network. `left_out`: how
    many regions were no glands because the network was hardly sure of them."""

    look: Look = USUAL_LOOK
    left_out: int = 0

    def __repr__(self) -> str:
        height, width = self.class_map.shape
        size = "pixel size unknown" if self.mpp is None else f"{self.mpp:g} µm per pixel"
        return (f"<GlandPrediction of {self.name}: {width}×{height} px, {size}; glands: {len(self.glands)}, on "
                f"{(self.class_map > 0).mean():.1%} of the area; mean confidence {self.confidence.mean():.2f}>")

    def to_geojson(self, options: ExportOptions = ExportOptions()) -> dict[str, Any]:
        """A FeatureCollection for QuPath, one annotation per gland, in pixels of the image."""
        return glands_to_geojson(self, options)

    def to_dataframe(self) -> "pandas.DataFrame":
        """One row per gland, units in the column names, as in the CSV file."""
        import pandas  # only here: predicting needs none

        return pandas.DataFrame(gland_rows(self), columns=list(COLUMNS))

    def with_glands(self, glands: Sequence[Gland]) -> "GlandPrediction":
        """The same with these of its glands alone, numbered from 1 in this order; the others become background."""
        number = np.zeros(int(self.instances.max(initial=0)) + 1, np.int32)
        number[[gland.id for gland in glands]] = np.arange(1, len(glands) + 1)
        instances = number[self.instances]
        return dataclasses.replace(
            self, instances=instances, class_map=np.where(instances > 0, self.class_map, np.uint8(BACKGROUND)),
            glands=tuple(dataclasses.replace(gland, id=index) for index, gland in enumerate(glands, start=1)))

    def overlay(self) -> np.ndarray:
        """The image with the glands outlined in their classes' colours, uint8 [H, W, 3]."""
        return overlay(self)

    def save(self, stem: str | Path, formats: Iterable[str] = DEFAULT_FORMATS,
             options: ExportOptions = ExportOptions()) -> list[Path]:
        """Write STEM.geojson, STEM_glands.csv and so on (`formats`: keys of FORMATS); returns the files' paths."""
        return write_outputs(stem, formats, self, options)


def glands_from_probabilities(probabilities: np.ndarray, id2label: Mapping[int, str],
                              post: PostProcessing = PostProcessing(), *, mpp: float | None = None,
                              assumed_mpp: float | None = None, temperature: float = 1.0,
                              rgb: np.ndarray | None = None, name: str = "image") -> GlandPrediction:
    """Label the pixels of float [C, H, W] probabilities, clean up, and measure each gland, as `post` says. One more map than
    classes is P(border | gland), which tells touching glands apart.

    Small holes are filled, parts of a gland in another class that are too small to be one (`join_small_parts`) take its
    class, small regions become background, the others are divided among their cores, those that the network
    is hardly sure of become background, and the rest is numbered as one reads: strip by strip of the picture, each from left
    to right. `mpp`: µm per pixel, None if unknown; `assumed_mpp` then scales areas in µm². `temperature`: what the
    probabilities were calibrated with; glands are the same at any temperature (exactly so for two classes). `rgb`, `name`:
    the image, where it is to be kept. Raises ValueError for misshapen probabilities, or such as are none.
    """
    classes = len(id2label)
    if probabilities.ndim != 3 or len(probabilities) not in (classes, classes + 1) or classes < 2:
        raise ValueError(f"probabilities must be [{len(id2label)} classes, H, W], got "
                         f"{list(probabilities.shape)}")
    if not (probabilities.min(initial=0) >= 0 and probabilities.max(initial=0) <= 1 + 1e-3):  # NaN fails too
        raise ValueError("probabilities must be numbers between 0 and 1")
    found = GlandRules(id2label, post, mpp, assumed_mpp, temperature).find(probabilities, rgb=rgb, name=name)
    strip_px = min(probabilities.shape[1:]) / READING_STRIPS
    return found.with_glands(sorted(found.glands, key=lambda g: (int(g.centroid_y_px / strip_px), g.centroid_x_px)))


@dataclass(frozen=True)
class GlandRules:
    """What makes glands of probabilities, of a whole picture or of any part of one that cuts no region: see
    `glands_from_probabilities` for the fields.
    """

    id2label: Mapping[int, str]
    post: PostProcessing = PostProcessing()
    mpp: float | None = None
    assumed_mpp: float | None = None
    temperature: float = 1.0

    def areas_px(self) -> tuple[int, int, int]:
        """Smallest gland, largest hole and smallest core, in pixels."""
        return self.post.areas_px(self.assumed_mpp if self.mpp is None else self.mpp)

    def label_pixels(self, probabilities: np.ndarray) -> np.ndarray:
        """The class of each pixel before clean-up, uint8 [H, W], of float [C or C + 1, H, W]."""
        return _class_map(probabilities[:len(self.id2label)], self.post.gland_threshold)

    def find(self, probabilities: np.ndarray, place: Place | None = None, *, rgb: np.ndarray | None = None,
             name: str = "image") -> GlandPrediction:
        """The glands of float [C or C + 1, H, W], which are those of `place` in their image (None: all of it)."""
        border = probabilities[len(self.id2label)] if len(probabilities) > len(self.id2label) else None
        probabilities = probabilities[:len(self.id2label)]
        min_gland_px, max_hole_px, min_core_px = self.areas_px()
        class_map = join_small_parts(fill_holes(self.label_pixels(probabilities), max_hole_px), min_gland_px)
        instances = gland_instances(class_map, min_gland_px)
        gland = gland_probability(probabilities, self.temperature)
        if self.post.split_touching:
            core = core_probabilities(gland, border)
            instances = divide_by_cores(instances, core, self.post.core_probability, max(min_core_px, min_gland_px))
        found = instances.max(initial=0)
        if self.post.least_confidence > 0:
            instances = without_unsure(instances, gland, self.post.least_confidence)
        class_map = np.where(instances > 0, class_map, np.uint8(BACKGROUND))
        place = place or Place((0, 0), (0, 0, *class_map.shape))
        return GlandPrediction(
            class_map=class_map, probabilities=probabilities, confidence=probabilities.max(axis=0), instances=instances,
            glands=measure_glands(instances, class_map, probabilities, self.id2label, self.mpp, place),
            id2label=dict(self.id2label), mpp=self.mpp, rgb=rgb, name=name, origin_yx=place.origin_yx,
            left_out=int(found - instances.max(initial=0)))


def without_unsure(instances: np.ndarray, gland: np.ndarray, least_confidence: float) -> np.ndarray:
    """`instances`, int [H, W], without the ids over whose pixels `gland`, P(gland) float [H, W], has a mean below
    `least_confidence`; int32, the others numbered from 1 in the same order."""
    boxes = enumerate(ndimage.find_objects(instances), start=1)
    means = [0.0 if box is None else gland[box][instances[box] == label].mean(dtype=np.float64) for label, box in boxes]
    sure = np.array([False, *(mean >= least_confidence for mean in means)])
    return instances if sure[1:].all() else np.where(sure, np.cumsum(sure), 0).astype(np.int32)[instances]


def measure_glands(instances: np.ndarray, class_map: np.ndarray, probabilities: np.ndarray,
                   id2label: Mapping[int, str], mpp: float | None, place: Place) -> tuple[Gland, ...]:
    """One `Gland` per id of `instances` int32 [H, W], each of one class of `class_map`; `probabilities` float [C, H, W].

    Where the arrays are a part of an image, the figures are those of the whole to the last bit.
    """
    from_top, from_left = place.origin_yx
    first_row, first_column, end_row, end_column = place.bounds
    cut = set() if place.cut_yx is None else set(instances[tuple((place.cut_yx - place.origin_yx).T)].tolist())
    centroids, eccentricities = _shapes(instances)
    glands = []
    for label, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is None:
            continue
        image = instances[box] == label
        class_id = int(class_map[box][0, image[0].argmax()])
        own = probabilities[class_id][box][image]
        area, perimeter, (y, x) = len(own), crofton_perimeter(image), centroids[label]
        top, left, bottom, right = (box[0].start + from_top, box[1].start + from_left,
                                    box[0].stop + from_top, box[1].stop + from_left)
        glands.append(Gland(
            id=place.glands_before + label, class_id=class_id, class_name=id2label[class_id],
            area_px=area, area_um2=None if mpp is None else area * mpp**2,
            perimeter_px=perimeter, perimeter_um=None if mpp is None else perimeter * mpp,
            centroid_x_px=left + float(x) + 0.5, centroid_y_px=top + float(y) + 0.5,
            eccentricity=float(eccentricities[label]),
            mean_confidence=float(own.mean(dtype=np.float64)), low_confidence_share=float((own < LOW_CONFIDENCE).mean()),
            touches_border=bool(label in cut or top <= first_row or left <= first_column or bottom >= end_row
                                or right >= end_column)))
    return tuple(glands)


def crofton_perimeter(region: np.ndarray) -> float:
    """Crofton's estimate over four directions of the perimeter of bool [H, W], in pixels: that of skimage's
    `perimeter_crofton` to the last bit, in a tenth of its time."""
    padded = framed(region).view(np.uint8)
    squares = padded[1:, 1:] + 2 * padded[:-1, 1:] + 4 * padded[1:, :-1] + 8 * padded[:-1, :-1]
    return float(_CROFTON @ np.bincount(squares.ravel(), minlength=16))


def _shapes(instances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centroid (y, x) from the corner of its box and eccentricity of every id, float64 [ids + 1, 2] and [ids + 1].

    Eccentricity √(1 − λ₂/λ₁) of the ellipse with the region's second moments, whose eigenvalues are λ₁ ≥ λ₂; 0 for one
    pixel. What skimage's regionprops gives, summed over the runs of equal ids in the rows instead of pixel by pixel,
    which took as long as a quarter of the network.
    """
    width = instances.shape[1]
    flat = instances.ravel()
    new = np.empty(flat.shape, bool)
    new[1:] = flat[1:] != flat[:-1]
    new[::width] = True
    starts = np.flatnonzero(new)
    lengths = np.diff(starts, append=flat.size)
    ids = flat[starts]
    starts, lengths, ids = starts[ids > 0], lengths[ids > 0], ids[ids > 0]
    areas = np.maximum(np.bincount(ids, lengths), 1)

    def mean(sums: np.ndarray) -> np.ndarray:
        return np.bincount(ids, sums) / areas

    y, x = np.divmod(starts, width)  # of the first pixel of each run
    top, left = np.full(len(areas), instances.size), np.full(len(areas), width)
    np.minimum.at(top, ids, y)
    np.minimum.at(left, ids, x)
    y, middle = y - top[ids], x - left[ids] + (lengths - 1) / 2
    centre_y, centre_x = mean(lengths * y), mean(lengths * middle)
    down, right = y - centre_y[ids], middle - centre_x[ids]
    yy, xy = mean(lengths * down**2), mean(lengths * down * right)
    xx = mean(lengths * right**2 + lengths * (lengths**2 - 1) / 12)  # n pixels in a row have the variance (n² − 1) / 12
    half, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    ratio = (half - spread) / np.where(half + spread > 0, half + spread, np.inf)
    return (np.stack([centre_y, centre_x], axis=1),
            np.where(half + spread > 0, np.sqrt(np.clip(1 - ratio, 0, 1)), 0.0))


def _class_map(probabilities: np.ndarray, gland_threshold: float | None) -> np.ndarray:
    if gland_threshold is None:
        return _likeliest(probabilities)
    likeliest = 1 + _likeliest(probabilities[1:])
    return np.where(1 - probabilities[BACKGROUND] >= gland_threshold, likeliest, np.uint8(BACKGROUND))


def _likeliest(probabilities: np.ndarray) -> np.ndarray:
    """argmax over the first axis as uint8, without its strides through memory: six times as fast."""
    highest, found = probabilities[0], np.zeros(probabilities.shape[1:], np.uint8)
    for class_id in range(1, len(probabilities)):
        found[probabilities[class_id] > highest] = class_id
        highest = np.maximum(highest, probabilities[class_id])
    return found

