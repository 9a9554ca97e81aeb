"""Annotations of one image, as they were drawn in QuPath, to the sparse labels of a part of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.data.windows import Window
from hf_gland.export.geojson_masks import Region, class_of, paint, without_unclassified
from hf_gland.export.geojson_read import Annotation, GeoJsonError, Polygons, read_annotations
from hf_gland.export.polygons import stroke_rings
from hf_gland.imaging.opening import displayable
from hf_gland.labels import BACKGROUND, IGNORE_INDEX

MOST_STROKE_POINTS = 1_000_000  # of all lines; each takes some 500 bytes
SKIPPED = -1  # class of what is left out
# Beside the names of the classes. `suggest` calls what nobody has looked at "Suggested: gland".
USUAL_CLASSES = {"background": BACKGROUND, "stroma": BACKGROUND, "ignore*": IGNORE_INDEX, "suggested": SKIPPED,
                 "roi": SKIPPED, "region*": SKIPPED}


LABEL_NOTHING = {"region*"}  # the area that was looked at, whatever is drawn in it; `roi` is one that is labelled wholly


@dataclass(frozen=True)
class Reading:
    """How drawn objects become labels.

    class_ids   the class id of each name (see `class_of`), IGNORE_INDEX: unlabelled, SKIPPED: left out.
    rois        names, of a class or of an object, of regions in which everything is labelled: what is drawn there, and the
                rest as background.
    stroke_px   width of lines and diameter of points, in pixels of the image; 0: they are left out.
    rim_px      of the labels: where nothing was drawn this close around an outlined gland is background; 0: nothing is.
    """

    class_ids: Mapping[str, int]
    rois: Sequence[str] = ()
    stroke_px: float = 0.0
    rim_px: float = 0.0


@dataclass(frozen=True, eq=False)
class Outlines:
    """What was drawn on one image, in its pixels: areas, each with its box (left, top, right, bottom).

    `skipped`: areas of SKIPPED classes, which are no labels; a rim keeps off them. `left_out`: how many objects of each kind
    are not among `regions`.
    """

    name: str
    regions: list[Region]
    boxes: np.ndarray  # float [n, 4]
    skipped: list[Region]
    skipped_boxes: np.ndarray  # float [n, 4]
    left_out: Counter[str] = field(default_factory=Counter)


def read_outlines(path: Path, image_hw: tuple[int, int], reading: Reading) -> Outlines:
    """The annotations of a GeoJSON file on an image of `image_hw`. Raises GeoJsonError."""
    name = displayable(path)
    drawn, left_out = read_annotations(path)
    rois = {roi.casefold() for roi in reading.rois}
    usable = []
    for annotation in drawn:
        if not annotation.polygons and not (annotation.lines and reading.stroke_px):
            left_out[f"{annotation.kind} objects (--stroke-px gives them a width)" if annotation.lines
                     else "objects without a shape"] += 1
        else:
            usable.append(annotation)
    marked = [a for a in usable if rois & {a.label.casefold(), a.name.casefold()} - {""}]
    others = without_unclassified([a for a in usable if a not in marked], left_out)
    regions = [Region(a.number, BACKGROUND, a.polygons, outlined=False, below=True) for a in marked]
    skipped: list[Region] = []
    stroke_points = 0
    for annotation in others:
        stroke_points += 0 if annotation.polygons else sum(map(len, annotation.lines))
        if stroke_points > MOST_STROKE_POINTS:
            raise GeoJsonError(f"{name}: feature {annotation.number}: up to here lines have {stroke_points:,} points; "
                               "nobody drew that")
        class_id = class_of(annotation, reading.class_ids, f"{name}: feature {annotation.number}")
        if class_id == SKIPPED:
            left_out[f"objects of class {annotation.label}"] += 1
            skipped.append(_region(annotation, class_id, reading.stroke_px))
        else:
            regions.append(_region(annotation, class_id, reading.stroke_px))
    boxes = _boxes(regions)
    height, width = image_hw
    inside = (boxes[:, 0] < width) & (boxes[:, 1] < height) & (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
    beyond = inside & ((boxes[:, :2] < -1).any(axis=1) | (boxes[:, 2] > width + 1) | (boxes[:, 3] > height + 1))
    left_out[f"objects outside the image of {width}×{height} px"] += int((~inside).sum())
    left_out["parts of objects that reach beyond the image"] += int(beyond.sum())
    boxes = np.clip(boxes, 0, (width, height, width, height))
    return Outlines(name, [r for r, kept in zip(regions, inside, strict=True) if kept], boxes[inside], skipped,
                    _boxes(skipped), +left_out)


def labelling(drawn: Sequence[Annotation]) -> list[Annotation]:
    """The annotations that say what something is: not the regions that these lie in, unclassified or LABEL_NOTHING."""
    return [annotation for annotation in without_unclassified(list(drawn), Counter())
            if annotation.base_class not in LABEL_NOTHING]


def label_window(outlines: Outlines, own: Sequence[int], window: Window, out_hw: tuple[int, int],
                 reading: Reading) -> tuple[SparseAnnotation, np.ndarray, np.ndarray | None]:
    """The labels of a part of the image, at `out_hw`; ids of the outlined glands, uint16 [H, W]; and the dense truth.

    `own`: which of the outlines count as this window's; others that reach into it are labelled there too. An id is a gland
    that was outlined: all its pixels are labelled, and gland pixels without an id come from strokes. The truth, None
    without a wholly labelled region, is what was outlined and what lies in such regions, uint8 [H, W].
    """
    scale = np.array([window.width / out_hw[1], window.height / out_hw[0]])
    corner = window.box[:2]
    here = _reaching(outlines.boxes, window)
    regions = [_moved(outlines.regions[index], corner, scale) for index in here]
    ids, mask, shown = paint(regions, out_hw, outlines.name)
    truth = None
    if any(region.below for region in regions):
        truth = np.where((ids > 0) | (mask == BACKGROUND), mask, np.uint8(IGNORE_INDEX))
        if np.array_equal(ids, np.where(ids > 0, truth, 0)):
            ids[ids > 0] += 1  # a gland in two pieces whose id is its class would be taken for two (`check_instances`)
    if reading.rim_px and ids.any():
        inner = outlines.boxes[[index for index in here if _is_gland(outlines.regions[index])]]
        beside = [index for index in _reaching(outlines.skipped_boxes, window)  # what a gland lies in is no neighbour of it
                  if not _holds_any(outlines.skipped_boxes[index], inner)]
        kept_off = [region for region in regions if region.class_id == IGNORE_INDEX]
        kept_off += [_moved(outlines.skipped[index], corner, scale) for index in beside]
        drawn = paint([replace(region, class_id=BACKGROUND) for region in kept_off], out_hw, outlines.name)[1] == BACKGROUND
        near = ndimage.distance_transform_edt(ids == 0) <= reading.rim_px
        mask[near & (mask == IGNORE_INDEX) & ~drawn] = BACKGROUND
    mine = [outlines.regions[index] for index in own]
    glands = {region.number for region in mine if _is_gland(region)}
    annotation = SparseAnnotation(mask, len(glands & set(shown.tolist())), None, float((mask != IGNORE_INDEX).mean()),
                                  len(mine))
    return annotation, ids.astype(np.uint16), truth


def _region(annotation: Annotation, class_id: int, stroke_px: float) -> Region:
    if annotation.polygons:
        return Region(annotation.number, class_id, annotation.polygons)
    rings = [ring for line in annotation.lines for ring in stroke_rings(line, stroke_px)]
    return Region(annotation.number, class_id, [rings], outlined=False, stroke=True)


def _is_gland(region: Region) -> bool:
    return region.outlined and region.class_id not in (BACKGROUND, IGNORE_INDEX)


def _boxes(regions: Sequence[Region]) -> np.ndarray:
    return np.array([_box(region.polygons) for region in regions]).reshape(-1, 4)


def _reaching(boxes: np.ndarray, window: Window) -> np.ndarray:
    """Indices of the boxes that reach into the window."""
    left, top, right, bottom = window.box
    return np.flatnonzero((boxes[:, 0] < right) & (boxes[:, 1] < bottom) & (boxes[:, 2] > left) & (boxes[:, 3] > top))


def _holds_any(box: np.ndarray, others: np.ndarray) -> bool:
    """Whether one of the other boxes lies in this box."""
    return bool(((others[:, :2] >= box[:2]) & (others[:, 2:] <= box[2:])).all(axis=1).any())


def _box(polygons: Polygons) -> tuple[float, float, float, float]:
    points = np.concatenate([ring for rings in polygons for ring in rings])
    return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())


def _moved(region: Region, corner: tuple[int, int], scale: np.ndarray) -> Region:
    polygons = [[(ring - corner) / scale for ring in rings] for rings in region.polygons]
    return replace(region, polygons=polygons)
