"""The metrics of this project as an `evaluate` module: `evaluate.load("<path or repository>")`.

`hf_gland.metrics.standalone` writes a copy that needs no installed `hf_gland`, for a repository on the Hub.
"""

from typing import Any

import datasets
import evaluate
import numpy as np

from hf_gland.metrics.evaluator import SplitEvaluator

DESCRIPTION = """\
Scores gland segmentation the way the field reports it: pooled mIoU and mDice, gland IoU and Dice, mean
per-image Dice, the object-level F1, Dice and Hausdorff distance of the GlaS challenge, all with bootstrap
intervals over images, and the calibration of the confidence (ECE, Brier score). Shares are percentages
(0-100), distances are in pixels.
"""
INPUTS = """
Args:
    predictions: one class map per image, integers [H, W] in 0..num_classes-1 (0 = background).
    references: one class map per image, the same sizes; 255 = unlabelled, left out of every figure.
    instances: optional, one map of gland ids per image, integers [H, W], 0 = none; object metrics need it.
    predicted_instances: optional, the same for the predicted glands; without it they are the 8-connected regions of
        the predictions.
    probabilities: optional, float [C, H, W] per image, summing to 1 over classes; calibration needs it. Their
        most probable classes must be the predictions.
    num_classes: background included; 2 by default.
    min_gland_area_px, max_hole_area_px: such regions below the one are dropped, holes up to the other are filled
        first, for the object metrics only; 0 by default.
    bootstrap: resamples behind the 95 % intervals (over images), 0 for none; seed: their seed.
Returns:
    a dict of figures; one that does not exist is None, and "<key>_missing" says why.
"""
CITATION = """\
@article{sirinukunwattana2017gland,
  title={Gland segmentation in colon histology images: The GlaS challenge contest},
  author={Sirinukunwattana, Korsuk and Pluim, Josien P. W. and Chen, Hao and others},
  journal={Medical Image Analysis}, volume={35}, pages={489--502}, year={2017}
}
"""


class GlandSegmentation(evaluate.Metric):
    """`SplitEvaluator` behind the interface of `evaluate`; INPUTS describes `compute`."""

    def _info(self) -> evaluate.MetricInfo:
        pixels = datasets.Sequence(datasets.Sequence(datasets.Value("uint8")))
        return evaluate.MetricInfo(description=DESCRIPTION, citation=CITATION, inputs_description=INPUTS,
                                   features=datasets.Features({"predictions": pixels, "references": pixels}))

    def _compute(self, predictions: list[Any], references: list[Any], instances: list[Any] | None = None,
                 predicted_instances: list[Any] | None = None, probabilities: list[Any] | None = None,
                 num_classes: int = 2, **options: Any) -> dict[str, Any]:
        evaluator = SplitEvaluator(num_classes, **options)
        for name, maps in (("instances", instances), ("predicted_instances", predicted_instances),
                           ("probabilities", probabilities)):
            if maps is not None and len(maps) != len(references):
                raise ValueError(f"{len(references)} images but {len(maps)} {name}")
        for i, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
            class_map, truth = np.array(prediction, np.uint8), np.array(reference, np.uint8)
            ids, found = (None if maps is None else np.asarray(maps[i]) for maps in (instances, predicted_instances))
            if probabilities is None:
                evaluator.update_class_map(class_map, truth, ids, predicted_instances=found)
                continue
            probs = np.asarray(probabilities[i])
            if not np.array_equal(probs.argmax(0), class_map):
                raise ValueError(f"image {i}: the prediction is not the most probable class of its "
                                 f"probabilities")
            evaluator.update(probs, truth, ids, predicted_instances=found)
        return evaluator.compute()
