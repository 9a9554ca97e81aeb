import re

import numpy as np
import pytest

from hf_gland.data.source import Item
from hf_gland.data.split import fold_out, hold_out, patient_folds, split_by_patient
from hf_gland.errors import DatasetError

# The patients and grades of the 85 GlaS training images: (patient, benign images, malignant images).
GLAS_TRAIN = [(1, 4, 8), (2, 0, 16), (3, 4, 4), (4, 4, 0), (5, 4, 0), (6, 0, 4), (7, 0, 4), (8, 0, 1), (9, 8, 0),
              (10, 11, 4), (11, 0, 4), (13, 1, 0), (14, 0, 1), (15, 1, 0), (16, 0, 2)]


def glas_like() -> tuple[list[str], list[str]]:
    rows = [(f"glas-{p}", grade) for p, *counts in GLAS_TRAIN
            for grade, n in zip(("benign", "malignant"), counts, strict=True) for _ in range(n)]
    return [p for p, _ in rows], [g for _, g in rows]


@pytest.mark.parametrize("seed", range(5))
def test_glas_validation_is_about_a_sixth_with_both_grades_and_several_patients(seed: int) -> None:
    patients, grades = glas_like()
    held = split_by_patient(patients, 0.175, grades, seed=seed)
    kept_grades = [g for p, g in zip(patients, grades, strict=True) if p in held]
    assert 0.15 <= len(kept_grades) / len(patients) <= 0.20
    assert 2 <= len(held) <= 4
    assert 0.3 <= kept_grades.count("benign") / len(kept_grades) <= 0.6


def test_the_split_depends_on_the_images_not_on_their_order() -> None:
    patients, grades = glas_like()
    order = np.random.default_rng(0).permutation(len(patients))
    assert split_by_patient(patients, 0.2, grades) == split_by_patient(
        [patients[i] for i in order], 0.2, [grades[i] for i in order])


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_someone_stays_on_either_side(share: float) -> None:
    held = split_by_patient(["a", "a", "a", "b"], share, [""] * 4)
    assert len(held) == 1


def test_a_grade_of_one_patient_only_is_no_obstacle() -> None:
    held = split_by_patient(["a", "b", "c", "d"], 0.5, ["benign", "benign", "benign", "malignant"])
    assert len(held) == 2


@pytest.mark.parametrize("seed", range(3))
def test_both_grades_are_held_out_though_one_patient_has_all_of_one(seed: int) -> None:
    """Ten benign patients of one image, one malignant of four: two benign ones would be nearer to a fifth of the images."""
    patients = [*(f"b{i}" for i in range(10)), *["m"] * 4]
    held = split_by_patient(patients, 0.2, ["benign"] * 10 + ["malignant"] * 4, seed)
    assert "m" in held
    assert len(held) == 2


@pytest.mark.parametrize(("patients", "share", "message"), [
    (["a", "a"], 0.2, "only 1 patient"), ([], 0.2, "only 0 patient"), (["a", "b"], 1.5, "between 0 and 1"),
    (["a", "b"], 0.0, "between 0 and 1")])
def test_impossible_splits_are_refused(patients: list[str], share: float, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        split_by_patient(patients, share, [""] * len(patients))


def items(patients: str, name: str = "i") -> list[Item]:
    """One image per letter, of the patient that the letter names ("-": unknown)."""
    return [Item(f"{name}{i}", letter.strip("-"), "benign") for i, letter in enumerate(patients)]


def test_patients_are_held_out_of_train_alone_and_the_rest_stays_as_it_was() -> None:
    splits, note = hold_out({"test": items("xy", "t"), "train": items("aabbccddee")}, None, 0.2)
    assert list(splits) == ["train", "validation", "test"]
    assert splits["test"] == items("xy", "t")
    assert sorted(splits["train"] + splits["validation"], key=lambda i: int(i.image_id[1:])) == items("aabbccddee")
    assert len({i.patient_id for i in splits["validation"]}) == 1
    assert "1 of 5 patients (2 of 10 train images)" in note
    assert len(hold_out({"train": items("aabbccddee")}, 0.4, 0.2)[0]["validation"]) == 4


@pytest.mark.parametrize(("splits", "share", "usual", "note"), [
    ({"train": "abcdef"}, 0.0, 0.2, ""), ({"train": "abcdef"}, None, 0.0, ""), ({"test": "abcdef"}, None, 0.2, ""),
    ({"train": "abcdef", "validation": "g"}, None, 0.2, ""),
    ({"train": "abcde-"}, None, 0.2, "i5: its patient is unknown.*--patient-pattern"),
    ({"train": "aabbccdd"}, None, 0.2, "4 patients, too few"),
    ({"train": "------"}, None, 0.2, "i0: its patient is unknown")])
def test_nobody_is_held_out_unasked_where_it_would_do_harm(splits: dict, share: float, usual: float, note: str) -> None:
    given = {split: items(patients) for split, patients in splits.items()}
    same, said = hold_out(given, share, usual)
    assert same == given
    assert re.search(note, said)
    assert bool(said) == bool(note)


@pytest.mark.parametrize(("splits", "message"), [
    ({"train": "abcde-"}, "i5: its patient is unknown"), ({"test": "abcdef"}, "needs a train split"),
    ({"train": "abcdef", "validation": "g"}, "no validation split of its own; the splits are train, validation"),
    ({"train": "aaa"}, "only 1 patient")])
def test_a_share_that_is_asked_for_and_cannot_be_had_is_an_error(splits: dict, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        hold_out({split: items(patients) for split, patients in splits.items()}, 0.2, 0.0)


def test_few_patients_are_held_out_where_that_is_asked_for() -> None:
    assert len(hold_out({"train": items("aabb")}, 0.5, 0.0)[0]["validation"]) == 2


def test_folds_hold_every_patient_out_once_and_are_alike() -> None:
    patients, grades = glas_like()
    folds = patient_folds(patients, 5, grades)
    assert sorted(p for fold in folds for p in fold) == sorted(set(patients))
    for fold in folds:
        held = [grade for patient, grade in zip(patients, grades, strict=True) if patient in fold]
        assert len(fold) == 3
        assert 13 <= len(held) <= 21
        assert 0.2 <= held.count("benign") / len(held) <= 0.65
    order = np.random.default_rng(0).permutation(len(patients))
    assert patient_folds([patients[i] for i in order], 5, [grades[i] for i in order]) == folds
    assert [len(fold) for fold in patient_folds(["a", "b", "b", "c"], 3, [""] * 4)] == [1, 1, 1]


def test_a_fold_is_a_test_split_and_the_rest_is_train() -> None:
    items = [Item(f"i{number}", f"p{number % 4}") for number in range(9)]
    seen = []
    for fold in (1, 2, 3, 4):
        splits = fold_out({"train": items, "testA": items[:2]}, fold, 4)
        assert list(splits) == ["train", f"test_fold{fold}of4"]
        held = splits[f"test_fold{fold}of4"]
        assert [i for i in items if i in held or i in splits["train"]] == items
        assert len({i.patient_id for i in held}) == 1
        assert not {i.patient_id for i in held} & {i.patient_id for i in splits["train"]}
        seen += held
    assert sorted(i.image_id for i in seen) == sorted(i.image_id for i in items)


@pytest.mark.parametrize(("splits", "fold", "folds", "message"), [
    ({"train": [Item("a", "p")]}, 6, 5, "fold 6 of 5"), ({"train": [Item("a", "p")]}, 1, 1, "at least 2 folds"),
    ({"test": [Item("a", "p")]}, 1, 2, "divides a train split; the splits are test"),
    ({"train": [Item("a", "p"), Item("b")]}, 1, 2, "b: its patient is unknown"),
    ({"train": [Item("a", "p"), Item("b", "p")]}, 1, 2, "1 patients cannot be divided into 2 folds")])
def test_folds_that_cannot_be_had_are_explained(splits: dict, fold: int, folds: int, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        fold_out(splits, fold, folds)
