"""Hold patients out: a patient's images are alike, so a split by image would measure memory, not skill."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from hf_gland.errors import DatasetError

TRIALS = 2000


def split_by_patient(patient_ids: Sequence[str], held_out: float | int, *, grades: Sequence[str] | None = None,
                     seed: int = 0) -> frozenset[str]:
    """Choose the patients whose images are held out of training.

    `patient_ids`: one per image. `held_out`: a float in (0, 1) is the wanted share of the images, an int >= 1
    the wanted number of patients. `grades`: one per image; the held-out images then resemble all images in
    their mix of grades. Of `TRIALS` seeded draws the one is taken that is nearest to the wanted share of images
    and of patients and to the mix of grades, so that one large patient is not chosen for its size alone.
    The answer depends on the images as a set, not on their order. At least one patient stays on either side.

    Raises DatasetError when there are fewer than two patients, or too few for `held_out`.
    """
    images = Counter(patient_ids)
    patients = sorted(images)
    if len(patients) < 2:
        raise DatasetError(f"cannot hold patients out: there is only {len(patients)} patient "
                           f"({', '.join(patients) or 'none'}); give patient ids, or hold nothing out")
    by_share = isinstance(held_out, float)
    if by_share and not 0 < held_out < 1:
        raise DatasetError(f"the held-out share must lie between 0 and 1, got {held_out}")
    if not by_share and not 1 <= held_out < len(patients):
        raise DatasetError(f"cannot hold out {held_out} of {len(patients)} patients; at least one must remain")
    wanted = max(1, round(held_out * len(patients))) if by_share else int(held_out)
    wanted = min(wanted, len(patients) - 1)
    share = held_out if by_share else wanted / len(patients)

    kinds = sorted(set(grades)) if grades is not None else [""]
    table = np.zeros((len(patients), len(kinds)))  # images of each patient and grade
    for index, patient in enumerate(patient_ids):
        table[patients.index(patient), kinds.index(grades[index]) if grades is not None else 0] += 1
    mix = table.sum(0) / table.sum()

    rng = np.random.default_rng(seed)
    counts = range(max(1, wanted - 1), min(wanted + 1, len(patients) - 1) + 1) if by_share else [wanted]
    best, best_cost = frozenset[str](), math.inf
    for _ in range(TRIALS):
        chosen = rng.permutation(len(patients))[: rng.choice(list(counts))]
        held = table[chosen].sum(0)
        cost = (abs(held.sum() / table.sum() / share - 1) + abs(len(chosen) / wanted - 1)
                + np.abs(held / held.sum() - mix).sum() + (held[mix > 0] == 0).any())
        if cost < best_cost - 1e-12:
            best, best_cost = frozenset(patients[i] for i in chosen), cost
    return best
