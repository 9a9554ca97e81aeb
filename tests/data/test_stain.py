import numpy as np
import pytest

from hf_gland.data.stain import jitter_stain, shift_stain

HAEMATOXYLIN, EOSIN = np.array([0.650, 0.704, 0.286]), np.array([0.072, 0.990, 0.105])


def pixel_of(stain: np.ndarray, amount: float) -> np.ndarray:
    return np.tile(np.round(255 * np.exp(-amount * stain)).astype(np.uint8), (2, 2, 1))


def amount_of(stain: np.ndarray, image: np.ndarray) -> float:
    density = -np.log(np.maximum(image[0, 0], 1) / 255)
    return float(density @ stain / (stain @ stain))


def test_stain_jitter_of_spread_zero_is_the_identity_within_rounding():
    image = np.random.default_rng(3).integers(1, 256, (16, 16, 3), dtype=np.uint8)
    assert np.abs(jitter_stain(image, np.random.default_rng(0), 0.0).astype(int) - image).max() <= 1


def test_stain_jitter_keeps_white_nearly_white_and_survives_black():
    white = jitter_stain(np.full((4, 4, 3), 255, np.uint8), np.random.default_rng(0), 0.15)
    assert white.min() > 215
    black = jitter_stain(np.zeros((4, 4, 3), np.uint8), np.random.default_rng(0), 0.15)
    assert black.max() < 60


def test_stain_jitter_scales_a_pure_stain_along_its_own_colour():
    """A pixel of haematoxylin alone stays haematoxylin: its optical density keeps its direction but for the shift."""
    haematoxylin = np.array([0.650, 0.704, 0.286])
    pixel = np.round(255 * np.exp(-0.9 * haematoxylin)).astype(np.uint8)
    ratios = []
    for seed in range(30):
        out = jitter_stain(np.tile(pixel, (2, 2, 1)), np.random.default_rng(seed), 0.2)[0, 0]
        density = -np.log(np.maximum(out, 1) / 255)
        ratios.append(density @ haematoxylin / np.linalg.norm(density) / np.linalg.norm(haematoxylin))
    assert np.mean(ratios) > 0.995


def test_a_shift_of_zero_is_the_identity_within_rounding():
    image = np.random.default_rng(3).integers(1, 256, (16, 16, 3), dtype=np.uint8)
    assert np.abs(shift_stain(image, 0.0).astype(int) - image).max() <= 1


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_a_shift_fades_haematoxylin_and_strengthens_eosin_by_what_its_docstring_says(strength):
    faded, strengthened = (amount_of(stain, shift_stain(pixel_of(stain, 0.4), strength))
                           - amount_of(stain, shift_stain(pixel_of(stain, 0.2), strength))
                           for stain in (HAEMATOXYLIN, EOSIN))
    assert faded == pytest.approx(0.2 * np.exp(-0.35 * strength), abs=0.02)
    assert strengthened == pytest.approx(0.2 * np.exp(0.35 * strength), abs=0.02)


def test_a_shift_tints_bare_glass_the_more_the_stronger_and_never_when_negative():
    glass = np.full((2, 2, 3), 255, np.uint8)
    means = [shift_stain(glass, strength).mean() for strength in (-1.0, 0.5, 1.0, 2.0)]
    assert means[0] == 255
    assert 255 > means[1] > means[2] > means[3] > 200


def test_stain_jitter_shifts_each_stain_by_a_tenth_of_its_spread():
    """Two greys, the second of twice the first's optical density: gain and offset of each stain follow from both."""
    hed = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]])
    image = np.array([[[180] * 3, [127] * 3]], np.uint8)
    density = -np.log(image / 255)
    offsets, gains = [], []
    for seed in range(300):
        out = -np.log(jitter_stain(image, np.random.default_rng(seed), 0.3) / 255) @ np.linalg.inv(hed)
        before = density @ np.linalg.inv(hed)
        gain = (out[0, 1] - out[0, 0]) / (before[0, 1] - before[0, 0])
        gains.append(gain)
        offsets.append(out[0, 0] - gain * before[0, 0])
    assert np.std(np.array(gains), axis=0) == pytest.approx([0.3] * 3, rel=0.35)
    assert np.std(np.array(offsets), axis=0) == pytest.approx([0.03] * 3, rel=0.35)
