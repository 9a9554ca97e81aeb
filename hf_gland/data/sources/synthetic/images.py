"""The embedded default dataset: synthetic H&E-like colorectal images with exact gland masks.

Image i of a split depends on (seed, split, i, size) alone, whatever else is generated; with the same library
versions on the same kind of processor it is the same to the bit. Patients differ in stain, no two splits
share one, and those of `test_shifted` are stained outside the range of all the others.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hf_gland.data.sample import Sample
from hf_gland.data.sources.synthetic.layout import MPP, draw_architecture
from hf_gland.data.sources.synthetic.lookalikes import Stains
from hf_gland.data.sources.synthetic.shapes import Array, smooth_noise
from hf_gland.data.sources.synthetic.tissue import paint_tissue

SPLITS: dict[str, int] = {"train": 32, "validation": 8, "test": 16, "test_shifted": 16}
PATIENTS: dict[str, int] = {"train": 8, "validation": 4, "test": 4, "test_shifted": 4}
GLAND_FREE = 13  # this image of every 32 shows stroma and look-alikes only, as real fields sometimes do
MIN_SIZE_PX = 64
MIN_GLAND_PX = 80  # a smaller piece at the border belongs to the background, as annotators leave it


@dataclass(frozen=True)
class Stain:
    """How one patient's slide was stained and scanned; vectors are optical densities per amount (R, G, B)."""

    hema: Array
    eosin: Array
    blood: Array
    white: Array  # transmitted light of empty glass, 0..1


def iter_synthetic(split: str, *, seed: int = 0, images: int | None = None,
                   size_px: tuple[int, int] = (384, 512), num_classes: int = 2) -> Iterator[Sample]:
    """Yield `images` (default `SPLITS[split]`) samples of a split, 0.62 µm per pixel, source "synthetic".

    `size_px` is (height, width), at least 64 each. With `num_classes=2` every gland is class 1; with 3,
    benign glands are 1 and malignant ones 2; the image is the same. Each instance is one connected region,
    and the mask is their union. Images take turns between the split's patients; a patient's images share one
    stain and one grade, though a malignant field may hold benign glands. One image in 32 has no gland.
    Raises ValueError, before anything is drawn, for an unknown split or an argument out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the synthetic splits are {', '.join(SPLITS)}")
    if num_classes not in (2, 3):
        raise ValueError("synthetic masks have 2 classes (background, gland) or 3 (background, benign, "
                         f"malignant), not {num_classes}")
    if min(size_px) < MIN_SIZE_PX:
        raise ValueError(f"a synthetic image must be at least {MIN_SIZE_PX} px high and wide, got {size_px}")
    count = SPLITS[split] if images is None else images
    if count < 0 or seed < 0:
        raise ValueError(f"the number of images and the seed cannot be negative, got {count} and {seed}")
    return (draw_sample(split, i, seed, size_px, num_classes) for i in range(count))


def _rng(seed: int, *words: str | int) -> np.random.Generator:
    """A generator of its own for each (seed, words); CRC-32, because Python's hash() changes between runs."""
    key = [zlib.crc32(w.encode()) if isinstance(w, str) else w for w in words]
    return np.random.default_rng(np.random.SeedSequence([seed, *key]))


def draw_sample(split: str, index: int, seed: int, size_px: tuple[int, int], num_classes: int) -> Sample:
    """Image `index` of a split, as `iter_synthetic` yields it."""
    member = index % PATIENTS[split]
    names = list(PATIENTS)
    earlier = sum(PATIENTS[name] for name in names[:names.index(split)])
    patient_id = f"syn-p{earlier + member:02d}"
    malignant = member % 2 == 1
    stain = _draw_stain(_rng(seed, split, "patient", member), shifted=split == "test_shifted")
    rng = _rng(seed, split, "image", index, *size_px)
    plan = draw_architecture(rng, malignant)
    stains, ids, classes = paint_tissue(rng, size_px, plan, glands=index % 32 != GLAND_FREE)
    image = _develop(rng, stains, stain)
    pieces = _pieces(ids)
    mask = np.where(pieces > 0, classes if num_classes == 3 else 1, 0).astype(np.uint8)
    grade = "malignant" if malignant else "benign"
    return Sample(image=image, mask=mask, instances=pieces, image_id=f"syn-{split}-{index:03d}",
                  patient_id=patient_id, source="synthetic", grade=grade, mpp=MPP)


def _pieces(ids: Array) -> Array:
    """Number the connected pieces that the field of view leaves of every gland, 1..n; uint16 [H, W]."""
    result = np.zeros(ids.shape, np.uint16)
    count = 0
    for gland_id, box in enumerate(ndimage.find_objects(ids), 1):
        if box is None:
            continue
        parts, n = ndimage.label(ids[box] == gland_id)
        areas = np.bincount(parts.ravel(), minlength=n + 1)
        for part in range(1, n + 1):
            if areas[part] >= MIN_GLAND_PX:
                count += 1
                result[box][parts == part] = count
    return result


def _draw_stain(rng: np.random.Generator, shifted: bool) -> Stain:
    """Each property lies between two extremes in the ordinary splits, beyond one of them in `test_shifted`.

    Shifted hues all lie on the warm side, as from another laboratory; strengths on either side.
    """
    u = rng.random(5)
    if shifted:
        strength = np.where(rng.random(2) < 0.5, 1.3 + 0.4 * u[2:4], -0.3 - 0.4 * u[2:4])
        u = np.concatenate([1.4 + 0.6 * u[:2], strength, 1.2 + 0.3 * u[4:]])

    def between(low: list[float], high: list[float], t: float) -> Array:
        return np.array(low) + (np.array(high) - np.array(low)) * t

    hema = between([0.70, 0.74, 0.24], [0.54, 0.80, 0.34], u[0])
    eosin = between([0.08, 0.82, 0.20], [0.20, 0.74, 0.40], u[1])
    white = between([0.93, 0.93, 0.95], [0.97, 0.95, 0.92], u[4])
    return Stain(hema=hema * (0.80 + 0.5 * u[2]), eosin=eosin * (0.70 + 0.5 * u[3]),
                 blood=np.array([0.14, 1.1, 0.70]), white=white)


def _develop(rng: np.random.Generator, stains: Stains, stain: Stain) -> Array:
    """Scan the section into uint8 [H, W, 3]: uneven thickness, focus, absorption, illumination and noise.

    Transmitted light is white · exp(-Σ amount · vector), channel by channel (Beer and Lambert).
    """
    shape = stains.hema.shape
    amounts = np.stack([stains.hema, stains.eosin, stains.blood]) * (1 + 0.08 * smooth_noise(rng, shape, 120))
    sharp_px = rng.uniform(0.4, 1.2)
    sharp, soft = (ndimage.gaussian_filter(amounts, (0, s, s)) for s in (sharp_px, sharp_px + 1.2))
    out_of_focus = np.clip(smooth_noise(rng, shape, 140) - rng.uniform(-0.5, 2), 0, 1)
    amounts = sharp + out_of_focus * (soft - sharp)
    light = 1 - 0.025 * np.abs(smooth_noise(rng, shape, 200))
    vectors = np.stack([stain.hema, stain.eosin, stain.blood]).astype(np.float32)
    image = np.empty((*shape, 3), np.float32)
    for c in range(3):
        density = sum(amounts[k] * vectors[k, c] for k in range(3))
        image[..., c] = np.float32(stain.white[c]) * light * np.exp(-density)
    image += np.float32(rng.uniform(0.004, 0.016)) * rng.standard_normal(image.shape, dtype=np.float32)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
