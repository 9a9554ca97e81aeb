"""Bootstrap intervals over images, for any score that is a function of sums over images."""

from collections.abc import Callable

import numpy as np

LEVEL = 0.95


def bootstrap_intervals(rows: np.ndarray, score: Callable[[np.ndarray], dict[str, np.ndarray]],
                        resamples: int = 1000, seed: int = 0) -> dict[str, list[float] | None]:
    """95 % percentile intervals of `score`: {key: [low, high], or None where there is none}.

    `rows` [N, K]: one row of counts per image. `score` maps sums of rows [R, K] to arrays [R] by key, NaN
    where undefined. Images are drawn with replacement, as many as there are, and each draw pools its own
    counts (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13). Undefined draws are left
    out; fewer than two images have no interval. The rows are put into a fixed order first, so that an
    interval depends on `seed` but not on the order of the images. Images of one patient count as independent,
    which makes intervals optimistic where patients contribute many images.
    """
    rows = np.asarray(rows, np.float64)
    n = len(rows)
    if n < 2:
        return dict.fromkeys(score(rows))
    rows = rows[np.lexsort(rows.T)]
    drawn = np.random.default_rng(seed).integers(0, n, (resamples, n))
    times = np.zeros((resamples, n))  # how often each resample holds each image
    np.add.at(times, (np.arange(resamples)[:, None], drawn), 1)
    return {key: _percentiles(values) for key, values in score(times @ rows).items()}


def _percentiles(values: np.ndarray) -> list[float] | None:
    values = values[~np.isnan(values)]
    tail = 100 * (1 - LEVEL) / 2
    return [float(v) for v in np.percentile(values, [tail, 100 - tail])] if values.size else None
