"""The Annotate tab: outline a few glands and a little stroma, and take away what training needs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from gland_space import messages
from gland_space.analysis import analyse
from gland_space.annotation import (
    AnnotationError,
    Drawing,
    budget,
    build_command,
    dataset_file,
    decode_mask,
    make_drawing,
    mask_file,
)
from gland_space.colours import data_uri, hex_colour
from gland_space.demo import Demo, Loaded
from gland_space.examples import Example
from gland_space.pictures import read_picture
from gland_space.pixel_size import shown_mpp, typed_mpp
from gland_space.runner import Cancelled, Finished, Job
from gland_space.segment_tab import BUSY, MODEL_QUEUE
from gland_space.store import ExpiredError
from gland_space.uncertainty import gland_radius_px, suggest, uncertainty
from gland_space.view import picture_view
from gland_space.widgets import DOWNLOAD_JS, example_buttons, html_widget, picture_drop, pixel_size_field, widget_parts
from hf_gland.inference import ImageError, PixelSizeError
from hf_gland.labels import MaskError

STROMA_COLOUR = "#56b4e9"  # the background class is black on every map, which would not show on tissue
DOUBT_COLOUR = (213, 94, 0)
Value = dict[str, Any]


class AnnotateHandlers:
    """What happens on this tab, apart from the layout."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo

    def view(self, key: str) -> dict[str, Any] | None:
        """What the drawing area shows, or None for a picture that is no longer kept."""
        try:
            picture = self.demo.store.get(key).picture
        except ExpiredError:
            return None
        names = self.demo.class_names
        free = STROMA_COLOUR not in [hex_colour(i) for i in range(1, len(names))]
        colours = [STROMA_COLOUR if free else "#ffffff", *(hex_colour(i) for i in range(1, len(names)))]
        classes = [{"id": i, "name": name, "colour": colour}
                   for i, (name, colour) in enumerate(zip(("stroma", *names[1:]), colours, strict=True))]
        return picture_view(picture) | {"classes": classes}

    def hints(self, key: str) -> dict[str, Any] | None:
        """Where the model hesitates: an overlay with transparency, and places to outline next."""
        try:
            analysis = self.demo.store.get(key).analysis
        except ExpiredError:
            return None
        if analysis is None:
            return None
        doubt = uncertainty(analysis.prediction.confidence, analysis.num_classes)
        overlay = np.empty((*doubt.shape, 4), np.uint8)
        overlay[..., :3], overlay[..., 3] = DOUBT_COLOUR, np.round(doubt * 255)
        places = suggest(doubt, None, gland_radius_px(analysis.prediction.instances))
        return {"overlay": data_uri(overlay, "PNG"),
                "suggestions": [{"x": p.x_px, "y": p.y_px, "radius": p.radius_px} for p in places]}

    def alive(self, key: str) -> bool:
        """Called now and then while the page is open, so that an annotator may take a break. False if it is gone."""
        try:
            self.demo.store.get(key)
        except ExpiredError:
            return False
        return True

    def load(self, path: str | Path) -> tuple[str, Loaded]:
        """Read a picture at a size that can be drawn on. Raises ImageError."""
        limits = self.demo.limits
        with self.demo.reading:
            loaded = Loaded(read_picture(path, limits, max_side_px=limits.max_annotated_px), Path(path))
        return self.demo.keep(loaded), loaded

    def hesitate(self, value: Value | None, mpp: float | None, job: Job | None = None) -> Iterator["float | str"]:
        """Run the model: shares of the work done, then the key under which `hints` finds the result."""
        assert self.demo.model is not None
        loaded, model = self._picture(value), self.demo.model
        for step in self.demo.runner.follow(
                lambda job: analyse(model, loaded.picture, mpp, self.demo.limits, job.report), job):
            if isinstance(step, Finished):
                yield self.demo.keep(Loaded(loaded.picture, loaded.path, step.result))
            else:
                yield step

    def budget(self, value: Value | None) -> str:
        return budget(self._mask(value), len(self.demo.class_names))

    def drawing(self, value: Value | None, image_id: str, patient_id: str, mpp: float | None) -> Drawing:
        """What was drawn, checked. Raises AnnotationError, ExpiredError, MaskError."""
        return make_drawing(self._picture(value).picture, self._mask(value), image_id, patient_id, mpp)

    def _picture(self, value: Value | None) -> Loaded:
        if not value or not value.get("view"):
            raise AnnotationError("Load a picture first.")
        return self.demo.store.get(value["view"])

    def _mask(self, value: Value | None) -> np.ndarray:
        picture = self._picture(value).picture
        return decode_mask((value or {}).get("labels", ""), picture, len(self.demo.class_names))


def build_annotate_tab(demo: Demo, found: list[Example], segmented: gr.Textbox) -> None:
    """Lay out the tab and wire it; `segmented`: the key of the picture on the Segment tab."""
    handlers = AnnotateHandlers(demo)

    def view(key: str) -> dict[str, Any] | None:  # all three called by annotator.js
        return handlers.view(key)

    def hints(key: str) -> dict[str, Any] | None:
        return handlers.hints(key)

    def alive(key: str) -> bool:
        return handlers.alive(key)

    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290):
            drop = picture_drop(demo.limits, "annotate-drop")
            pick = example_buttons(found, "annotate-examples")
            reuse = gr.Button("Use the picture of the Segment tab", size="sm", elem_id="annotate-reuse")
            mpp = pixel_size_field("annotate-mpp")
            with gr.Group():
                image_id = gr.Textbox("", label="Image id", elem_id="annotate-image-id", max_lines=1, max_length=80)
                patient_id = gr.Textbox("", label="Patient id", elem_id="annotate-patient-id", max_lines=1, max_length=80,
                                        info="Never a name. Splits keep patients together.")
            status = html_widget("", "annotate-status", classes="gl-status")
        with gr.Column(scale=4, min_width=320):
            annotator = gr.HTML(None, **widget_parts("annotator"), server_functions=[view, hints, alive],
                                elem_id="annotator")
            with gr.Column(visible=False, elem_id="annotate-controls") as controls:
                spent = html_widget("", "annotate-budget")
                with gr.Row():
                    hesitate = gr.Button("Show where the model hesitates", elem_id="annotate-hesitate", size="sm",
                                         min_width=200, visible=demo.model is not None)
                    cancel = gr.Button("Cancel", variant="stop", size="sm", visible=False, elem_id="annotate-cancel",
                                       min_width=90)
                    save_mask = gr.Button("⤓ Sparse mask (PNG)", size="sm", elem_id="annotate-save-mask", min_width=150)
                    save_rows = gr.Button("⤓ Dataset row (zip)", variant="primary", size="sm", elem_id="annotate-save-rows",
                                          min_width=150)
                gr.Markdown(f"The zip holds `annotations/` (image, mask, `metadata.csv`) and `dataset/`, the finished row. "
                            f"To build a dataset from it, with more images if you like:\n```\n"
                            f"{build_command(demo.class_names)}\n```")
    ready_file = gr.File(visible="hidden", elem_classes="gl-hidden", label="file to download")
    shown = [annotator, status, controls, spent, mpp, image_id, hesitate, cancel]

    def ticket(request: gr.Request) -> str:
        return f"{request.session_hash}/annotate"

    def show(key: str, loaded: Loaded) -> list[Any]:
        picture = loaded.picture
        return [{"view": key}, messages.done("Ready: outline a gland", picture.notes), gr.update(visible=True),
                _budget_line("Nothing labelled yet."), shown_mpp(picture.mpp), picture.stem]

    def show_path(request: gr.Request, path: str | Path) -> list[Any]:
        demo.tickets.call_off(ticket(request))  # what the model says of the last picture is not wanted any more
        buttons = [gr.update(interactive=True), gr.update(visible=False)]
        try:
            return [*show(*handlers.load(path)), *buttons]
        except ImageError as error:
            return [None, messages.error(str(error)), gr.update(visible=False), "", gr.skip(), "", *buttons]

    def upload(path: str | None, request: gr.Request) -> list[Any]:
        return [gr.skip()] * (len(shown) + 1) if path is None else [*show_path(request, path), None]

    def example(event: gr.EventData, request: gr.Request) -> list[Any]:
        return show_path(request, found[int(event.index)].path)

    def from_segment(current: str | None, request: gr.Request) -> list[Any]:
        try:
            return show_path(request, demo.store.get(current).path)
        except ExpiredError:
            return [gr.skip(), messages.error("There is no picture on the Segment tab yet."), *[gr.skip()] * 6]

    def count(value: Value | None) -> str:
        try:
            return _budget_line(handlers.budget(value))
        except (AnnotationError, ExpiredError, MaskError) as error:
            return messages.error(str(error))

    def begin(request: gr.Request) -> list[Any]:
        demo.tickets.ask(ticket(request))
        return [messages.progress(None, "Waiting for the model…"), gr.update(interactive=False), gr.update(visible=True),
                gr.skip()]

    def idle(text: str, value: Any = None) -> list[Any]:
        return [text, gr.update(interactive=True), gr.update(visible=False), value or gr.skip()]

    def call_off(request: gr.Request) -> list[Any]:
        demo.tickets.call_off(ticket(request))
        return idle(messages.done("Cancelled"))

    def run(value: Value | None, given: str | None, request: gr.Request) -> Iterator[list[Any]]:
        job = demo.tickets.take(ticket(request))
        if job is None:  # called off while it waited, which the page has said already
            yield [gr.skip()] * 4
            return
        try:
            for step in handlers.hesitate(value, typed_mpp(given), job):
                if isinstance(step, str):
                    yield idle(messages.done("The overlay shows where the model hesitates; the circles are the places where "
                                             "an outline helps most"), {**(value or {}), "hints": step})
                else:
                    yield [messages.progress(step, "Looking…"), *[gr.skip()] * 3]
        except Cancelled:  # by the button or a new picture, either of which has said so
            yield [gr.skip()] * 4
        except (AnnotationError, ExpiredError, PixelSizeError) as error:
            yield idle(messages.error(str(error)))
        finally:
            demo.tickets.done(ticket(request), job)

    def save(kind: str, value: Value | None, image: str, patient: str, given: str | None) -> list[Any]:
        try:
            drawing = handlers.drawing(value, image, patient, typed_mpp(given))
            path = mask_file(drawing, demo.folder) if kind == "mask" else \
                dataset_file([drawing], demo.class_names, demo.folder)
        except (AnnotationError, ExpiredError, MaskError, PixelSizeError) as error:
            return [None, messages.error(str(error))]
        return [str(path), messages.done(f"{path.name} is ready")]

    private: dict[str, Any] = {"api_visibility": "private"}
    quick: dict[str, Any] = private | {"show_progress": "hidden"}
    direct: dict[str, Any] = private | {"queue": False}  # never held up by, or turned away for, those who wait
    drop.upload(upload, drop, [*shown, drop], **direct)
    pick.click(example, None, shown, **direct)
    reuse.click(from_segment, segmented, shown, **direct)
    annotator.input(count, annotator, spent, trigger_mode="always_last", queue=False, **quick)
    outputs = [status, hesitate, cancel, annotator]
    begun = hesitate.click(begin, None, outputs, queue=False, **quick)
    running = begun.then(run, [annotator, mpp], outputs, trigger_mode="multiple", concurrency_id=MODEL_QUEUE,
                         concurrency_limit=demo.limits.concurrency, **quick)
    running.failure(lambda: idle(messages.error(BUSY)), None, outputs, queue=False, **quick)
    cancel.click(call_off, None, outputs, queue=False, **quick)
    for kind, button in (("mask", save_mask), ("rows", save_rows)):
        button.click(lambda *values, kind=kind: save(kind, *values), [annotator, image_id, patient_id, mpp],
                     [ready_file, status], **direct).success(None, ready_file, None, js=DOWNLOAD_JS, **private)


def _budget_line(text: str) -> str:
    return f'<p class="gl-budget" role="status">Spent: {text}</p>'
