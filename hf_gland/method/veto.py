"""The annotator's marks as a check on the teacher: a region that they contradict teaches nothing.

A confident mistake is rarely a single pixel. It is a whole region, such as the empty glass beside the tissue taken for
the lumen of a gland, and no confidence threshold tells it from a right answer. But annotators leave marks in many such
regions: one stroke says stroma, and the teacher's gland around it is refuted, not just the pixels under the stroke.
"""

import numpy as np
from scipy import ndimage

from hf_gland.labels import IGNORE_INDEX

REGION_CONFIDENCE = 0.7  # a region ends where the teacher is less sure, so that a doubtful bridge does not join two
# Fewer labelled px against a region are no evidence: an outline drawn a pixel or two too far leaves a few in the next one.
LEAST_EVIDENCE_PX = 10


def contradicted(probabilities: np.ndarray, sparse: np.ndarray, class_weights: np.ndarray) -> np.ndarray:
    """Where the teacher's answer lies in a region that speaks against the annotator, bool [H, W].

    probabilities: float [C, H, W], the teacher's; sparse: uint8 [H, W], 0..C-1 or IGNORE_INDEX; class_weights: float
    [C], what a labelled pixel of each class counts. A region is a 4-connected set of pixels of one argmax class with
    more than REGION_CONFIDENCE. It is contradicted where the labelled pixels in it that say another class weigh more
    than those that agree, and are at least LEAST_EVIDENCE_PX.
    """
    result = np.zeros(sparse.shape, bool)
    labelled = sparse != IGNORE_INDEX
    said = sparse[labelled]
    if not said.size:
        return result
    weight = class_weights[said]
    confidence, answer = probabilities.max(axis=0), probabilities.argmax(axis=0)
    for c in range(len(probabilities)):
        regions, count = ndimage.label((answer == c) & (confidence > REGION_CONFIDENCE))
        region, against = regions[labelled], said != c
        pixels_against = np.bincount(region[against], minlength=count + 1)
        against_it = np.bincount(region[against], weight[against], count + 1)
        for_it = np.bincount(region[~against], weight[~against], count + 1)
        refuted = (pixels_against >= LEAST_EVIDENCE_PX) & (against_it > for_it)
        refuted[0] = False
        if refuted.any():
            result |= refuted[regions]
    return result
