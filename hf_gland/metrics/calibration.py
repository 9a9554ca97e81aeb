"""How far the confidence of a segmentation can be trusted: ECE, Brier score, risk against coverage.

The confidence of a pixel is the highest of its class probabilities. Counts over a fine histogram of it are
all that is kept, so memory does not grow with the number of images. Unlabelled pixels (255) are left out.
"""

from typing import Any

import numpy as np

from hf_gland.labels import IGNORE_INDEX

ECE_BINS = 15
FINE_PER_BIN = 2000
FINE_BINS = ECE_BINS * FINE_PER_BIN
LEAST_CONFIDENT = 0.10
COVERAGES = tuple(round(share / 20, 2) for share in range(1, 21))


class CalibrationCounts:
    """Streaming counts behind the calibration metrics of one split."""

    def __init__(self) -> None:
        self.pixels = np.zeros(FINE_BINS, np.int64)
        self.correct = np.zeros(FINE_BINS, np.int64)
        self.confidence = np.zeros(FINE_BINS, np.float64)  # summed over the pixels of each bin
        self.squared_error = 0.0

    def update(self, probabilities: np.ndarray, truth: np.ndarray) -> None:
        """Add one image: `probabilities` float [C, H, W], 0..1 and summing to 1; `truth` uint8 [H, W]."""
        labelled = truth != IGNORE_INDEX
        probs = probabilities[:, labelled]
        true = truth[labelled].astype(np.int64)
        confidence = probs.max(0).astype(np.float64)
        fine = np.clip((confidence * FINE_BINS).astype(np.int64), 0, FINE_BINS - 1)
        self.pixels += np.bincount(fine, minlength=FINE_BINS)
        self.correct += np.bincount(fine[probs.argmax(0) == true], minlength=FINE_BINS)
        self.confidence += np.bincount(fine, confidence, minlength=FINE_BINS)
        of_truth = np.take_along_axis(probs, true[None], 0)
        # sum over c of (p_c - [c is the truth])² = sum of p_c² - 2 p_truth + 1
        self.squared_error += float((probs.astype(np.float64)**2).sum() - 2 * of_truth.sum(dtype=np.float64)
                                    + len(true))

    def reliability(self) -> dict[str, list[Any]]:
        """Per ECE bin [k/15, (k+1)/15): `pixels`, and `confidence` and `accuracy` (means 0..1, None if
        empty)."""
        pixels, correct, confidence = (v.reshape(ECE_BINS, FINE_PER_BIN).sum(1)
                                       for v in (self.pixels, self.correct, self.confidence))

        def means(sums: np.ndarray) -> list[float | None]:
            return [float(total / n) if n else None for total, n in zip(sums, pixels, strict=True)]

        return {"pixels": pixels.tolist(), "confidence": means(confidence), "accuracy": means(correct)}

    def risk_coverage(self) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and errors from the least confident up, cumulative and starting at 0: float64 [n + 1]
        each."""
        errors = self.pixels - self.correct
        return np.concatenate([[0.0], np.cumsum(self.pixels)]), np.concatenate([[0.0], np.cumsum(errors)])

    def metrics(self) -> dict[str, Any]:
        """The calibration metrics; None where undefined.

        `ece` (percent): sum over 15 equal-width bins of n_bin / n · |accuracy - mean confidence| (Guo et al.,
        On calibration of modern neural networks, ICML 2017). `brier` (0..2): mean over pixels of the squared
        distance between the class probabilities and the one-hot truth (Brier, 1950).
        `errors_in_least_confident_10` (percent): share of all errors that lie among the 10 % least confident
        pixels; `error_rate_least_confident_10` (percent): share of those pixels that are wrong. Within the
        bin (1/30000 wide) that the 10 % limit cuts, errors count as evenly spread. `reliability`: the 15
        bins. `risk_coverage`: for each share `coverage` of the pixels, most confident first, the percentage
        `error` of them that is wrong.
        """
        total = int(self.pixels.sum())
        metrics: dict[str, Any] = {"ece": None, "brier": None, "errors_in_least_confident_10": None,
                                   "error_rate_least_confident_10": None, "risk_coverage": None,
                                   "reliability": self.reliability()}
        if not total:
            return metrics
        gaps = (self.correct - self.confidence).reshape(ECE_BINS, FINE_PER_BIN).sum(1)
        metrics["ece"] = float(100 * np.abs(gaps).sum() / total)
        metrics["brier"] = self.squared_error / total
        pixels, errors = self.risk_coverage()
        limit = LEAST_CONFIDENT * total
        caught = float(np.interp(limit, pixels, errors))
        metrics["error_rate_least_confident_10"] = 100 * caught / limit
        if errors[-1]:
            metrics["errors_in_least_confident_10"] = 100 * caught / float(errors[-1])
        kept = np.array(COVERAGES)
        wrong = errors[-1] - np.interp((1 - kept) * total, pixels, errors)
        metrics["risk_coverage"] = {"coverage": list(COVERAGES), "error": (100 * wrong / (kept * total)).round(3).tolist()}
        return metrics
