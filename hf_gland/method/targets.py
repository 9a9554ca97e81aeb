"""What the student learns from: the annotator's labels where there are some, the teacher where it is sure, nothing else.

    M(x) = sparse(x)         where sparse(x) ≠ 255      (what was labelled always wins)
         = argmax p_T(x)     where max p_T(x) > τ       (the confidence filter)
         = 255               elsewhere                  (no loss, no gradient)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hf_gland.labels import BACKGROUND, IGNORE_INDEX


@dataclass(frozen=True)
class Targets:
    """What the student is asked to say, integer [B, H, W] each, IGNORE_INDEX where nothing is asked."""

    labelled: Tensor  # by the annotator
    pseudo: Tensor  # by the teacher, wherever it is sure
    fused: Tensor  # labelled where there is some, else pseudo
    annotated: Tensor | None = None  # bool [B]: images that an annotator saw (None: all)
    teacher: Tensor | None = None  # the teacher's probabilities, float [B, C, H, W]
    border: "Targets | None" = None  # of glands: 1 border, 0 core, asked of gland pixels alone


def make_targets(sparse: Tensor, teacher: Tensor | None, thresholds: Sequence[float], *, fusion: bool = True,
                 annotated: Tensor | None = None, border: Tensor | None = None) -> Targets:
    """The targets of a batch from its sparse labels (uint8 [B, H, W]) and what the teacher says (float [B, C, H, W]; None:
    it has no say yet). `thresholds`: τ per class. Without `fusion` the teacher alone decides.

    `border`: uint8 [B, H, W], what the labels tell of the border of glands (see data.gland_borders; None: it is not
    learned); the teacher then gives P(border | gland) after its C classes. It counts where the teacher is sure of a gland,
    and as sure of border or core as it has to be of that gland.
    """
    labelled = sparse.long()
    nothing = torch.full_like(labelled, IGNORE_INDEX)
    drawn = None if border is None else border.long()
    if teacher is None:
        return Targets(labelled, nothing, labelled, annotated,
                       border=None if drawn is None else Targets(drawn, nothing, drawn))
    limits, classes = torch.tensor(thresholds, device=teacher.device), teacher[:, :len(thresholds)]
    pseudo = confident_labels(classes, limits)
    taught = None
    if not fusion:
        labelled = nothing
    if drawn is not None:
        rim = teacher[:, len(thresholds)]
        gland = (pseudo != IGNORE_INDEX) & (pseudo != BACKGROUND)
        sure = gland & (torch.maximum(rim, 1 - rim) > limits.to(rim)[pseudo.masked_fill(~gland, BACKGROUND)])
        drawn = drawn if fusion else nothing
        said = torch.where(sure, (rim > 0.5).long(), IGNORE_INDEX)
        taught = Targets(drawn, said, fuse(drawn, said))
    return Targets(labelled, pseudo, fuse(labelled, pseudo), annotated, classes, taught)


def confident_labels(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """The teacher's labels where it is sure.

    probabilities: float [B, C, H, W]; thresholds: float [C], one per class.
    Returns int64 [B, H, W]: argmax where max > threshold of that class, IGNORE_INDEX elsewhere.
    """
    confidence, label = probabilities.max(dim=1)
    return torch.where(confidence > thresholds.to(confidence)[label], label, IGNORE_INDEX)


def fuse(labelled: Tensor, pseudo: Tensor) -> Tensor:
    """`labelled` where it is not IGNORE_INDEX, else `pseudo`. Both integer [B, H, W]; returns int64."""
    return torch.where(labelled != IGNORE_INDEX, labelled.long(), pseudo.long())
