"""What to outline next: regions of a prediction, at random or by how much an annotator is expected to change in them.

A region is a predicted gland or a patch of predicted stroma; its score is the model's uncertainty averaged over it, and not
over its rim: the thin uncertain seam along every outline says nothing. Single uncertain regions are a poor guide while the
model is poor, so two thirds of the choice are spread over the predicted classes (and grades), and noise is added that
decays from round to round, as in ClaSP PE (arXiv 2601.13677).
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from hf_gland.export.geojson_read import Annotation
from hf_gland.export.polygons import region_polygons
from hf_gland.labels import BACKGROUND, class_colour
from hf_gland.options import PostProcessing

EVERY_GLAND = PostProcessing(min_gland_confidence=0)  # to predict with: an outline tells most where the model is unsure
LEAST_SCORE = 0.05  # for a place to be suggested: below, the model is sure
SPREAD_SHARE = 2 / 3  # of the choice that is spread over the classes
SEAM_PX = 5  # side of the square in which a pixel's region must not change for it to count
OUTLINED_SHARE = 0.25  # of a region: then it needs no further outline
SUGGESTED = "Suggested"  # class in QuPath that these are derived from, as long as nobody has looked at them
NAMESPACE = uuid.UUID("0c0f9ff2-8a3b-5b35-9a41-8a4f8e5a9d11")


@dataclass(frozen=True, eq=False, slots=True)
class Place:
    """A region worth outlining: where its box begins, in pixels of the prediction, its size, and how many pixels of it, and
    which, are the region's, in bits, as those of all slides are kept until the choice.

    `score`: mean uncertainty, 0-1; `class_id`: predicted; `image`, `grade`: where it lies, "" if that is unknown.
    """

    image: str
    class_id: int
    score: float
    left: int
    top: int
    hw: tuple[int, int]
    area_px: int
    packed: np.ndarray
    grade: str = ""

    @property
    def region(self) -> np.ndarray:
        """Its pixels, bool [h, w] of its box."""
        return np.unpackbits(self.packed, count=self.hw[0] * self.hw[1]).reshape(self.hw).view(bool)

    @property
    def centre_px(self) -> tuple[float, float]:
        """(x, y) of the middle of its box."""
        height, width = self.hw
        return self.left + width / 2, self.top + height / 2

    @property
    def radius_px(self) -> float:
        """Of a disc of its area."""
        return float(np.sqrt(self.area_px / np.pi))


def uncertainty(confidence: np.ndarray, num_classes: int) -> np.ndarray:
    """float32 [H, W] in 0-1: 0 where the model is certain, 1 where it might as well guess among the classes."""
    lowest = 1 / num_classes
    return np.clip((1 - confidence) / (1 - lowest), 0, 1).astype(np.float32)


def gland_radius_px(instances: np.ndarray) -> float:
    """Radius of a disc of the median gland's area; a twelfth of the shorter side where there is no gland."""
    areas = np.bincount(instances.ravel())[1:]
    areas = areas[areas > 0]
    if not len(areas):
        return max(min(instances.shape) / 12, 8.0)
    return float(np.clip(np.sqrt(np.median(areas) / np.pi), 8, min(instances.shape) / 4))


def places_of(uncertain: np.ndarray, class_map: np.ndarray, instances: np.ndarray, outlined: np.ndarray | None = None, *,
              image: str = "", grade: str = "") -> list[Place]:
    """The regions of one prediction: its glands, and squares of stroma the size of the median gland.

    uncertain float [H, W] (see `uncertainty`); class_map uint8 [H, W]; instances int [H, W], 0 = none; outlined bool [H, W]:
    what is labelled already. Regions that are labelled to OUTLINED_SHARE, and squares that are not mostly stroma, are none.
    """
    taken = np.zeros(class_map.shape, bool) if outlined is None else outlined
    height, width = class_map.shape
    side = max(round(2 * gland_radius_px(instances)), SEAM_PX)
    columns = -(-width // side)
    squares = (np.arange(height) // side)[:, None] * columns + np.arange(width) // side
    regions = np.where(instances > 0, instances, int(instances.max(initial=0)) + 1 + squares)
    areas = np.bincount(regions.ravel())
    inner = ndimage.minimum_filter(regions, SEAM_PX) == ndimage.maximum_filter(regions, SEAM_PX)
    inner &= ~taken
    counts = np.bincount(regions[inner], minlength=len(areas))
    means = np.bincount(regions[inner], uncertain[inner], len(areas)) / np.maximum(counts, 1)
    covered = np.bincount(regions[taken], minlength=len(areas))
    places = []
    for number, box in enumerate(ndimage.find_objects(regions), start=1):
        if box is None or not counts[number] or covered[number] > OUTLINED_SHARE * areas[number]:
            continue
        region = regions[box] == number
        gland = number <= instances.max()
        if not gland and areas[number] * 2 < side * side:
            continue
        class_id = int(class_map[box][region][0]) if gland else BACKGROUND
        places.append(Place(image, class_id, float(means[number]), box[1].start, box[0].start, region.shape,
                            int(areas[number]), np.packbits(region), grade))
    return places


def choose(places: Sequence[Place], count: int, *, noise: float = 0.0, seed: int = 0, least: float = 0.0) -> list[Place]:
    """The `count` places to outline next, in the order of their scores; no two of one image touch.

    `noise`: spread of the Gumbel noise that is added to the logarithm of the scores (0: none), drawn from `seed`; `least`:
    scores below are not chosen. SPREAD_SHARE of the choice goes round the predicted classes and grades in turn.
    """
    rng = np.random.default_rng(seed)
    keys = np.log([max(place.score, 1e-6) for place in places]) + noise * rng.gumbel(size=len(places))
    order = [int(index) for index in np.argsort(-keys, kind="stable") if places[index].score >= least]
    waiting: dict[tuple[int, str], list[int]] = {}
    for index in order:
        waiting.setdefault((places[index].class_id, places[index].grade), []).append(index)
    chosen: list[int] = []

    def take(queue: list[int]) -> bool:
        while queue:
            index = queue.pop(0)
            if index not in chosen and not any(_touch(places[index], places[other]) for other in chosen):
                chosen.append(index)
                return True
        return False

    spread = int(np.ceil(SPREAD_SHARE * count))
    while len(chosen) < spread and any(waiting.values()):
        for queue in waiting.values():  # in the order of their best places
            if len(chosen) < spread:
                take(queue)
    while len(chosen) < count and take(order):
        pass
    return sorted((places[index] for index in chosen), key=lambda place: -place.score)


def choose_at_random(places: Sequence[Place], count: int, *, seed: int = 0) -> list[Place]:
    """`count` of the places at random, in the order to outline them: predicted glands, then patches of stroma."""
    shuffled = [places[index] for index in np.random.default_rng(seed).permutation(len(places))]
    return sorted(shuffled, key=lambda place: place.class_id == BACKGROUND)[:count]


def _touch(first: Place, second: Place) -> bool:
    if first.image != second.image:
        return False
    distance = np.hypot(*np.subtract(first.centre_px, second.centre_px))
    return bool(distance < first.radius_px + second.radius_px)


def noise_of_round(number: int) -> float:
    """The noise of round 1, 2, …: halved each time. At 1 a place would be drawn in proportion to its score."""
    return 0.5**number


def is_suggestion(annotation: Annotation) -> bool:
    """Whether it is a `suggestion` whose class nobody has changed."""
    return annotation.base_class == SUGGESTED.casefold()


def suggestion(place: Place, rank: int, class_name: str, scale_xy: tuple[float, float] = (1.0, 1.0)) -> dict[str, Any]:
    """A place as an annotation for QuPath, in pixels of the file (`scale_xy` per pixel of the prediction)."""
    corner = np.array([place.left, place.top])
    polygons = [[np.round((ring + corner) * scale_xy, 2).tolist() for ring in rings]
                for rings in region_polygons(place.region)]
    geometry = ({"type": "Polygon", "coordinates": polygons[0]} if len(polygons) == 1
                else {"type": "MultiPolygon", "coordinates": polygons})
    identity = f"{place.image} {rank} {polygons[0][0][0]}"
    return {
        "type": "Feature", "id": str(uuid.uuid5(NAMESPACE, identity)), "geometry": geometry,
        "properties": {
            "objectType": "annotation", "name": f"{rank}: {class_name}",
            "classification": {"name": f"{SUGGESTED}: {class_name}", "color": list(class_colour(place.class_id))},
            "isLocked": False, "measurements": {"Rank": rank, "Expected change": round(place.score, 4)}}}
