"""Stripes of any height, cut anew into bands of one height: what is made of bands does not depend on how stripes came."""

from collections.abc import Iterator

import numpy as np

from hf_gland.inference.slides.plan import SlideGrid, Stripe

BAND_PX = 256


class Bands:
    """Takes stripes and gives bands of BAND_PX rows, float32; the last band of the grid may be lower."""

    def __init__(self, grid: SlideGrid, band_px: int = BAND_PX):
        self.grid, self.band_px = grid, band_px
        self.top_px = 0  # of the band that is being filled
        self.filled = 0
        self.probabilities: np.ndarray | None = None
        self.tissue = np.zeros((band_px, grid.width_px), bool)

    def add(self, stripe: Stripe) -> Iterator[Stripe]:
        """The bands that `stripe` completes; their arrays are its own, or are overwritten by the next. Raises ValueError for
        a gap."""
        if stripe.top_px != self.top_px + self.filled:
            raise ValueError(f"a stripe starts at row {stripe.top_px} where row {self.top_px + self.filled} was due")
        if self.probabilities is None:
            self.probabilities = np.empty((len(stripe.probabilities), self.band_px, self.grid.width_px), np.float32)
        done, height = 0, stripe.probabilities.shape[1]
        while done < height:
            end = min(self.band_px, self.grid.height_px - self.top_px)
            take = min(height - done, end - self.filled)
            rows, given = np.s_[self.filled:self.filled + take], np.s_[done:done + take]
            whole = take == end and stripe.probabilities.dtype == np.float32
            if not whole:
                self.probabilities[:, rows] = stripe.probabilities[:, given]
                self.tissue[rows] = stripe.tissue[given]
            done, self.filled = done + take, self.filled + take
            if self.filled == end:
                yield (Stripe(self.top_px, stripe.probabilities[:, given], stripe.tissue[given]) if whole else
                       Stripe(self.top_px, self.probabilities[:, :end], self.tissue[:end]))
                self.top_px, self.filled = self.top_px + end, 0

    def finish(self) -> None:
        """Raises ValueError where rows are missing."""
        if self.top_px != self.grid.height_px:
            raise ValueError(f"stripes end at row {self.top_px + self.filled} of {self.grid.height_px}")
