"""How a picture is predicted: how it goes through the network, what is made of the probabilities, how it is written.

Each group is made once, where the user's wishes arrive, and passed on whole; a record holds them whole too.
"""

import math
from dataclasses import dataclass

from hf_gland.errors import HfGlandError, PixelSizeError

# Patch embeddings halve the side five times; below this a network's deepest map would be empty.
MIN_SIDE_PX = 32
# Most pictures are no larger and go through the network whole; a batch of such tiles takes 1.5 GiB with MiT-B0.
PICTURE_TILE_PX = 1024
SLIDE_TILE_PX = 512
# A disc 25 µm across. Of the 769 glands of GlaS train 3 % are smaller; in patients other than those trained on, most of what
# a network finds below is none.
SMALLEST_GLAND_UM2 = 500.0
# A disc 16 µm across. Smaller holes are filled; smaller sure cores are no second gland.
SMALLEST_DETAIL_UM2 = 200.0
MOST_VIEWS = 4  # over which a prediction can be averaged, see `model.views`
VIEWS_HELP = "average over so many views of a picture, mirrored and smaller: 2 are 1.6 times the work of 1, 4 are 3.3 times"
BACKENDS = ("auto", "torch", "onnx", "openvino")  # what computes on a CPU, see `inference.exported`
LOW_CONFIDENCE = 0.75  # a pixel below is of low confidence
# By the mean over its pixels. In patients held out, of the regions below the first one in eight is a gland, of those between
# the two four in ten, of all others nine in ten.
LEAST_GLAND_CONFIDENCE = 0.85
UNSURE_BELOW = 0.9
# Chosen, as is touching.CORE_SHARE, on held-out patients of GlaS train, with four models, and again with two that tell the
# border of glands.
CORE_PROBABILITY = 0.85


@dataclass(frozen=True)
class Tiling:
    """How a picture goes through the network, in pixels of the size that the model was trained at.

    `tile_px`: side of a tile; `stride_px`: from one tile to the next, 1 to `tile_px` (default: three quarters of a tile,
    rounded down); `batch_size`: tiles at a time; `views`: over how many views to average, 1 to 4 (see `model.views`);
    `match_stain`: what is unlike the model's training images is seen with their stain (see `imaging.appearance`);
    `precision`: see `model.precision.resolve_precision`. Raises HfGlandError for sizes that leave gaps.
    """

    tile_px: int = PICTURE_TILE_PX
    stride_px: int = None  # type: ignore[assignment]  # an int once made
    batch_size: int = 4
    views: int = 1
    precision: str = "auto"
    match_stain: bool = True

    def __post_init__(self) -> None:
        if self.stride_px is None:
            object.__setattr__(self, "stride_px", self.tile_px * 3 // 4)
        if not 1 <= self.stride_px <= self.tile_px or self.tile_px < MIN_SIDE_PX:
            raise HfGlandError(f"tiles of {self.tile_px} px, {self.stride_px} px apart: the tile must be at least "
                               f"{MIN_SIDE_PX} px and the stride between 1 and the tile, or pixels are left out")
        if not 1 <= self.views <= MOST_VIEWS:
            raise HfGlandError(f"views must lie between 1 and {MOST_VIEWS}, got {self.views}")
        if self.batch_size < 1:
            raise HfGlandError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True)
class PostProcessing:
    """How class probabilities become glands.

    `gland_threshold`: a pixel is gland where 1 − P(background) reaches it, of the likeliest gland class (None: the
    likeliest class of all, which for two classes is a threshold of 0.5). `split_touching`: divide a region that holds
    several cores of more than `core_probability` and of at least SMALLEST_GLAND_UM2 (see `touching`).
    `min_gland_confidence`: glands over whose pixels 1 − P(background) has a lower mean, before calibration, are removed
    (None: LEAST_GLAND_CONFIDENCE, or 0 where a `gland_threshold` is given). Glands and holes under `min_gland_area_um2` and
    up to `max_hole_area_um2` are removed and filled (None: SMALLEST_GLAND_UM2 and SMALLEST_DETAIL_UM2, or nothing where no
    pixel size is known); the same in pixels of the picture takes precedence. Raises HfGlandError.
    """

    gland_threshold: float | None = None
    split_touching: bool = True
    core_probability: float = CORE_PROBABILITY
    min_gland_confidence: float | None = None
    min_gland_area_um2: float | None = None
    max_hole_area_um2: float | None = None
    min_gland_area_px: int | None = None
    max_hole_area_px: int | None = None

    def __post_init__(self) -> None:
        for name in ("gland_threshold", "core_probability", "min_gland_confidence"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise HfGlandError(f"{name} must lie between 0 and 1, got {value}")
        for name in ("min_gland_area_um2", "max_hole_area_um2", "min_gland_area_px", "max_hole_area_px"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise HfGlandError(f"{name} must be an area, 0 or more, got {value}")

    @property
    def least_confidence(self) -> float:
        """Mean probability, 0-1, below which a gland is removed."""
        if self.min_gland_confidence is not None:
            return self.min_gland_confidence
        return LEAST_GLAND_CONFIDENCE if self.gland_threshold is None else 0.0

    def areas_px(self, mpp: float | None, name: str = "image") -> tuple[int, int, int]:
        """Smallest gland, largest hole and smallest core, in pixels of `mpp` µm (None: unknown).

        Raises PixelSizeError, naming the picture, where an area in µm² was asked for and the pixel size is unknown.
        """
        gland, detail = (0 if mpp is None else area_in_px(area, mpp) for area in (SMALLEST_GLAND_UM2, SMALLEST_DETAIL_UM2))

        def limit(what: str, usual: int) -> int:
            area_px, area_um2 = getattr(self, f"{what}_px"), getattr(self, f"{what}_um2")
            if area_px is not None:
                return area_px
            if area_um2 is None:
                return usual
            if mpp is None:
                raise PixelSizeError(f"{name}: {what}_um2 needs the image's µm per pixel; give mpp, or {what}_px instead")
            return area_in_px(area_um2, mpp)

        return limit("min_gland_area", gland), limit("max_hole_area", detail), gland


@dataclass(frozen=True)
class ExportOptions:
    """How glands are written.

    `simplify_px`: outlines in GeoJSON may move by this to have fewer points (0: exact). `unsure_below`: glands of a lower
    mean confidence are marked as unsure, 0-1. `scale_xy`: pixels of the image's file per pixel of the prediction, where
    that was made of a smaller copy, and `origin_xy`: where in the file the prediction begins; coordinates are written in
    pixels of the file. Raises HfGlandError.
    """

    simplify_px: float = 0.0
    unsure_below: float = UNSURE_BELOW
    scale_xy: tuple[float, float] = (1.0, 1.0)
    origin_xy: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        if not 0 <= self.simplify_px < math.inf:
            raise HfGlandError(f"simplify_px must be 0 or a positive number of pixels, got {self.simplify_px}")
        if not 0 <= self.unsure_below <= 1:
            raise HfGlandError(f"unsure_below must lie between 0 and 1, got {self.unsure_below}")


def area_in_px(area_um2: float, mpp: float) -> int:
    """An area in µm² as a number of pixels of `mpp` µm, rounded."""
    return round(area_um2 / mpp**2)
