"""The Annotate tab: outline a few glands and a little stroma, and take away what training needs."""

import hashlib
from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

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
from gland_space.demo import Demo, ExpiredError, Loaded
from gland_space.page_parts import (
    DIRECT,
    DOWNLOAD_JS,
    PRIVATE,
    QUICK,
    Example,
    PictureTab,
    done_html,
    drawing_widget,
    error_html,
    hidden_file,
    html_widget,
    shown_mpp,
    typed_mpp,
)
from gland_space.runner import Finished, Job
from gland_space.view import data_uri, hex_colour, picture_view
from hf_gland.errors import HfGlandError
from hf_gland.inference.suggest import LEAST_SCORE, choose, places_of, uncertainty
from hf_gland.labels import IGNORE_INDEX

STROMA_COLOUR = "#56b4e9"  # the background class is black on every map, which would not show on tissue
UNCERTAIN_COLOUR = (213, 94, 0)
SUGGESTED_PLACES = 5
Value = dict[str, Any]


class AnnotateTab(PictureTab):
    """Laid out and wired; `segmented`: the key of the picture on the Segment tab."""

    name, busy_text = "annotate", "Looking…"

    def __init__(self, demo: Demo, found: list[Example], segmented: gr.Textbox) -> None:
        super().__init__(demo, found)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=290):
                self.picture_inputs(demo.limits)
                self.reuse = gr.Button("Use the picture of the Segment tab", size="sm", elem_id="annotate-reuse")
                self.pixel_size_input()
                with gr.Group():
                    self.image_id, self.patient_id = (
                        gr.Textbox("", label=label, elem_id=elem_id, max_lines=1, max_length=80, info=info)
                        for label, elem_id, info in (
                            ("Image id", "annotate-image-id", None),
                            ("Patient id", "annotate-patient-id", "Never a name. Splits keep patients together.")))
                self.status_line()
            with gr.Column(scale=4, min_width=320):
                self.annotator = drawing_widget(
                    "annotator", {"view": self.view, "hints": self.hints, "alive": demo.alive}, "annotator")
                with gr.Column(visible=False, elem_id="annotate-controls") as self.controls:
                    self.lay_out_controls()
        self.ready_file = hidden_file()
        self.shown = [self.annotator, self.status, self.controls, self.spent, self.mpp, self.image_id, self.start,
                      self.cancel]
        self.answered = [self.annotator]
        self.wire(segmented)

    def lay_out_controls(self) -> None:
        self.spent = html_widget("", "annotate-budget")
        with gr.Row():
            self.run_buttons("Show the model's uncertainty", size="sm", min_width=200,
                             visible=self.demo.model is not None)
            self.save_mask = gr.Button("⤓ Sparse mask (PNG)", size="sm", elem_id="annotate-save-mask", min_width=150)
            self.save_rows = gr.Button("⤓ Dataset row (zip)", variant="primary", size="sm", elem_id="annotate-save-rows",
                                       min_width=150)
        html_widget('<div class="gl-recipe"><p>The zip holds <code>annotations/</code> (image, mask, '
                    '<code>metadata.csv</code>), <code>dataset/</code>, the finished row, and a README. To build a dataset '
                    "from it, with more images if you like:</p>"
                    f"<pre><code>{escape(build_command(self.demo.class_names))}</code></pre></div>", "annotate-recipe")

    def wire(self, segmented: gr.Textbox) -> None:
        self.wire_picture()
        self.reuse.click(self.from_segment, segmented, self.shown, **DIRECT)
        self.annotator.submit(self.restore, self.annotator, self.shown, **DIRECT)  # annotator.js, after a reload
        self.annotator.input(self.count, self.annotator, self.spent, trigger_mode="always_last", queue=False, **QUICK)
        self.wire_run([self.start.click], [self.annotator, self.mpp])
        for kind, button in (("mask", self.save_mask), ("rows", self.save_rows)):
            button.click(partial(self.save, kind), [self.annotator, self.image_id, self.patient_id, self.mpp],
                         [self.ready_file, self.status], **DIRECT).success(None, self.ready_file, None, js=DOWNLOAD_JS,
                                                                           **PRIVATE)

    # ------------------------------------------------------------------------------------------------- what happens

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
        seen = hashlib.sha256(picture.rgb.tobytes() + repr((picture.rgb.shape, names)).encode()).hexdigest()
        return picture_view(picture) | {"classes": classes, "digest": seen}

    def hints(self, key: str) -> dict[str, Any] | None:
        """Where the model is uncertain: an overlay with transparency, and places to outline next."""
        try:
            loaded = self.demo.store.get(key)
        except ExpiredError:
            return None
        analysis = loaded.analysis
        if analysis is None:
            return None
        found = analysis.prediction
        uncertain = uncertainty(found.confidence, analysis.num_classes)
        overlay = np.empty((*uncertain.shape, 4), np.uint8)
        overlay[..., :3], overlay[..., 3] = UNCERTAIN_COLOUR, np.round(uncertain * 255)
        regions = places_of(uncertain, found.class_map, found.instances, loaded.outlined)
        places = choose(regions, SUGGESTED_PLACES, least=LEAST_SCORE)
        return {"overlay": data_uri(overlay, "PNG"),
                "suggestions": [{"x": p.centre_px[0], "y": p.centre_px[1], "radius": p.radius_px} for p in places]}

    def show(self, path: str | Path) -> list[Any]:
        """The picture at a size that can be drawn on."""
        return self.show_loaded(*self.demo.load(path, max_side_px=self.demo.limits.max_annotated_px))

    def show_loaded(self, key: str, loaded: Loaded) -> list[Any]:
        picture = loaded.picture
        return [{"view": key}, done_html("Ready: outline a gland", picture.notes), gr.update(visible=True),
                _budget_line("Nothing labelled yet."), shown_mpp(picture.mpp), picture.stem, gr.update(interactive=True),
                gr.update(visible=False)]

    def show_nothing(self) -> list[Any]:
        return [None, "", gr.update(visible=False), "", gr.skip(), "", gr.update(interactive=True),
                gr.update(visible=False)]

    def from_segment(self, current: str | None, request: gr.Request) -> list[Any]:
        try:
            return self.show_path(request, self.demo.store.get(current).path)
        except ExpiredError:
            return self.say(error_html("There is no picture on the Segment tab yet."))

    def restore(self, value: Value | None) -> list[Any]:
        """Show again what the page showed before it was reloaded."""
        key = (value or {}).get("view", "")
        try:
            return self.show_loaded(key, self.demo.store.get(key))
        except ExpiredError:
            values = self.show_nothing()
            values[self.shown.index(self.status)] = error_html(
                "The last picture is no longer kept here. Load it again: your drawing is still in this browser")
            return values

    def count(self, value: Value | None) -> str:
        try:
            return _budget_line(budget(self._mask(value), len(self.demo.class_names)))
        except HfGlandError as problem:
            return error_html(str(problem))

    def answer(self, job: Job, value: Value | None = None,
               given: str | None = None) -> Iterator["float | tuple[str, list[Any]]"]:
        demo, mpp = self.demo, typed_mpp(given)
        assert demo.model is not None
        loaded, model = self._picture(value), demo.model
        for step in demo.runner.follow(lambda job: analyse(model, loaded.picture, mpp, demo.limits, job.report), job):
            if not isinstance(step, Finished):
                yield step
                continue
            drawn = self._mask(value) != IGNORE_INDEX if (value or {}).get("labels") else None
            key = demo.keep(Loaded(loaded.picture, loaded.path, step.result, drawn))
            yield done_html("The overlay shows the model's uncertainty; the circles are the places where an outline helps "
                            "most"), [{**(value or {}), "hints": key}]

    def drawing(self, value: Value | None, image_id: str, patient_id: str, mpp: float | None) -> Drawing:
        """What was drawn, checked. Raises AnnotationError, ExpiredError, MaskError."""
        return make_drawing(self._picture(value).picture, self._mask(value), image_id, patient_id, mpp)

    def save(self, kind: str, value: Value | None, image: str, patient: str, given: str | None) -> list[Any]:
        try:
            drawing, folder = self.drawing(value, image, patient, typed_mpp(given)), self.demo.out_folder()
            path = mask_file(drawing, folder) if kind == "mask" else dataset_file(drawing, self.demo.class_names, folder)
        except HfGlandError as problem:
            return [None, error_html(str(problem))]
        return [str(path), done_html(f"{path.name} is ready")]

    def _picture(self, value: Value | None) -> Loaded:
        if not value or not value.get("view"):
            raise AnnotationError("Load a picture first.")
        return self.demo.store.get(value["view"])

    def _mask(self, value: Value | None) -> np.ndarray:
        picture = self._picture(value).picture
        return decode_mask((value or {}).get("labels", ""), picture, len(self.demo.class_names))


def _budget_line(text: str) -> str:
    return f'<p class="gl-budget" role="status">Spent: {text}</p>'
