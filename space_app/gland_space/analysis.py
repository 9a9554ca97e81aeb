"""One picture, segmented: what is computed once, what the visitor's choice keeps, and what the stage and files are given."""

import base64
import dataclasses
import io
import json
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image
from scipy import ndimage

from gland_space.model_source import LoadedModel
from gland_space.pictures import MEGAPIXEL, Limits
from hf_gland.export.formats import FORMATS, write_outputs
from hf_gland.export.polygons import Polygon, region_polygons
from hf_gland.glands import in_pixels_of
from hf_gland.imaging.pictures import Picture
from hf_gland.imaging.pixel_size import check_mpp, working_hw
from hf_gland.inference import Gland, GlandPrediction, PixelSizeError, PixelSizeWarning
from hf_gland.labels import BACKGROUND, IGNORE_INDEX, class_colour
from hf_gland.options import SMALLEST_GLAND_UM2, UNSURE_BELOW, ExportOptions, PostProcessing, area_in_px

MAX_SHOWN_PX = 2048  # longer side of what the browser draws; the analysis and the downloads keep their own size
KINDS = (*FORMATS, "zip")  # of files to download


@dataclass(frozen=True, eq=False)
class Analysis:
    """A picture and what the model says of it.

    `prediction` covers `picture.rgb` and holds everything that could be a gland, its ids without gaps, measured in pixels
    of the *file's* picture; its `probabilities` are emptied, since nothing that the demo shows needs them. µm per pixel:
    mpp of the file's picture, None when unknown; assumed_mpp, what was taken for it then, if anything; model_mpp, that the
    model was trained at, None when it does not say.
    """

    picture: Picture
    prediction: GlandPrediction
    mpp: float | None
    assumed_mpp: float | None
    model_mpp: float | None
    notes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        return len(self.prediction.id2label)

    @property
    def lowest_confidence(self) -> float:
        """What a guess among the classes would have."""
        return 1 / self.num_classes

    @property
    def nbytes(self) -> int:
        arrays = (self.picture.rgb, self.prediction.class_map, self.prediction.confidence, self.prediction.instances)
        return sum(array.nbytes for array in arrays)


@dataclass(frozen=True)
class Choice:
    """What the visitor says. uncertain_below: mean confidence, 0-1; min_area: µm² where the pixel size is known, else px
    of the file's picture; accepted, rejected: ids of glands."""

    uncertain_below: float = UNSURE_BELOW
    min_area: float = 0.0
    accepted: frozenset[int] = frozenset()
    rejected: frozenset[int] = frozenset()

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Choice":
        """The choice in what the browser sends; what is no number there counts as not said."""
        try:
            return cls(min(max(float(value["uncertain_below"]), 0.0), 1.0), max(float(value["min_area"]), 0.0),
                       *(frozenset(map(int, value.get(ids, ()))) for ids in ("accepted", "rejected")))
        except (KeyError, TypeError, ValueError, OverflowError):
            return cls()

    def view(self) -> dict[str, Any]:
        """The same for the browser."""
        return {"uncertain_below": self.uncertain_below, "min_area": self.min_area}


def analyse(model: LoadedModel, picture: Picture, mpp: float | None, limits: Limits,
            progress: Callable[[float], None] | None = None) -> Analysis:
    """Segment a picture. `mpp`: µm per pixel of the file's picture, None when unknown.

    Raises PixelSizeError with a message for the user.
    """
    notes, missing_mpp = list(picture.notes), model.segmenter.missing_mpp
    here = None
    if mpp is not None:
        check_mpp(mpp, picture.name)
        here = mpp * picture.reduction
        _check_work(picture, mpp, here, model.segmenter.mpp, limits)
    else:
        notes.append(_no_mpp_note(missing_mpp, picture.reduction))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PixelSizeWarning)  # said above, in the page's own words
        prediction = model.predict(picture.rgb, here, progress=progress, name=picture.name,
                                   post=PostProcessing(min_gland_area_px=limits.smallest_gland_px))
    prediction, dropped = _largest_glands(prediction, limits.max_glands)
    # Centroids stay in pixels of the prediction, as the table scales them.
    glands = tuple(in_pixels_of(gland, (picture.reduction, picture.reduction)) for gland in prediction.glands)
    if dropped:
        notes.append(f"Only the {limits.max_glands:,} largest of {limits.max_glands + dropped:,} glands are kept.")
    if prediction.left_out:
        notes.append(f"Left out: {prediction.left_out} of which the model is hardly sure that they are glands.")
    if unlike := prediction.look.sentence():
        notes.append(unlike)
    empty = np.empty((len(prediction.id2label), 0, 0), np.float32)
    lean = dataclasses.replace(prediction, probabilities=empty, glands=glands, mpp=mpp)
    assumed = None if missing_mpp is None else missing_mpp / picture.reduction
    return Analysis(picture, lean, mpp, assumed, model.segmenter.mpp, tuple(notes))


def _no_mpp_note(missing_mpp: float | None, reduction: float) -> str:
    """What was assumed of the file's picture, where `missing_mpp` µm per pixel were of the one that was segmented."""
    if missing_mpp is None:
        return "No pixel size given: sizes are in pixels."
    here = "" if reduction == 1 else f" as the reduced picture was taken to have {missing_mpp:g},"
    return (f"No pixel size given: {missing_mpp / reduction:.4g} µm per pixel was assumed,{here} as in the model's "
            "training, and sizes are in pixels. At another magnification the outlines will be wrong.")


def _check_work(picture: Picture, mpp: float, here: float, model_mpp: float | None, limits: Limits) -> None:
    try:
        height, width = working_hw(picture.rgb.shape[:2], here, model_mpp, picture.name)
    except PixelSizeError:
        height = width = 0
    if model_mpp is not None and not 0 < height * width <= limits.max_working_px:
        raise PixelSizeError(
            f"{picture.name}: {picture.full_hw[1]}×{picture.full_hw[0]} px of {mpp:g} µm are more than "
            f"{limits.max_working_px / MEGAPIXEL:.0f} million pixels at the model's {model_mpp:g} µm per pixel. Check the "
            "pixel size, or crop the picture")


def _largest_glands(prediction: GlandPrediction, count: int) -> tuple[GlandPrediction, int]:
    """The prediction with its `count` largest glands alone, and how many were dropped."""
    dropped = len(prediction.glands) - count
    if dropped <= 0:
        return prediction, 0
    largest = sorted(prediction.glands, key=lambda gland: -gland.area_px)[:count]
    return prediction.with_glands(sorted(largest, key=lambda gland: gland.id)), dropped


def _large_glands(analysis: Analysis, choice: Choice) -> list[Gland]:
    """The glands that are large enough, by predict's own rule, in order of their ids."""
    smallest_px = choice.min_area if analysis.mpp is None else area_in_px(choice.min_area, analysis.mpp)
    return [gland for gland in analysis.prediction.glands if gland.area_px >= smallest_px]


def kept_glands(analysis: Analysis, choice: Choice) -> list[Gland]:
    """The glands that are large enough and were not rejected, in order of their ids."""
    return [gland for gland in _large_glands(analysis, choice) if gland.id not in choice.rejected]


def chosen_prediction(analysis: Analysis, choice: Choice) -> GlandPrediction:
    """What the downloads hold: the glands that are kept, numbered from 1."""
    return analysis.prediction.with_glands(kept_glands(analysis, choice))


def default_choice(analysis: Analysis) -> Choice:
    """The sliders' first position: what `GlandSegmenter.predict` itself would drop is dropped."""
    if analysis.mpp is not None:
        return Choice(min_area=SMALLEST_GLAND_UM2)
    if analysis.assumed_mpp is not None:
        return Choice(min_area=float(area_in_px(SMALLEST_GLAND_UM2, analysis.assumed_mpp)))
    return Choice()


def reviewed_mask(analysis: Analysis, choice: Choice, hw: tuple[int, int]) -> np.ndarray:
    """Sparse labels uint8 [H, W] of size `hw`: of the glands that are large enough, those accepted (all that are kept, where
    none was accepted or rejected) with their class, and rejected ones as background; the rest 255."""
    reviewed = bool(choice.accepted or choice.rejected)
    label = np.full(len(analysis.prediction.glands) + 1, IGNORE_INDEX, np.uint8)
    for gland in _large_glands(analysis, choice):
        if gland.id in choice.rejected:
            label[gland.id] = BACKGROUND
        elif gland.id in choice.accepted or not reviewed:
            label[gland.id] = gland.class_id
    mask = label[analysis.prediction.instances]
    return mask[np.ix_(*(sampled(side, shown) for side, shown in zip(mask.shape, hw, strict=True)))]


def sampled(side: int, shown: int) -> np.ndarray:
    """Which of `side` pixels stand for each of `shown` ones."""
    return np.minimum((np.arange(shown) + 0.5) * side / shown, side - 1).astype(np.intp)


# ---------------------------------------------------------------------------------------------------------- for the stage


def stage_view(picture: Picture, analysis: Analysis | None = None) -> dict[str, Any]:
    """A picture, and if it (or a part of it) was segmented each pixel's gland and confidence, and each gland's outline and
    measures.

    `full`: (width, height) in the file; `mpp`: µm per pixel there; `origin`: of a part of a slide, its corner (x, y) there,
    from which GeoJSON counts. `part`: left, top, width and height of what was segmented, in pixels of the file from the
    picture's own corner. `data`: a PNG of that whose red + 256 · green is the gland's id and whose blue is
    255 · confidence; outlines are in its pixels.
    """
    height, width = _shown_hw(picture)
    rgb = picture.rgb
    if (height, width) != rgb.shape[:2]:
        rgb = np.asarray(Image.fromarray(rgb).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0))
    part = picture if analysis is None else analysis.picture
    corner = [part.origin_xy[i] - picture.origin_xy[i] for i in (0, 1)]
    view = {"name": picture.name, "width": width, "height": height, "full": list(picture.full_hw[::-1]),
            "mpp": picture.mpp if analysis is None else analysis.mpp, "image": data_uri(rgb, "JPEG"), "data": None,
            "glands": [], "part": [*corner, *part.full_hw[::-1]], "origin": list(picture.origin_xy)}
    if analysis is None:
        return view
    prediction = analysis.prediction
    pixels = np.ix_(*(sampled(side, shown) for side, shown in zip(part.rgb.shape[:2], _shown_hw(part), strict=True)))
    instances = prediction.instances[pixels]
    data = np.stack([instances & 255, instances >> 8, np.round(prediction.confidence[pixels] * 255)], axis=-1)
    per_um, outlines = analysis.mpp is not None, _outlines(instances)
    return view | {
        "data": data_uri(data.astype(np.uint8), "PNG"), "lowest": analysis.lowest_confidence, "ramp": cividis().tolist(),
        "classes": [{"id": i, "name": name, "colour": hex_colour(i)} for i, name in prediction.id2label.items()],
        "grid": list(_shown_hw(part)[::-1]), "unit": "µm" if per_um else "px",
        "glands": [_gland(gland, outlines.get(gland.id, ""), per_um) for gland in prediction.glands],
    }


def _shown_hw(picture: Picture) -> tuple[int, int]:
    """(height, width) at which the browser gets it."""
    height, width = picture.rgb.shape[:2]
    scale = min(MAX_SHOWN_PX / max(height, width), 1.0)
    return max(round(height * scale), 1), max(round(width * scale), 1)


def _outlines(instances: np.ndarray) -> dict[int, str]:
    """SVG path of each gland of int [H, W], along its pixels' edges."""
    found = {}
    for index, box in enumerate(ndimage.find_objects(instances), start=1):
        if box is not None:
            found[index] = svg_path(region_polygons(instances[box] == index), box[1].start, box[0].start)
    return found


def svg_path(polygons: list[Polygon], left: int, top: int) -> str:
    """Polygons with vertical and horizontal edges, shifted by (left, top), as the data of an SVG path."""
    parts = []
    for rings in polygons:
        for ring in rings:
            x, y = (ring[0] + (left, top)).tolist()
            steps = np.diff(ring, axis=0).tolist()[:-1]  # the last edge is drawn by closing the path
            parts.append(f"M{x} {y}" + "".join(f"h{dx}" if dx else f"v{dy}" for dx, dy in steps) + "z")
    return "".join(parts)


def _gland(gland: Gland, outline: str, per_um: bool) -> dict[str, Any]:
    area, perimeter = (gland.area_um2, gland.perimeter_um) if per_um else (gland.area_px, gland.perimeter_px)
    return {"id": gland.id, "class": gland.class_id, "outline": outline, "pixels": gland.area_px,
            "area": round(area or 0, 1), "perimeter": round(perimeter or 0, 1),
            "eccentricity": round(gland.eccentricity, 3), "mean": round(gland.mean_confidence, 4),
            "low": round(gland.low_confidence_share, 4), "border": gland.touches_border}


def hex_colour(class_id: int) -> str:
    return "#" + bytes(class_colour(class_id)).hex()


@cache
def cividis() -> np.ndarray:
    """uint8 [256, 3], dark blue (lowest confidence) to yellow (highest)."""
    return np.round(matplotlib.colormaps["cividis"](np.arange(256))[:, :3] * 255).astype(np.uint8)


def data_uri(pixels: np.ndarray, kind: str) -> str:
    """A `data:` address of uint8 [H, W] or [H, W, 3], as PNG (exact) or JPEG."""
    buffer = io.BytesIO()
    options = {"compress_level": 1} if kind == "PNG" else {"quality": 92, "subsampling": 0}
    Image.fromarray(pixels).save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


# --------------------------------------------------------------------------------------------------------------- as files


def write_download(kind: str, analysis: Analysis, choice: Choice, model: str, folder: Path) -> Path:
    """Write one of KINDS into `folder`, with the name and bytes that predict.py gives it; returns its path.

    `model` names the model in the zip's settings.json.
    """
    stem = folder / analysis.picture.stem
    prediction, options = chosen_prediction(analysis, choice), export_options(analysis, choice)
    if kind != "zip":
        return write_outputs(stem, [kind], prediction, options)[0]
    path = stem.with_name(f"{stem.name}_glands.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for written in FORMATS.values():
            packed = zipfile.ZIP_STORED if written.ending.endswith(".png") else zipfile.ZIP_DEFLATED
            entry = zipfile.ZipInfo(stem.name + written.ending)
            entry.compress_type = packed
            with archive.open(entry, "w") as file:
                written.write(file, prediction, options)
        text = json.dumps(settings(analysis, choice, model), indent=2, ensure_ascii=False, allow_nan=False)
        archive.writestr("settings.json", text, zipfile.ZIP_DEFLATED)
    return path


def export_options(analysis: Analysis, choice: Choice) -> ExportOptions:
    """Coordinates in pixels of the file, whatever the size at which its picture, or which part of it, was segmented."""
    full_h, full_w = analysis.picture.full_hw
    height, width = analysis.picture.rgb.shape[:2]
    return ExportOptions(unsure_below=choice.uncertain_below, scale_xy=(full_w / width, full_h / height),
                         origin_xy=analysis.picture.origin_xy)


def settings(analysis: Analysis, choice: Choice, model: str) -> dict[str, Any]:
    """How the files were made, for the record."""
    picture = analysis.picture
    return {"picture": picture.name, "page": picture.page, "width_px": picture.full_hw[1],
            "height_px": picture.full_hw[0], "origin_xy_px": list(picture.origin_xy), "reduction": picture.reduction,
            "mpp": analysis.mpp, "model": model, "model_mpp": analysis.model_mpp,
            "classes": {str(i): n for i, n in analysis.prediction.id2label.items()},
            "unsure_below": choice.uncertain_below, "min_area": choice.min_area,
            "min_area_unit": "px" if analysis.mpp is None else "µm²", "notes": list(analysis.notes),
            **({"rejected_glands": len(choice.rejected)} if choice.rejected else {}),
            "purpose": "research use only, not for diagnosis"}
