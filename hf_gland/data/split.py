"""Hold patients out, once or in folds: a patient's images are alike, so a split by image would measure memory, not skill."""

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import numpy as np

from hf_gland.data.source import Item
from hf_gland.errors import DatasetError

T = TypeVar("T")
TRIALS = 2000
# What else the splits are called, as `datasets` takes the names of folders.
ALIASES = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}
LEAST_PATIENTS = 5  # of fewer, none is held out unless the user asks: too much would be missing from training


def hold_out(splits: Mapping[str, Sequence[Item]], share: float | None, usual: float,
             before: Collection[str] | None = None) -> tuple[dict[str, Sequence[Item]], str]:
    """Move whole patients from `train` to a new split `validation`; returns the splits and a sentence about it, or "".

    `share`: of the train images, 0 for none; None: `usual`, if there is a train split alone, and the patients of all its
    images are known and at least `LEAST_PATIENTS`. `before`: the patients to hold out, instead of a share. Raises
    DatasetError where a share or patients are asked for and cannot be had.
    """
    alone = "train" in splits and "validation" not in splits
    wanted = usual if share is None else share
    if before is None and (not wanted or (share is None and not alone)):
        return dict(splits), ""
    if not alone:
        option = "--val-fraction" if before is None else "--held-out-as"
        raise DatasetError(f"{option} needs a train split and no validation split of its own; the splits are "
                           f"{', '.join(splits)}")
    train = splits["train"]
    remedy = "give patient_id in metadata.csv, or --patient-pattern"
    if unknown := [item.image_id for item in train if not item.patient_id]:
        problem = f"{unknown[0]}: its patient is unknown, so validation cannot be held out by patient; {remedy}"
    elif (count := count_of(train)) < LEAST_PATIENTS:
        problem = f"train has {count} patients, too few to hold one out for validation unless --val-fraction asks for it"
    else:
        problem = ""
    if problem and share is None and before is None:
        return dict(splits), f"no validation split: {problem}"
    if unknown:
        raise DatasetError(problem)
    held = (split_by_patient([item.patient_id for item in train], wanted, [item.grade for item in train]) if before is None
            else frozenset(before) & {item.patient_id for item in train})
    if not held or len(held) == count_of(train):
        raise DatasetError(f"--held-out-as: {len(held)} of the {count_of(train)} patients are held out there; some must be, "
                           "and some must not")
    parts = {"train": [item for item in train if item.patient_id not in held],
             "validation": [item for item in train if item.patient_id in held]}
    return ({**parts, **{split: items for split, items in splits.items() if split != "train"}},
            f"{len(held)} of {count_of(train)} patients ({len(parts['validation'])} of "
            f"{len(train)} train images) are held out as 'validation'; --val-fraction 0 keeps them in train")


def with_usual_names(splits: Mapping[str, Sequence[T]]) -> dict[str, list[T]]:
    """The splits under the names that the rest asks for, `val` as `validation` and so on, which a warning says."""
    found: dict[str, list[T]] = {}
    for split, items in splits.items():
        name = ALIASES.get(split.casefold(), split)
        if name != split:
            warnings.warn(f"the split '{split}' is called '{name}' here", stacklevel=2)
        found.setdefault(name, []).extend(items)
    return found


def count_of(items: Sequence[Item]) -> int:
    """How many patients the images are of."""
    return len({item.patient_id for item in items})


def fold_out(splits: Mapping[str, Sequence[Item]], fold: int, folds: int) -> dict[str, Sequence[Item]]:
    """`train` without the patients of this fold (1 to `folds`), and their images as the split `fold_split(fold, folds)`.

    Other splits are left out, as they may share patients with either. Every patient is in one fold, whichever is asked for.
    Raises DatasetError where there is no train split, a patient is unknown or there are fewer patients than folds.
    """
    if folds < 2 or not 1 <= fold <= folds:
        raise DatasetError(f"fold {fold} of {folds}: there must be at least 2 folds, and --fold is one from 1 to --folds")
    train = splits.get("train", ())
    if not train:
        raise DatasetError(f"--fold divides a train split; the splits are {', '.join(splits)}")
    if unknown := [item.image_id for item in train if not item.patient_id]:
        raise DatasetError(f"{unknown[0]}: its patient is unknown, so there are no folds by patient; give patient_id in "
                           "metadata.csv, or --patient-pattern")
    held = patient_folds([item.patient_id for item in train], folds, [item.grade for item in train])[fold - 1]
    return {"train": [item for item in train if item.patient_id not in held],
            fold_split(fold, folds): [item for item in train if item.patient_id in held]}


def fold_split(fold: int, folds: int) -> str:
    """The name of the test split of a fold, which result records keep."""
    return f"test_fold{fold}of{folds}"


def patient_folds(patient_ids: Sequence[str], folds: int, grades: Sequence[str]) -> list[frozenset[str]]:
    """Divide the patients into `folds` of equally many (or one fewer), alike in images and in their mix of grades.

    `patient_ids` and `grades`: one per image. The best of `TRIALS` seeded draws; it depends on the images as a set, not on
    their order. Raises DatasetError when there are fewer patients than folds.
    """
    patients, table = _images_of(patient_ids, grades)
    if len(patients) < folds:
        raise DatasetError(f"{len(patients)} patients cannot be divided into {folds} folds; ask for fewer")
    mix, even = table.sum(0) / table.sum(), table.sum() / folds
    rng = np.random.default_rng(0)
    best: list[np.ndarray] = []
    best_cost = math.inf
    for _ in range(TRIALS):
        parts = np.array_split(rng.permutation(len(patients)), folds)
        counts = np.array([table[part].sum(0) for part in parts])
        sizes = counts.sum(1)
        cost = np.abs(sizes / even - 1).sum() + np.abs(counts / sizes[:, None] - mix).sum() + (counts == 0).sum()
        if cost < best_cost - 1e-12:
            best, best_cost = parts, cost
    return [frozenset(patients[i] for i in part) for part in best]


def _images_of(patient_ids: Sequence[str], grades: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The patients, sorted, and [patients, grades] how many images each has of each grade."""
    patients, kinds = sorted(set(patient_ids)), sorted(set(grades))
    table = np.zeros((len(patients), len(kinds)))
    for patient, grade in zip(patient_ids, grades, strict=True):
        table[patients.index(patient), kinds.index(grade)] += 1
    return patients, table


def split_by_patient(patient_ids: Sequence[str], share: float, grades: Sequence[str], seed: int = 0) -> frozenset[str]:
    """Choose the patients whose images, about a `share` in (0, 1) of all, are held out of training.

    `patient_ids` and `grades`: one per image; the held-out images resemble all images in their mix of grades. Of `TRIALS`
    seeded draws the one is taken that is nearest to the wanted share of images and of patients and to the mix of grades,
    so that one large patient is not chosen for its size alone. The answer depends on the images as a set, not on their
    order. At least one patient stays on either side.

    Raises DatasetError when there are fewer than two patients.
    """
    patients, table = _images_of(patient_ids, grades)
    if len(patients) < 2:
        raise DatasetError(f"cannot hold patients out: there is only {len(patients)} patient "
                           f"({', '.join(patients) or 'none'}); give patient ids, or hold nothing out")
    if not 0 < share < 1:
        raise DatasetError(f"the held-out share must lie between 0 and 1, got {share}")
    wanted = min(max(1, round(share * len(patients))), len(patients) - 1)
    mix = table.sum(0) / table.sum()

    rng = np.random.default_rng(seed)
    counts = range(max(1, wanted - 1), min(wanted + 1, len(patients) - 1) + 1)
    best, best_cost = frozenset[str](), math.inf
    for _ in range(TRIALS):
        chosen = rng.permutation(len(patients))[: rng.choice(list(counts))]
        held = table[chosen].sum(0)
        cost = (abs(held.sum() / table.sum() / share - 1) + abs(len(chosen) / wanted - 1)
                + np.abs(held / held.sum() - mix).sum() + (held[mix > 0] == 0).any())
        if cost < best_cost - 1e-12:
            best, best_cost = frozenset(patients[i] for i in chosen), cost
    return best
