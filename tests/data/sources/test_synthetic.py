import hashlib
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu

from hf_gland.data.sample import Sample
from hf_gland.data.sources.synthetic.images import SPLITS, iter_synthetic

SMALL = (96, 128)


def _same(a: Sample, b: Sample) -> bool:
    return (np.array_equal(a.image, b.image) and np.array_equal(a.mask, b.mask)
            and np.array_equal(a.instances, b.instances)
            and (a.image_id, a.patient_id, a.grade) == (b.image_id, b.patient_id, b.grade))


@pytest.fixture(scope="module")
def fields() -> list[Sample]:
    """Eight test images large enough to hold whole glands."""
    return list(iter_synthetic("test", images=8, size_px=(256, 320)))


def test_an_image_does_not_depend_on_which_others_are_generated():
    alone = list(iter_synthetic("train", images=3, size_px=SMALL))
    interleaved = zip(iter_synthetic("train", images=5, size_px=SMALL), iter_synthetic("test", images=5, size_px=SMALL),
                      strict=True)
    for first, (again, _) in zip(alone, interleaved, strict=False):
        assert _same(first, again)


def test_an_image_is_the_same_in_another_process():
    sample = next(iter_synthetic("validation", seed=7, size_px=(64, 64)))
    code = ("import hashlib; from hf_gland.data.sources.synthetic.images import iter_synthetic; "
            "s = next(iter_synthetic('validation', seed=7, size_px=(64, 64))); "
            "print(hashlib.sha256(s.image.tobytes() + s.instances.tobytes()).hexdigest())")
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                           env={**os.environ, "PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "2"})
    digest = hashlib.sha256(sample.image.tobytes() + sample.instances.tobytes()).hexdigest()
    assert other.stdout.strip() == digest


def test_every_seed_split_and_index_gives_another_image():
    images = [s.image.tobytes() for seed in (0, 1) for split in SPLITS
              for s in iter_synthetic(split, seed=seed, images=2, size_px=(64, 64))]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("size_px", [(64, 200), (131, 97)])
def test_samples_follow_the_schema(size_px):
    for sample in iter_synthetic("train", images=2, size_px=size_px):
        sample.check(num_classes=2)
        assert sample.image.shape == (*size_px, 3)
        assert sample.instances.dtype == np.uint16
        assert sample.mpp == pytest.approx(0.62)
        assert sample.source == "synthetic"
        assert sample.grade in ("benign", "malignant")


def test_instances_are_connected_numbered_without_gaps_and_make_up_the_mask(fields):
    for sample in fields:
        np.testing.assert_array_equal(sample.mask > 0, sample.instances > 0)
        ids = np.unique(sample.instances)
        np.testing.assert_array_equal(ids, np.arange(len(ids)))
        for gland in ids[1:]:
            assert ndimage.label(sample.instances == gland)[1] == 1


def test_some_neighbouring_glands_touch(fields):
    def touch(a: np.ndarray, b: np.ndarray) -> bool:
        return bool(((a != b) & (a > 0) & (b > 0)).any())

    touching = [touch(i[1:], i[:-1]) or touch(i[:, 1:], i[:, :-1]) for i in (s.instances for s in fields)]
    assert sum(touching) >= 2


def test_glands_have_a_plausible_size(fields):
    diameters_um = []
    for sample in fields:
        border = {*sample.instances[[0, -1]].ravel(), *sample.instances[:, [0, -1]].ravel()}
        for gland, area_px in enumerate(np.bincount(sample.instances.ravel())):
            if gland not in border:
                diameters_um.append(2 * np.sqrt(area_px / np.pi) * sample.mpp)
    assert 30 < np.median(diameters_um) < 70
    assert max(diameters_um) < 160


def test_one_image_in_thirty_two_has_no_gland():
    empty = [i for i, s in enumerate(iter_synthetic("train", images=32, size_px=(64, 64))) if not s.mask.any()]
    assert len(empty) == 1
    assert SPLITS["train"] <= 32


def test_patients_are_shared_by_no_two_splits_and_keep_their_grade():
    patients = {}
    for split in SPLITS:
        samples = list(iter_synthetic(split, images=8, size_px=(64, 64)))
        patients[split] = {s.patient_id for s in samples}
        assert len(patients[split]) >= 4
        assert {s.grade for s in samples} == {"benign", "malignant"}
        assert len({(s.patient_id, s.grade) for s in samples}) == len(patients[split])
    assert all(not a & b for a, b in itertools.combinations(patients.values(), 2))


def _optical_density(image: np.ndarray) -> np.ndarray:
    return -np.log((image.astype(np.float64) + 1) / 256)


def _warmth(split: str) -> dict[str, float]:
    """Each patient's blue optical density over its green one: high for a yellowish, brown stain."""
    sums: dict[str, np.ndarray] = {}
    for s in iter_synthetic(split, images=8, size_px=SMALL):
        sums[s.patient_id] = sums.get(s.patient_id, 0) + _optical_density(s.image).sum((0, 1))
    return {patient: total[2] / total[1] for patient, total in sums.items()}


def test_the_shifted_split_is_stained_outside_the_training_range():
    train, ordinary, shifted = (_warmth(split).values() for split in ("train", "test", "test_shifted"))
    assert min(shifted) > max(train)
    assert min(shifted) > max(ordinary)
    assert max(train) - min(train) > 0.05  # patients differ from each other as well


def test_three_classes_differ_from_two_in_the_mask_only():
    seen = set()
    for two, three in zip(iter_synthetic("train", images=6, size_px=SMALL),
                          iter_synthetic("train", images=6, size_px=SMALL, num_classes=3), strict=True):
        three.check(num_classes=3)
        np.testing.assert_array_equal(two.image, three.image)
        np.testing.assert_array_equal(two.instances, three.instances)
        np.testing.assert_array_equal(two.mask, three.mask > 0)
        if three.grade == "benign":
            assert three.mask.max() <= 1
        seen |= set(np.unique(three.mask))
    assert seen == {0, 1, 2}


def test_no_colour_threshold_finds_the_glands(fields):
    """The best of Otsu's thresholds on each stain and on brightness, either way round, chosen with the truth."""
    def channels(image: np.ndarray) -> list[np.ndarray]:
        hed = rgb2hed(image)
        brightness = image.mean(2)
        smooth = [ndimage.gaussian_filter(c, 6) for c in (hed[..., 0], hed[..., 1], brightness)]
        return [hed[..., 0], hed[..., 1], brightness, *smooth]

    truth = np.concatenate([s.mask.ravel() > 0 for s in fields])
    scores = []
    for layers in zip(*(channels(s.image) for s in fields), strict=True):
        found = np.concatenate([(c > threshold_otsu(c)).ravel() for c in layers])
        for guess in (found, ~found):
            ious = [(guess & truth).sum() / (guess | truth).sum(), (~guess & ~truth).sum() / (~guess | ~truth).sum()]
            scores.append(np.mean(ious))
    assert max(scores) < 0.6


@pytest.mark.parametrize(("arguments", "message"), [
    ({"split": "valid"}, "train, validation, test, test_shifted"),
    ({"split": "train", "num_classes": 4}, "not 4"),
    ({"split": "train", "size_px": (32, 512)}, "at least 64"),
    ({"split": "train", "images": -1}, "negative"),
    ({"split": "train", "seed": -1}, "negative"),
])
def test_impossible_arguments_are_refused_before_anything_is_drawn(arguments, message):
    with pytest.raises(ValueError, match=message):
        iter_synthetic(**arguments)


def test_default_counts():
    assert sum(1 for _ in iter_synthetic("validation", size_px=(64, 64))) == SPLITS["validation"]
    assert list(iter_synthetic("train", images=0)) == []
