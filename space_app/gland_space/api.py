"""Named endpoints for programs: typed, documented on the page, and usable with `gradio_client`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pandas as pd

from gland_space.analysis import (
    KINDS,
    Analysis,
    Choice,
    analyse,
    chosen_prediction,
    default_choice,
    export_options,
    settings,
    write_download,
)
from gland_space.annotation import dataset_file, make_drawing
from gland_space.demo import Demo
from gland_space.page_parts import MODEL_QUEUE, sent_file
from gland_space.pictures import read_picture, safe_name
from gland_space.runner import Cancelled, Finished
from gland_space.slides import read_whole
from hf_gland.errors import HfGlandError
from hf_gland.export.table import COLUMNS, gland_rows
from hf_gland.imaging.label_maps import map_mask, read_labels
from hf_gland.labels import check_mask
from hf_gland.options import UNSURE_BELOW


class RequestError(HfGlandError):
    """A request lacks something, or asks for what cannot be; the message is for the user."""


def build_api(demo: Demo) -> None:
    """Endpoints /segment, /dataset_row and /model."""
    options: dict[str, Any] = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": demo.limits.concurrency}
    with gr.Column(visible=False):
        if demo.model is not None:
            gr.Button().click(
                segment_endpoint(demo),
                [sent_file("picture: PNG, JPEG or TIFF"),
                 gr.Number(None, label="mpp: µm per pixel, empty if unknown"),
                 gr.Number(100 * UNSURE_BELOW, label="unsure_below: mean confidence in %, 50 to 100"),
                 gr.Number(None, label="min_area: smallest gland in µm² (px without mpp), empty for the default"),
                 gr.Number(1, label="page of a TIFF with several", precision=0)],
                [gr.JSON(label="summary"), gr.Dataframe(label="glands"), *(gr.File(label=kind) for kind in KINDS)],
                api_name="segment", **options)
        gr.Button().click(
            row_endpoint(demo),
            [sent_file("picture"),
             sent_file("sparse_mask: 8-bit PNG of class numbers, 255 = unlabelled"),
             gr.Textbox("", label="image_id, empty for the file's name"), gr.Textbox("", label="patient_id"),
             gr.Number(None, label="mpp: µm per pixel, empty if unknown")],
            gr.File(label="zip"), api_name="dataset_row", concurrency_limit=2)
        gr.Button().click(model_endpoint(demo), None, gr.JSON(label="model"), api_name="model", concurrency_limit=None)


def segment_endpoint(demo: Demo) -> Callable[..., Any]:
    def segment(picture: str, mpp: float | None = None, unsure_below: float = 100 * UNSURE_BELOW,
                min_area: float | None = None, page: int = 1, progress: gr.Progress = gr.Progress()) -> tuple[Any, ...]:  # noqa: B008
        """Segment the glands of one picture of H&E-stained tissue.

        Args:
            picture: PNG, JPEG or TIFF file or slide, uploaded or as a data: URI; addresses are not fetched. A pyramid is
                segmented at its full resolution where that is up to 16 million pixels at the model's pixel size; of one
                up to 25 million, or without a pixel size, the level that fits is, and the notes say so.
            mpp: µm per pixel of the picture; what the file states if it is not given, else the model's own is assumed
                and sizes are in pixels.
            unsure_below: glands with a lower mean confidence, in %, are counted and marked as uncertain.
            min_area: smaller glands are left out; µm² with mpp, else pixels.
            page: which page of a TIFF with several, from 1.

        Returns:
            A summary (with the settings and every note), the table of glands, and the files: GeoJSON for QuPath, table
            (CSV), overlay, class mask, gland ids (16 bit), confidence (16 bit) and confidence in colours (all PNG), the
            GeoJSON compressed, and all of them as a zip.
        """
        assert demo.model is not None
        model = demo.model
        try:
            if not picture:
                raise RequestError("give a picture")
            if unsure_below is None or not 0 <= unsure_below <= 100:
                raise RequestError("unsure_below is a confidence in %, 0 to 100")
            if min_area is not None and min_area < 0:
                raise RequestError("min_area is an area, 0 or more")
            loaded = read_whole(Path(picture), 1 if page is None else page, mpp, model.segmenter.mpp, demo.limits)
            known = loaded.mpp if mpp is None else mpp
            for step in demo.runner.follow(lambda job: analyse(model, loaded, known, demo.limits, job.report)):
                if isinstance(step, Finished):
                    return _answer(demo, step.result, unsure_below / 100, min_area)
                progress(step, desc="Segmenting")
            raise Cancelled
        except HfGlandError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Cancelled as error:
            raise gr.Error("cancelled", print_exception=False) from error

    return segment


def _answer(demo: Demo, analysis: Analysis, uncertain_below: float, min_area: float | None) -> tuple[Any, ...]:
    """The summary, the table and the files of a segmented picture."""
    choice = Choice(uncertain_below, default_choice(analysis).min_area if min_area is None else min_area)
    chosen = chosen_prediction(analysis, choice)
    table = pd.DataFrame(gland_rows(chosen, export_options(analysis, choice)), columns=COLUMNS[1:])
    summary = settings(analysis, choice, demo.model_name) | {"glands": len(table), "unsure": int(table["unsure"].sum())}
    folder = demo.out_folder()
    files = [str(write_download(kind, analysis, choice, demo.model_name, folder)) for kind in KINDS]
    return (json.loads(json.dumps(summary)), table, *files)


def row_endpoint(demo: Demo) -> Callable[..., str]:
    def dataset_row(picture: str, sparse_mask: str, image_id: str = "", patient_id: str = "",
                    mpp: float | None = None) -> str:
        """Pack one picture and its sparse mask as a dataset row.

        Args:
            picture: PNG, JPEG or TIFF file, of no longer side than `max_side_px` of /model.
            sparse_mask: 8-bit PNG of the picture's size: class numbers, 0 for stroma, 255 for unlabelled.
            image_id: letters, digits, '_', '-' and '.'; the file's name if empty.
            patient_id: the same; splits keep the images of one patient together.
            mpp: µm per pixel of the picture; what the file states if it is not given.

        Returns:
            A zip with annotations/ (for scripts/build_dataset.py folder --style as-is) and dataset/ (the finished row in
            Parquet).
        """
        try:
            if not picture or not sparse_mask:
                raise RequestError("give a picture and its sparse mask")
            loaded = read_picture(picture, demo.limits)
            if loaded.reduction > 1:
                raise RequestError(f"{loaded.name}: {loaded.full_hw[1]}×{loaded.full_hw[0]} px, above the limit of "
                                   f"{demo.limits.max_side_px} px a side for a dataset row; crop the picture and its mask")
            name = safe_name(sparse_mask)
            mask = map_mask(read_labels(Path(sparse_mask)), name, None)
            check_mask(mask, len(demo.class_names), name, image_hw=loaded.rgb.shape[:2])
            drawing = make_drawing(loaded, mask, image_id, patient_id, mpp if mpp is not None else loaded.mpp)
            return str(dataset_file(drawing, demo.class_names, demo.out_folder()))
        except HfGlandError as error:
            folder = f"{Path(sparse_mask or '.').parent}/"
            raise gr.Error(str(error).replace(folder, ""), print_exception=False) from error

    return dataset_row


def model_endpoint(demo: Demo) -> Callable[[], dict[str, Any]]:
    def model() -> dict[str, Any]:  # the name of the tool, where the endpoints are served as such
        """Name, classes and pixel size of the model, and what the demo accepts.

        Returns:
            `name` (null where there is no model), `classes`, `mpp` (µm per pixel, null if unstated), `max_side_px`,
            `max_file_mb`.
        """
        segmenter = None if demo.model is None else demo.model.segmenter
        return {"name": None if demo.model is None else demo.model_name,
                "classes": {str(i): name for i, name in enumerate(demo.class_names)},
                "mpp": None if segmenter is None else segmenter.mpp,
                "max_side_px": demo.limits.max_side_px, "max_file_mb": demo.limits.max_file_mb}

    return model
