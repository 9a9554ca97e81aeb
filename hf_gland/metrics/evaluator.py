"""One pass over a split, all its metrics: feed images with `update`, read the figures with `compute`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_gland.instances import check_instances, fill_holes, gland_instances
from hf_gland.labels import IGNORE_INDEX, check_mask, check_reference
from hf_gland.metrics.calibration import CalibrationCounts
from hf_gland.metrics.keys import CLEANED
from hf_gland.metrics.objects import ObjectMatches, match_objects, object_intervals, object_metrics
from hf_gland.metrics.pixel import confusion_matrix, image_dice, pixel_intervals, pixel_metrics

if TYPE_CHECKING:  # the metrics also run where torch is not installed
    import torch

    Array = np.ndarray | torch.Tensor

SUM_TOLERANCE = 0.02  # half precision does not sum to 1 exactly
NO_GLAND = "no gland pixel in the truth or in the prediction"


class SplitEvaluator:
    """Accumulates the metrics of one split, image by image; memory grows by a few numbers per image.

    `num_classes`: C, background included. `bootstrap`: resamples behind the 95 % intervals (0: no intervals),
    drawn with `seed`. `pixel_only`: leave out objects and calibration, for validation during training.
    `regions_as_glands`: where no ids of the true glands are given, these are the connected regions of each class of the
    truth, and `images_without_gland_ids` counts such images; otherwise there are no object metrics then.
    Predicted glands, for the object metrics only, are those given; where none are, the 8-connected regions of the
    predicted class map after holes of up to `max_hole_area_px` are filled and regions under `min_gland_area_px` are
    dropped. Pixel and calibration metrics are those of the prediction itself.
    """

    def __init__(self, num_classes: int, *, min_gland_area_px: int = 0, max_hole_area_px: int = 0,
                 bootstrap: int = 1000, seed: int = 0, pixel_only: bool = False, regions_as_glands: bool = False) -> None:
        self.num_classes = num_classes
        self.min_gland_area_px = min_gland_area_px
        self.max_hole_area_px = max_hole_area_px
        self.bootstrap = bootstrap
        self.seed = seed
        self.pixel_only = pixel_only
        self.regions_as_glands = regions_as_glands
        self._without_ids = 0
        self._image_ids: list[str] = []
        self._confusions: list[np.ndarray] = []
        self._cleaned: list[np.ndarray] = []
        self._reference_px = np.zeros(256, np.int64)  # by value of the reference masks
        self._matches: list[ObjectMatches | None] = []
        self._calibration = CalibrationCounts()
        self._without_probabilities: list[str] = []

    def update(self, probabilities: Array, truth: Array, instances: Array | None = None,
               image_id: str | None = None, predicted_instances: Array | None = None,
               cleaned: Array | None = None) -> None:
        """Add one image by its class probabilities; the predicted class is the most probable one.

        `probabilities`: float [C, H, W], 0..1 and summing to 1 over C (array or tensor, any device); `truth`:
        uint8 [H, W], 255 where unlabelled; `instances`: ids of the true glands, integers [H, W], 0 = none;
        `predicted_instances`: of the predicted ones; `cleaned`: classes after clean-up, integers [H, W], for the
        CLEANED figures alone. Raises ValueError naming the image if they do not fit.
        """
        name = self._new_name(image_id)
        probs, mask = _numpy(probabilities), _numpy(truth)
        check_mask(mask, self.num_classes, name)
        if probs.shape != (self.num_classes, *mask.shape):
            raise ValueError(f"{name}: probabilities must be {[self.num_classes, *mask.shape]} to match the "
                             f"truth, got {list(probs.shape)}")
        if not (probs.min() >= 0 and abs(probs.sum(0, dtype=np.float32) - 1).max() <= SUM_TOLERANCE):
            raise ValueError(f"{name}: probabilities must be finite, at least 0 and sum to 1 over classes; "
                             f"pass softmax output, not logits")
        self._add(probs.argmax(0).astype(np.uint8), mask, instances, predicted_instances, name, cleaned)
        if not self.pixel_only:
            self._calibration.update(probs, mask)

    def update_class_map(self, class_map: Array, truth: Array, instances: Array | None = None,
                         image_id: str | None = None, predicted_instances: Array | None = None) -> None:
        """Add one image by its predicted classes, integers [H, W] in 0..C-1: without calibration metrics."""
        name = self._new_name(image_id)
        prediction, mask = _numpy(class_map), _numpy(truth)
        check_mask(mask, self.num_classes, name)
        self._add(prediction, mask, instances, predicted_instances, name)
        self._without_probabilities.append(name)

    def compute(self) -> dict[str, Any]:
        """All metrics of the images seen so far, as JSON-ready numbers, lists and dicts.

        Keys: those of `pixel_metrics`, `image_dice`, `object_metrics`, `CalibrationCounts.metrics`,
        `<key>_ci95` intervals over images, and `images`; CLEANED where every image came with its
        cleaned classes. A figure that does not exist is None, and `<key>_missing` says why. Raises ValueError if there
        was no image, and MaskError if the references of a whole split mark nothing but background and unlabelled
        pixels (sparse labels, with `pixel_only`, may).
        """
        if not self._image_ids:
            raise ValueError("no image to evaluate: call update first")
        if not self.pixel_only:
            check_reference(self._reference_px)
        confusions = np.stack(self._confusions)
        metrics: dict[str, Any] = {"images": len(confusions), **pixel_metrics(confusions.sum(0)),
                                   "image_dice": image_dice(confusions)}
        intervals = pixel_intervals(confusions, self.bootstrap, self.seed) if self.bootstrap else {}
        if len(self._cleaned) == len(confusions):
            after = pixel_metrics(np.sum(self._cleaned, axis=0))
            metrics |= {key: after[key.removeprefix("cleaned_")] for key in CLEANED}
        reasons = self._pixel_reasons(metrics)
        if not self.pixel_only:
            matches = [m for m in self._matches if m is not None]
            lacking = [i for i, m in zip(self._image_ids, self._matches, strict=True) if m is None]
            metrics |= dict.fromkeys(object_metrics([])) if lacking else object_metrics(matches)
            reason = _lacking("gland ids", lacking, len(confusions))
            reasons |= dict.fromkeys(object_metrics([]), reason or NO_GLAND)
            reasons |= {"object_precision": reason or "no gland was predicted",
                        "object_recall": reason or "the truth holds no gland"}
            if self.bootstrap:
                intervals |= (dict.fromkeys(object_intervals([])) if lacking
                              else object_intervals(matches, self.bootstrap, self.seed))
            lacking = self._without_probabilities
            calibration = self._calibration.metrics()
            metrics |= dict.fromkeys(calibration) if lacking else calibration
            reason = _lacking("class probabilities", lacking, len(confusions))
            reasons |= dict.fromkeys(calibration, reason or "no labelled pixel")
            if calibration["ece"] is not None:
                reasons["errors_in_least_confident_10"] = reason or "no pixel is wrong"
        for key, interval in intervals.items():
            metrics[f"{key}_ci95"] = interval
            reasons[f"{key}_ci95"] = "fewer than two images" if metrics[key] is not None else reasons[key]
        if self._without_ids:
            metrics["images_without_gland_ids"] = self._without_ids
        missing = {f"{key}_missing": reasons[key] for key, value in metrics.items() if _incomplete(value)}
        return metrics | missing

    def per_image(self) -> list[dict[str, Any]]:
        """One row per image, in the order seen: image_id, labelled_pixels and the metrics of it alone.

        Per-class scores, intervals and calibration are left out; None where a figure does not exist.
        """
        rows = []
        for image_id, confusion, match in zip(self._image_ids, self._confusions, self._matches, strict=True):
            scores = pixel_metrics(confusion)
            row = {"image_id": image_id, "labelled_pixels": int(confusion.sum()),
                   **{key: value for key, value in scores.items() if not isinstance(value, list)}}
            if not self.pixel_only:
                row |= dict.fromkeys(object_metrics([])) if match is None else object_metrics([match])
            rows.append(row)
        return rows

    def _new_name(self, image_id: str | None) -> str:
        name = image_id or f"image {len(self._image_ids)}"
        if name in self._image_ids:
            raise ValueError(f"{name} was already evaluated; an image counts once")
        return name

    def _add(self, prediction: np.ndarray, mask: np.ndarray, instances: Array | None,
             predicted_instances: Array | None, name: str, cleaned: Array | None = None) -> None:
        try:
            confusion = confusion_matrix(prediction, mask, self.num_classes)
            after = [] if cleaned is None else [confusion_matrix(_numpy(cleaned), mask, self.num_classes)]
            match = None
            without_ids = instances is None and self.regions_as_glands
            if not self.pixel_only and (without_ids or instances is not None):
                labelled = mask != IGNORE_INDEX
                if instances is None:
                    ids = gland_instances(mask)
                else:
                    ids = _numpy(instances)
                    check_instances(ids, mask, "the truth")
                if predicted_instances is None:
                    seen = fill_holes(np.where(labelled, prediction, IGNORE_INDEX), self.max_hole_area_px)
                    found = gland_instances(seen, self.min_gland_area_px)
                else:
                    given = _numpy(predicted_instances)
                    if given.shape != mask.shape:
                        raise ValueError(f"the map of predicted gland ids is {given.shape} but the truth is {mask.shape}")
                    found = np.where(labelled, given, 0)
                match = match_objects(found, np.where(labelled, ids, 0))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        self._image_ids.append(name)
        self._confusions.append(confusion)
        self._cleaned += after
        self._reference_px += np.bincount(mask.ravel(), minlength=256)
        self._without_ids += without_ids
        self._matches.append(match)

    def _pixel_reasons(self, metrics: dict[str, Any]) -> dict[str, str]:
        if metrics["mIoU"] is None:
            return dict.fromkeys(metrics, "no labelled pixel")
        absent = [str(c) for c, value in enumerate(metrics["class_iou"]) if value is None]
        reasons = dict.fromkeys(("class_iou", "class_dice"), f"in neither truth nor prediction: class "
                                                             f"{', '.join(absent)}")
        return reasons | dict.fromkeys(("gland_iou", "gland_dice", "image_dice"), NO_GLAND)


def _lacking(what: str, image_ids: list[str], total: int) -> str:
    if not image_ids:
        return ""
    return f"{what} were not given for {len(image_ids)} of {total} images, {image_ids[0]} the first of them"


def _incomplete(value: Any) -> bool:
    return value is None or (isinstance(value, list) and None in value)


def _numpy(values: Array) -> np.ndarray:
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "detach"):  # a tensor; NumPy knows no bfloat16
        values = values.detach().cpu()
        return (values.float() if values.is_floating_point() else values).numpy()
    return np.asarray(values)
