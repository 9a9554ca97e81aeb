"""What a slide is predicted in: a grid of pixels as large as the model's, and stripes of it from top to bottom."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SlideGrid:
    """Where the pixels of a prediction lie on a slide.

    `width_px`, `height_px`: size of the predicted region at `mpp` µm per pixel. `origin_xy`: its top left corner in pixels
    of the slide's largest level (level 0); `scale_xy`: pixels of level 0 per pixel of the grid along x and y.
    """

    width_px: int
    height_px: int
    mpp: float
    origin_xy: tuple[float, float] = (0.0, 0.0)
    scale_xy: tuple[float, float] = (1.0, 1.0)

    def to_level0(self, xy: np.ndarray) -> np.ndarray:
        """Points [N, 2] (x, y) of the grid, corners of pixels as integers, in pixels of level 0."""
        return np.asarray(xy, float) * self.scale_xy + self.origin_xy


@dataclass(frozen=True, eq=False)
class Stripe:
    """Finished rows of a prediction, over the whole width of its grid.

    `top_px`: the first row in the grid; stripes follow one another from top to bottom without gap or overlap, and their
    heights differ. `probabilities` float16 or float32 [C, h, W]: the network's blended output, 0-1. `tissue` bool [h, W]:
    where the slide was predicted; elsewhere the probabilities are those of background.
    """

    top_px: int
    probabilities: np.ndarray
    tissue: np.ndarray

    def columns(self) -> tuple[int, int]:
        """The first and the last column + 1 with tissue; of one column at the left where there is none."""
        found = np.flatnonzero(self.tissue.any(axis=0))
        return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 1)


def slide_grid(slide_hw: tuple[int, int], mpp_xy: tuple[float, float], model_mpp: float | None) -> SlideGrid:
    """The grid over a whole slide of `mpp_xy` µm per pixel at the model's pixel size (None: the slide's own)."""
    wanted = (mpp_xy[0] * mpp_xy[1])**0.5 if model_mpp is None else model_mpp
    height, width = (max(int(side * mpp / wanted + 0.5 + 1e-9), 1) for side, mpp in zip(slide_hw, mpp_xy[::-1], strict=True))
    return SlideGrid(width, height, wanted, scale_xy=(slide_hw[1] / width, slide_hw[0] / height))
