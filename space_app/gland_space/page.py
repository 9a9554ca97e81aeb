"""The whole page, and its two tabs of pictures. Segment: a picture or slide in, outlines and confidence out, sliders that
need no model, and downloads. Annotate: outline a few glands and a little stroma, and take away what training needs."""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from starlette.middleware import Middleware

from gland_space.about_tab import build_about_tab, header_html, no_model_html
from gland_space.analysis import Analysis, Choice, default_choice, hex_colour, reviewed_mask, write_download
from gland_space.annotation import (
    SAVED,
    AnnotationError,
    Drawing,
    budget,
    build_command,
    decode_mask,
    encode_mask,
    make_drawing,
)
from gland_space.api import build_api
from gland_space.demo import Demo, ExpiredError, Loaded
from gland_space.page_parts import (
    DIRECT,
    QUICK,
    Example,
    PictureTab,
    Update,
    digest,
    done_html,
    error_html,
    examples,
    html_widget,
    key_of,
    known_mpp,
    shown_mpp,
    static_text,
    typed_mpp,
)
from gland_space.server import Guard
from gland_space.slides import part_of, read_part
from hf_gland.errors import HfGlandError
from hf_gland.imaging.pictures import reduced
from hf_gland.imaging.pixel_size import check_mpp
from hf_gland.inference.suggest import LEAST_SCORE, choose, places_of, uncertainty
from hf_gland.labels import IGNORE_INDEX

TITLE = "Gland segmentation from a few outlined glands"
SESSIONS = 200  # that gradio remembers; each was measured to take about half a megabyte
SYSTEM_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "DejaVu Sans", "sans-serif"]
MONO_FONTS = ["ui-monospace", "SFMono-Regular", "Menlo", "DejaVu Sans Mono", "monospace"]
BUTTONS = {"zip": "All files (zip)", "mask": "Mask (PNG)", "confidence": "Confidence (PNG)",
           "geojson": "GeoJSON for QuPath", "csv": "Table (CSV)"}
EXAMPLE_TEXT = "An example result, on synthetic tissue: click a gland or a row. Then drop a picture of your own"
STROMA_COLOUR = "#56b4e9"  # the background class is black on every map, which would not show on tissue
SUGGESTED_PLACES = 5
LOST = "The last picture is no longer kept here. Load it again: your drawing is still in this browser"
Value = dict[str, Any]  # of a stage


def build_page(demo: Demo) -> gr.Blocks:
    """The page as gradio Blocks with its queue set up; `launch_options` says how to serve it."""
    found = examples()
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        html_widget(header_html(demo), "header")
        if demo.model is None:
            html_widget(no_model_html(demo.problem), "no-model-page")
        with gr.Tabs() as tabs:
            with gr.Tab("Segment", id="segment"):
                segment = SegmentTab(demo, found)
            with gr.Tab("Annotate", id="annotate"):
                AnnotateTab(demo, found, segment, tabs)
            with gr.Tab("About", id="about"):
                build_about_tab(demo)
        build_api(demo)

        def leave(request: gr.Request) -> None:
            for tab in ("segment", "annotate"):
                demo.tickets.call_off(f"{request.session_hash}/{tab}")

        page.unload(leave)
        if demo.example is not None:
            page.load(segment.show_example, None, segment.shown, **DIRECT)
    page.queue(max_size=demo.limits.queue_size, default_concurrency_limit=4)
    return page


def launch_options(demo: Demo, hosts: Collection[str] | None = ()) -> dict[str, Any]:
    """Arguments of `Blocks.launch` apart from the address: no outside fonts, no history, bounded sessions and uploads.

    `hosts`: names that the server answers to beside addresses and `localhost`; None: all.
    """
    theme = gr.themes.Base(primary_hue="emerald", secondary_hue="emerald", neutral_hue="slate", font=SYSTEM_FONTS,
                           font_mono=MONO_FONTS, radius_size="md").set(
        button_primary_background_fill="#00795a", button_primary_background_fill_hover="#006249",
        button_primary_background_fill_dark="#00795a", button_primary_background_fill_hover_dark="#00936e",
        body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500", link_text_color="#00795a",
        link_text_color_hover="#006249",
        button_primary_text_color="white", button_primary_text_color_dark="white", slider_color="#00795a",
        slider_color_dark="#35c99a")
    return {"theme": theme, "css": static_text("stage.css"), "footer_links": ["api", "settings"], "run_history": False,
            "enable_monitoring": False, "ssr_mode": False, "max_file_size": f"{demo.limits.max_file_mb}mb",
            "state_session_capacity": SESSIONS,
            "app_kwargs": {"middleware": [Middleware(Guard, folder=demo.folder, limits=demo.limits, hosts=hosts)]}}


class SegmentTab(PictureTab):
    name, busy_text, accepted = "segment", "Segmenting…", "Picture or slide: PNG, JPEG, TIFF, SVS, NDPI…"

    def __init__(self, demo: Demo, found: list[Example]) -> None:
        super().__init__(demo, found)
        self.shown += [self.page]
        picked = self.wire_picture()
        self.page.release(self.turn_page, [self.page, self.stage, self.mpp], self.shown, **DIRECT)
        if demo.model is not None:
            self.wire_run([self.start.click, picked.success])
        for kind, button in self.buttons.items():
            self.wire_download(button, partial(self.make_file, kind), [])

    def lay_out_inputs(self) -> None:
        self.page = gr.Slider(1, 2, value=1, step=1, label="Page", visible=False, elem_id="segment-page")
        self.run_buttons("3. Segment", variant="primary", interactive=False)

    def lay_out_controls(self) -> None:
        with gr.Row(elem_id="segment-downloads"):
            self.buttons = {kind: gr.Button(f"⤓ {title}", size="sm", min_width=120, elem_id=f"download-{kind}",
                                            variant="primary" if kind == "zip" else "secondary")
                            for kind, title in BUTTONS.items()}

    # ------------------------------------------------------------------------------------------------- what happens

    def show_loaded(self, key: str, loaded: Loaded) -> Update:
        picture = loaded.picture
        notes = (*picture.notes, "The file does not state its pixel size; give it if you know it." if picture.mpp is None
                 else f"Pixel size read from the file: {picture.mpp:g} µm. Please check it.")
        ready = ("Ready: zoom to a part and press Segment, or draw a rectangle (▭) first" if loaded.is_slide else
                 "Ready: press Segment")
        return {self.stage: {"view": key}, self.controls: gr.update(visible=False),
                self.status: done_html(ready, notes) if self.demo.model else "",
                self.page: gr.update(visible=picture.pages > 1, maximum=max(picture.pages, 2), value=picture.page)}

    def turn_page(self, number: float, value: Value | None, mpp: str, request: gr.Request) -> Update:
        try:
            path = self.demo.store.get(key_of(value)).path
        except ExpiredError as problem:
            return {self.status: error_html(str(problem))}
        return self.show(request, path, int(number)) | {self.mpp: mpp}

    def answer_view(self, key: str, analysis: Analysis, value: Value | None) -> Update:
        self.demo.store.drop(key_of(value))
        choice = replace(default_choice(analysis), uncertain_below=Choice.of(value or {}).uncertain_below)
        return {self.stage: {"view": key} | choice.view(), self.controls: gr.update(visible=True)}

    def show_example(self) -> Update:
        """The result that was prepared when the demo started, for who has just come."""
        loaded = self.demo.example_result()
        if loaded is None or loaded.analysis is None:
            return {self.status: gr.skip()}
        shown = self.answer_view(self.demo.store.put(loaded, 0), loaded.analysis, None)
        return shown | {self.stage: shown[self.stage] | {"example": True}, self.status: done_html(EXAMPLE_TEXT),
                        self.mpp: shown_mpp(loaded.analysis.mpp), self.start: gr.update(interactive=True)}

    def make_file(self, kind: str, value: Value | None) -> Path:
        analysis = self.demo.store.get(key_of(value)).analysis
        if analysis is None:
            raise ExpiredError("Press Segment first.")
        return write_download(kind, analysis, Choice.of(value or {}), self.demo.model_name, self.demo.out_folder())


class AnnotateTab(PictureTab):
    """`segment`: the tab whose picture, and whose glands, can be taken over; `tabs`, which hold both."""

    name, busy_text, accepted = "annotate", "Looking…", "Picture: PNG, JPEG or TIFF"

    def __init__(self, demo: Demo, found: list[Example], segment: SegmentTab, tabs: gr.Tabs) -> None:
        self.max_side_px = demo.limits.max_annotated_px
        super().__init__(demo, found)
        self.shown += [self.spent, self.image_id]
        self.wire_picture()
        self.wire_run([self.start.click])
        taken = [segment.stage, segment.mpp]
        self.reuse.click(lambda value, mpp: self.take_over(value, mpp, False), taken, self.shown, **DIRECT)
        segment.stage.submit(lambda value, mpp: self.take_over(value, mpp, True), taken, self.shown, **DIRECT).then(
            lambda: gr.update(selected="annotate"), None, tabs, **DIRECT)
        self.stage.submit(self.restore, self.stage, self.shown, **DIRECT)  # loading.js, after a reload
        self.stage.input(self.count, self.stage, self.spent, trigger_mode="always_last", queue=False, **QUICK)
        for kind, button in self.buttons.items():
            self.wire_download(button, partial(self.save, kind), [self.image_id, self.patient_id, self.mpp])

    def lay_out_inputs(self) -> None:
        self.reuse = gr.Button("Use the picture of the Segment tab", size="sm", elem_id="annotate-reuse")
        with gr.Group():
            self.image_id, self.patient_id = (
                gr.Textbox("", label=label, elem_id=elem_id, max_lines=1, max_length=80, info=info)
                for label, elem_id, info in (
                    ("Image id", "annotate-image-id", None),
                    ("Patient id", "annotate-patient-id", "Never a name. Splits keep patients together.")))

    def lay_out_controls(self) -> None:
        self.spent = html_widget("", "annotate-budget")
        self.run_buttons("Show where the model is uncertain", size="sm", visible=self.demo.model is not None)
        with gr.Row():
            self.buttons = {kind: gr.Button(f"⤓ {title}", size="sm", elem_id=f"annotate-save-{kind}", min_width=150,
                                            variant="primary" if kind == "rows" else "secondary")
                            for kind, (title, _) in SAVED.items()}
        html_widget('<div class="gl-recipe"><p>The zip holds <code>annotations/</code> (image, mask, '
                    '<code>metadata.csv</code>), <code>dataset/</code>, the finished row, and a README. To build a dataset '
                    "from it, with more images if you like:</p>"
                    f"<pre><code>{escape(build_command(self.demo.class_names))}</code></pre></div>", "annotate-recipe")

    # ------------------------------------------------------------------------------------------------- what happens

    def view(self, key: str) -> dict[str, Any] | None:
        view = super().view(key)
        if view is None:
            return None
        names = self.demo.class_names
        free = STROMA_COLOUR not in [hex_colour(i) for i in range(1, len(names))]
        colours = [STROMA_COLOUR if free else "#ffffff", *(hex_colour(i) for i in range(1, len(names)))]
        classes = [{"id": i, "name": name, "colour": colour}
                   for i, (name, colour) in enumerate(zip(("stroma", *names[1:]), colours, strict=True))]
        return view | {"classes": classes, "digest": digest(self.demo.store.get(key).picture, names)}

    def suggest(self, value: dict[str, Any]) -> list[dict[str, float]]:
        """The places where the model is most uncertain, away from what is drawn."""
        try:
            loaded = self.demo.store.get(key_of(value))
            if loaded.analysis is None:
                return []
            outlined = self._mask(value) != IGNORE_INDEX if value.get("labels") else None
        except HfGlandError:
            return []
        found = loaded.analysis.prediction
        uncertain = uncertainty(found.confidence, loaded.analysis.num_classes)
        regions = places_of(uncertain, found.class_map, found.instances, outlined)
        return [{"x": place.centre_px[0], "y": place.centre_px[1], "radius": place.radius_px}
                for place in choose(regions, SUGGESTED_PLACES, least=LEAST_SCORE)]

    def show_loaded(self, key: str, loaded: Loaded) -> Update:
        picture = loaded.picture
        return {self.stage: {"view": key}, self.status: done_html("Ready: outline a gland", picture.notes),
                self.controls: gr.update(visible=True), self.spent: _budget_line("Nothing labelled yet."),
                self.image_id: picture.stem}

    def take_over(self, value: Value | None, given_mpp: str | None, with_glands: bool) -> Update:
        """The picture of the Segment tab at a size that can be drawn on, `with_glands` as they were reviewed there, and the
        pixel size that they were found at, or else the one that is given there."""
        try:
            loaded = self.demo.store.get(key_of(value))
            analysis = loaded.analysis  # of the picture before it is made smaller
            if analysis is None:
                picture, typed = loaded.picture, typed_mpp(given_mpp)
                known = None if typed is None else check_mpp(typed, picture.name)
                loaded = replace(loaded, picture=replace(picture, mpp=known))
            if loaded.is_slide:
                loaded = self._part(loaded, value)
            if max(loaded.picture.rgb.shape) > self.demo.limits.max_annotated_px:
                key, shown = self.demo.load(loaded.path, loaded.picture.page, self.max_side_px, mpp=known_mpp(loaded))
            else:
                key, shown = self.demo.keep(loaded), loaded
        except HfGlandError as problem:
            return {self.status: error_html(str(problem) if key_of(value) else "There is no picture on the Segment tab yet")}
        update = self.show_loaded(key, shown) | {self.mpp: shown_mpp(known_mpp(loaded))}
        if with_glands and analysis is not None:
            labels = reviewed_mask(analysis, Choice.of(value or {}), shown.picture.rgb.shape[:2])
            update |= {self.stage: {"view": key, "given": encode_mask(labels), "edit": (value or {}).get("edit")}}
        return update

    def _part(self, slide: Loaded, value: Value | None) -> Loaded:
        """The part of a slide that was segmented, or else the one that is chosen there, at a size that can be drawn on."""
        demo, analysis = self.demo, slide.analysis
        if analysis is None:
            model_mpp = None if demo.model is None else demo.model.segmenter.mpp
            picture = read_part(slide.path, slide.picture, part_of(value, slide.picture.full_hw), slide.picture.mpp,
                                model_mpp, demo.limits)
        else:
            picture = analysis.picture
        if max(picture.rgb.shape) > demo.limits.max_annotated_px:
            picture = replace(reduced(picture, demo.limits.max_annotated_px), mpp=known_mpp(slide))
            analysis = None
        return Loaded(picture, slide.path, analysis)

    def restore(self, value: Value | None) -> Update:
        """Show again what the page showed before it was reloaded."""
        key = key_of(value)
        try:
            loaded = self.demo.store.get(key)
            return self.show_loaded(key, loaded) | {self.mpp: shown_mpp(known_mpp(loaded))}
        except ExpiredError:
            return {self.stage: None, self.status: error_html(LOST)}

    def count(self, value: Value | None) -> str:
        try:
            return _budget_line(budget(self._mask(value), len(self.demo.class_names)))
        except HfGlandError as problem:
            return error_html(str(problem))

    def answer_view(self, key: str, analysis: Analysis, value: Value | None) -> Update:
        return {self.stage: {**(value or {}), "view": key}}

    def save(self, kind: str, value: Value | None, image: str, patient: str, given_mpp: str) -> Path:
        mask = self._mask(value)
        drawing: Drawing = make_drawing(self._picture(value), mask, image, patient, typed_mpp(given_mpp))
        return SAVED[kind][1](drawing, self.demo.class_names, self.demo.out_folder())

    def _picture(self, value: Value | None) -> Any:
        if not key_of(value):
            raise AnnotationError("Load a picture first.")
        return self.demo.store.get(key_of(value)).picture

    def _mask(self, value: Value | None) -> np.ndarray:
        return decode_mask((value or {}).get("labels", ""), self._picture(value), len(self.demo.class_names))


def _budget_line(text: str) -> str:
    return f'<p class="gl-budget" role="status">Spent: {text}</p>'
