"""Haematoxylin and eosin in optical-density space: varied at random for training, or shifted to try a foreign stain."""

import numpy as np

# Optical-density vectors of haematoxylin, eosin and their cross product (Ruifrok and Johnston 2001).
_HED = np.array([[0.650, 0.704, 0.286], [0.072, 0.990, 0.105], [0.268, 0.570, 0.776]], np.float32)
_HED_FROM_OD = np.linalg.inv(_HED).astype(np.float32)
# Optical density of each 8-bit value; 0 is read as 1 so that it stays finite.
_OPTICAL_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)
# What one unit of `shift_stain` does to haematoxylin, eosin and the rest.
_SHIFT_LOG_GAIN = np.array([-0.35, 0.35, 0.0], np.float32)
_SHIFT_OFFSET = np.array([0.0, 0.05, 0.05], np.float32)


def restain(image: np.ndarray, gain: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Each stain channel s (haematoxylin, eosin, rest) becomes gain · s + offset, in optical density.

    image: uint8 [H, W, 3]; gain, offset: float32 [3]. Returns uint8 [H, W, 3].
    """
    # One matrix does separation, gain and recombination: OD' = OD · M + offset · HED.
    matrix = _HED_FROM_OD @ np.diag(gain.astype(np.float32)) @ _HED
    out = 255 * np.exp(-(_OPTICAL_DENSITY[image] @ matrix + offset.astype(np.float32) @ _HED))
    return out.clip(0, 255).round().astype(np.uint8)


def jitter_stain(image: np.ndarray, rng: np.random.Generator, spread: float) -> np.ndarray:
    """Vary haematoxylin and eosin strength and background in optical-density space.

    image: uint8 [H, W, 3]. Each stain channel s becomes s·(1 + N(0, spread)) + N(0, spread/10), clipped to 2.5
    standard deviations (after Tellez et al. 2018, arXiv 1808.05896). Returns uint8 [H, W, 3].
    """
    gain = 1 + spread * rng.standard_normal(3).clip(-2.5, 2.5).astype(np.float32)
    return restain(image, gain, spread / 10 * rng.standard_normal(3).clip(-2.5, 2.5).astype(np.float32))


def shift_stain(image: np.ndarray, strength: float) -> np.ndarray:
    """The same tissue as another laboratory might stain it: the same change for every image.

    image: uint8 [H, W, 3]; at `strength` s, haematoxylin fades to exp(-0.35 s) of itself, eosin grows to exp(0.35 s),
    and the bare glass is tinted by 0.05 s of eosin and of the rest, in optical density; 0 changes nothing but
    rounding. Negative strengths shift the other way. Returns uint8 [H, W, 3].
    """
    return restain(image, np.exp(strength * _SHIFT_LOG_GAIN), max(strength, 0.0) * _SHIFT_OFFSET)
