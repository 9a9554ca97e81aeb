"""Whether a picture looks like those a model was trained on: how strongly and in what colours its tissue is stained, and how
much detail of each size it shows; and what gives it their stain where it does not."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage

TISSUE_DENSITY = 0.15  # mean optical density above which a pixel is tissue
LEAST_TISSUE = 0.02  # of the pixels
# For each band of detail: what it is blurred by, in pixels that are left of the picture, and which of those of the last band
# are left, every first or second. After a blur of 2 px half of the rows and columns say the same, in a quarter of the time.
DETAIL = ((1.0, 1), (2.0, 1), (2.0, 2), (2.0, 2))
LEAST_IMAGES = 10  # of fewer, nobody can tell what is unusual
SHRINKAGE = 0.1  # of the covariance towards its diagonal
USUAL_SHARE, MARGIN = 0.95, 1.25  # the limit: this quantile of held-out training images, times this
STEADY = 0.01  # added to a standard deviation before its logarithm is taken
MOST_GAIN = 3.0  # that a stain is strengthened by, or weakened


def appearance_features(rgb: np.ndarray) -> np.ndarray | None:
    """float [10] of uint8 [H, W, 3], over its tissue: mean and logarithm of the standard deviation of the optical density of
    red, green and blue, and the logarithm of that of its mean over the colours in bands of detail, each an octave coarser
    than the last, which blur and another magnification change; None where there is hardly any tissue."""
    grey = _grey_density(rgb)
    tissue = grey > TISSUE_DENSITY
    if tissue.mean() < LEAST_TISSUE:
        return None
    mean, spread = _stain(_values(rgb, tissue))
    detail = []
    for sigma_px, step in DETAIL:
        grey, tissue = grey[::step, ::step], tissue[::step, ::step]
        coarser = ndimage.gaussian_filter(grey, sigma_px, truncate=3.0)
        detail.append(np.log((grey - coarser)[tissue].std() + 0.001))
        grey = coarser
    return np.concatenate([mean, np.log(spread + STEADY), detail]).astype(float)


_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)  # optical density of each 8-bit value


@dataclass(frozen=True, eq=False)
class Look:
    """How a picture or slide looks to a model: `distance` from its training images, 1 being the limit. Where it is beyond
    and to be matched, `curves`, uint8 [3, 256], give red, green and blue the values they would have in the stain of those.
    """

    distance: float = 0.0
    curves: np.ndarray | None = None

    def sentence(self) -> str | None:
        """For the user, where it is unlike the training images."""
        if self.distance <= 1:
            return None
        done = "the network saw it with their stain (predict --keep-stain leaves it); " if self.curves is not None else ""
        return ("Its stain, sharpness or magnification is unlike that of the training images "
                f"({self.distance:.1f} times the usual limit): {done}check its pixel size, look at the outlines before you "
                "use them, or adapt the model (train --config adapt).")

    def matched(self, rgb: np.ndarray) -> np.ndarray:
        """uint8 [..., 3] with the stain of the training images; the same array where it is left as it is."""
        return rgb if self.curves is None else np.stack([curve[rgb[..., c]] for c, curve in enumerate(self.curves)], axis=-1)


USUAL_LOOK = Look()


@dataclass(frozen=True)
class Appearance:
    """What training images look like: mean and inverse covariance of `appearance_features` (of the six of the stain alone in
    models of before), and the distance (Mahalanobis) from which a picture is unlike them."""

    mean: Sequence[float]
    inverse: Sequence[Sequence[float]]
    limit: float

    def distance(self, rgb: np.ndarray) -> float | None:
        """Of a picture of the training pixel size, as a multiple of the limit; None where there is no tissue."""
        features = appearance_features(rgb)
        if features is None:
            return None
        return _distance(features[:len(self.mean)], np.array(self.mean), np.array(self.inverse)) / self.limit

    def look(self, parts: Sequence[np.ndarray], match: bool = True) -> "Look":
        """Whether a picture or slide is unlike the training images. `parts` of it, uint8 [h, w, 3] each at the training
        pixel size: the middle one by its distance counts, of those with tissue. `match`: what is, is to be matched."""
        distances = [distance for part in parts if (distance := self.distance(part)) is not None]
        middle = float(np.median(distances)) if distances else 0.0
        return Look(middle, self._curves(parts) if match and middle > 1 else None)

    def _curves(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Per colour, mean and standard deviation of the optical density of all tissue brought to those of training."""
        counts = np.sum([_values(part, _grey_density(part) > TISSUE_DENSITY) for part in parts], axis=0)  # [256, 3]
        here, spread_here = _stain(counts)
        mean, spread = np.array(self.mean[:3]), np.exp(self.mean[3:6]) - STEADY
        gain = np.clip(spread / (spread_here + 1e-6), 1 / MOST_GAIN, MOST_GAIN)
        wanted = (_DENSITY[:, None] - here) * gain + mean
        return (256 * np.exp(-wanted) - 1).clip(0, 255).round().astype(np.uint8).T

    def to_json(self) -> dict[str, Any]:
        """As it is kept in a model's config.json; `Appearance(**…)` reads it."""
        return asdict(self)


def _grey_density(rgb: np.ndarray) -> np.ndarray:
    """Optical density of uint8 [H, W, 3], its mean over the colours: float32 [H, W]."""
    return (_DENSITY[rgb[..., 0]] + _DENSITY[rgb[..., 1]] + _DENSITY[rgb[..., 2]]) / 3


def _values(rgb: np.ndarray, where: np.ndarray) -> np.ndarray:
    """How many of the pixels of uint8 [H, W, 3] that bool [H, W] names have each value, by colour: int [256, 3]."""
    return np.stack([np.bincount(rgb[..., colour][where], minlength=256) for colour in range(3)], axis=1)


def _stain(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the optical density of each colour, float [3], of pixels counted as `_values` does."""
    density, total = _DENSITY[:, None].astype(float), counts.sum(axis=0)
    mean = (counts * density).sum(axis=0) / total
    return mean, np.sqrt((counts * (density - mean)**2).sum(axis=0) / total)


def learn_appearance(images: Sequence[np.ndarray]) -> Appearance | None:
    """From training images, uint8 [H, W, 3]; None of too few. The limit comes from images held out, a fifth at a time."""
    found = [features for rgb in images if (features := appearance_features(rgb)) is not None]
    if len(found) < LEAST_IMAGES:
        return None
    table = np.array(found)
    held = []
    for part in range(5):
        out = np.arange(len(table)) % 5 == part
        mean, inverse = _spread(table[~out])
        held += [_distance(features, mean, inverse) for features in table[out]]
    mean, inverse = _spread(table)
    limit = round(float(np.quantile(held, USUAL_SHARE)) * MARGIN, 4)
    return Appearance(mean.round(6).tolist(), inverse.round(6).tolist(), limit)


def appearance_of(config: Mapping[str, Any] | None) -> Appearance | None:
    """What a model's config holds of it; None for a model of before, or for what is none."""
    try:
        found = Appearance(**(config or {}))
        count = len(found.mean)
        sound = count in (6, 10) and np.shape(found.inverse) == (count, count) and found.limit > 0
        return found if sound and np.isfinite([*found.mean, *np.ravel(found.inverse)]).all() else None
    except (TypeError, ValueError):
        return None


def _spread(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    covariance = np.cov(table.T)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance)) + 1e-6 * np.eye(len(covariance))
    return table.mean(axis=0), np.linalg.inv(covariance)


def _distance(features: np.ndarray, mean: np.ndarray, inverse: np.ndarray) -> float:
    away = features - mean
    return float(np.sqrt(max(away @ inverse @ away, 0.0)))
