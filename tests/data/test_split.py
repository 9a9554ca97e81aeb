import numpy as np
import pytest

from hf_gland.data.split import split_by_patient
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
    held = split_by_patient(patients, 0.175, grades=grades, seed=seed)
    kept_grades = [g for p, g in zip(patients, grades, strict=True) if p in held]
    assert 0.15 <= len(kept_grades) / len(patients) <= 0.20
    assert 2 <= len(held) <= 4
    assert 0.3 <= kept_grades.count("benign") / len(kept_grades) <= 0.6


def test_the_split_depends_on_the_images_not_on_their_order() -> None:
    patients, grades = glas_like()
    order = np.random.default_rng(0).permutation(len(patients))
    assert split_by_patient(patients, 0.2, grades=grades) == split_by_patient(
        [patients[i] for i in order], 0.2, grades=[grades[i] for i in order])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_number_of_patients(count: int) -> None:
    patients = [f"p{i % 6}" for i in range(30)]
    assert len(split_by_patient(patients, count)) == count


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_someone_stays_on_either_side(share: float) -> None:
    held = split_by_patient(["a", "a", "a", "b"], share)
    assert len(held) == 1


def test_a_grade_of_one_patient_only_is_no_obstacle() -> None:
    held = split_by_patient(["a", "b", "c", "d"], 0.5, grades=["benign", "benign", "benign", "malignant"])
    assert len(held) == 2


@pytest.mark.parametrize(("patients", "held_out", "message"), [
    (["a", "a"], 0.2, "only 1 patient"), ([], 0.2, "only 0 patient"), (["a", "b"], 2, "at least one must remain"),
    (["a", "b"], 0, "hold out 0"), (["a", "b"], 1.5, "between 0 and 1"), (["a", "b"], 0.0, "between 0 and 1")])
def test_impossible_splits_are_refused(patients: list[str], held_out: float, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        split_by_patient(patients, held_out)
