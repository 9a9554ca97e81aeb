"""The embedded default dataset: synthetic H&E-like colorectal images with exact gland masks.

Image i of a split depends on (seed, split, i, size) alone. Patients differ in stain, are shared by no two
splits, and those of `test_shifted` are stained outside the range of all the others.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hf_gland.data.schema import Sample
from hf_gland.data.synthetic_shapes import Array, smooth_noise
from hf_gland.data.synthetic_layout import MPP, draw_architecture
from hf_gland.data.synthetic_tissue import Tissue, paint_tissue

SPLITS: dict[str, int] = {"train": 32, "validation": 8, "test": 16, "test_shifted": 16}
PATIENTS: dict[str, int] = {"train": 8, "validation": 4, "test": 4, "test_shifted": 4}
MIN_SIZE_PX = 64
MIN_GLAND_PX = 80  # a smaller piece at the border belongs to the background, as annotators leave it


@dataclass(frozen=True)
class Stain:
    """How one patient's slide was stained and scanned; vectors are optical density per unit amount (R, G, B)."""

    hema: Array
    eosin: Array
    blood: Array
    white: Array  # transmitted light of empty glass, 0..1


def iter_synthetic(split: str, *, seed: int = 0, images: int | None = None, size_px: tuple[int, int] = (384, 512),
                   num_classes: int = 2) -> Iterator[Sample]:
    """Yield `images` (default `SPLITS[split]`) samples of a split.

    `size_px` is (height, width). With `num_classes=2` every gland is class 1; with 3, benign glands are 1 and
    malignant ones 2; the image is the same. Raises ValueError for an unknown split or an impossible argument.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the synthetic splits are {', '.join(SPLITS)}")
    if num_classes not in (2, 3):
        raise ValueError(f"synthetic glands have 2 or 3 classes (background, benign, malignant), not {num_classes}")
    if min(size_px) < MIN_SIZE_PX:
        raise ValueError(f"a synthetic image must be at least {MIN_SIZE_PX} px high and wide, got {size_px}")
    count = SPLITS[split] if images is None else images
    if count < 0:
        raise ValueError(f"the number of images cannot be negative, got {count}")
    return (_sample(split, i, seed, size_px, num_classes) for i in range(count))


def _rng(seed: int, *words: str | int) -> np.random.Generator:
    key = [zlib.crc32(w.encode()) if isinstance(w, str) else w for w in words]
    return np.random.default_rng(np.random.SeedSequence([seed, *key]))


def _sample(split: str, index: int, seed: int, size_px: tuple[int, int], num_classes: int) -> Sample:
    member = index % PATIENTS[split]
    names = list(PATIENTS)
    earlier = sum(PATIENTS[name] for name in names[:names.index(split)])
    patient_id = f"syn-p{earlier + member:02d}"
    malignant = member % 2 == 1
    stain = _draw_stain(_rng(seed, split, "patient", member), shifted=split == "test_shifted")
    rng = _rng(seed, split, "image", index, *size_px)
    tissue = paint_tissue(rng, size_px, draw_architecture(rng, malignant), glands=index % 32 != 13)
    image = _develop(rng, tissue, stain)
    pieces = _pieces(tissue.ids)
    mask = np.where(pieces > 0, tissue.classes if num_classes == 3 else 1, 0).astype(np.uint8)
    return Sample(image=image, mask=mask, instances=pieces, image_id=f"syn-{split}-{index:03d}",
                  patient_id=patient_id, source="synthetic", grade="malignant" if malignant else "benign", mpp=MPP)


def _pieces(ids: Array) -> Array:
    """Number the connected pieces of every gland, 1..n; uint16 [H, W]."""
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
    """Each property is interpolated between two extremes; a shifted patient lies beyond one of them."""
    u = rng.random(6)
    if shifted:
        u = np.where(rng.random(6) < 0.5, 1.25 + 0.35 * u, -0.25 - 0.35 * u)

    def between(low: list[float], high: list[float], t: float) -> Array:
        return np.array(low) + (np.array(high) - np.array(low)) * t

    hema = between([0.68, 0.74, 0.25], [0.54, 0.80, 0.34], u[0])
    eosin = between([0.08, 0.82, 0.22], [0.20, 0.74, 0.40], u[1])
    return Stain(hema=hema * (0.85 + 0.4 * u[2]), eosin=eosin * (0.75 + 0.4 * u[3]),
                 blood=np.array([0.14, 1.1, 0.70]), white=between([0.93, 0.93, 0.95], [0.97, 0.95, 0.94], u[4]))


def _develop(rng: np.random.Generator, tissue: Tissue, stain: Stain) -> Array:
    """Beer-Lambert: transmitted light white · exp(-Σ amount · vector), then illumination, blur and noise."""
    shape = tissue.hema.shape
    amounts = np.stack([tissue.hema, tissue.eosin, tissue.blood])
    sigma = rng.uniform(0.4, 1.1)
    amounts = ndimage.gaussian_filter(amounts, (0, sigma, sigma))
    light = 1 - 0.025 * np.abs(smooth_noise(rng, shape, 200))
    image = np.empty((*shape, 3), np.float32)
    noise = rng.uniform(0.004, 0.014)
    for c in range(3):
        density = amounts[0] * stain.hema[c] + amounts[1] * stain.eosin[c] + amounts[2] * stain.blood[c]
        image[..., c] = stain.white[c] * light * np.exp(-density)
    image += noise * rng.standard_normal(image.shape, dtype=np.float32)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
