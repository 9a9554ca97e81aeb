"""Two small images with a prediction, and the figures that `SplitEvaluator` gives for them."""

import numpy as np

from hf_gland.instances import gland_instances
from hf_gland.metrics.evaluator import SplitEvaluator


def two_images():
    """Two images of different sizes: (probabilities, prediction, truth, instances)."""
    rng = np.random.default_rng(0)
    made = []
    for size in ((12, 17), (20, 9)):
        truth = np.zeros(size, np.uint8)
        truth[2:8, 2:7] = 1
        probs = np.clip(np.stack([1 - truth, truth]) * 0.6 + rng.uniform(0, 0.4, (2, *size)), 0, 1)
        probs = (probs / probs.sum(0)).astype(np.float32)
        instances = gland_instances(truth)
        truth[-1] = 255
        made.append((probs, probs.argmax(0).astype(np.uint8), truth, instances))
    return made


def expected(images, **options):
    evaluator = SplitEvaluator(2, **options)
    for probs, _, truth, instances in images:
        evaluator.update(probs, truth, instances)
    return evaluator.compute()
