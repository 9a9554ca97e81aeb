"""The Segment tab: a picture in, outlines and confidence out, sliders that need no model, and downloads."""

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from gland_space.analysis import Analysis, Choice, default_choice
from gland_space.demo import Demo, ExpiredError, Loaded
from gland_space.downloads import BUTTONS, write_download
from gland_space.page_parts import DIRECT, PRIVATE, Example, PictureTab, Update, done_html, error_html, key_of, shown_mpp

# The stage takes the sliders' positions at once, and keeps them in its value for the downloads.
_CHOICE_JS = """(percent, area) => document.dispatchEvent(
  new CustomEvent("gl-choice", { detail: { uncertain_below: percent / 100, min_area: area } }))"""
EXAMPLE_TEXT = "An example result, on synthetic tissue: click a gland or a row. Then drop a picture of your own"


class SegmentTab(PictureTab):
    name, busy_text, accepted = "segment", "Segmenting…", "Picture or slide: PNG, JPEG, TIFF, SVS, NDPI…"

    def __init__(self, demo: Demo, found: list[Example]) -> None:
        super().__init__(demo, found)
        self.shown += [self.page]
        self.answered += [self.uncertain, self.min_area]
        picked = self.wire_picture()
        self.page.release(self.turn_page, [self.page, self.stage, self.mpp], self.shown, **DIRECT)
        if demo.model is not None:
            self.wire_run([self.start.click, picked.success], [self.uncertain])
        gr.on([self.uncertain.input, self.min_area.input], None, [self.uncertain, self.min_area], None, js=_CHOICE_JS,
              **PRIVATE)
        for kind, button in self.buttons.items():
            self.wire_download(button, partial(self.make_file, kind), [])

    def lay_out_inputs(self) -> None:
        self.page = gr.Slider(1, 2, value=1, step=1, label="Page", visible=False, elem_id="segment-page")
        self.run_buttons("3. Segment", variant="primary", interactive=False)

    def lay_out_controls(self) -> None:
        with gr.Row():
            self.uncertain = gr.Slider(50, 100, value=75, step=1, elem_id="segment-uncertain", min_width=220,
                                       label="Uncertain below (confidence, %)",
                                       info="Glands whose mean lies below are dashed; pixels below are tinted.")
            self.min_area = gr.Slider(0, 5000, value=200, step=1, elem_id="segment-area", min_width=220,
                                      label="Smallest gland", info="Smaller ones are left out of everything.")
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

    def turn_page(self, number: float, value: dict[str, Any] | None, mpp: str, request: gr.Request) -> Update:
        try:
            path = self.demo.store.get(key_of(value)).path
        except ExpiredError as problem:
            return {self.status: error_html(str(problem))}
        return self.show(request, path, int(number)) | {self.mpp: mpp}

    def answer_view(self, key: str, analysis: Analysis, *values: Any) -> Update:
        before, uncertain_percent = values
        self.demo.store.drop(key_of(before))
        choice = Choice(uncertain_percent / 100, default_choice(analysis).min_area)
        return {self.stage: {"view": key} | choice.view(), self.controls: gr.update(visible=True),
                self.uncertain: gr.update(minimum=round(100 * analysis.lowest_confidence), value=uncertain_percent),
                self.min_area: _area_slider(analysis, choice)}

    def show_example(self) -> Update:
        """The result that was prepared when the demo started, for who has just come."""
        loaded = self.demo.example_result()
        if loaded is None or loaded.analysis is None:
            return {self.status: gr.skip()}
        shown = self.answer_view(self.demo.store.put(loaded, 0), loaded.analysis, None, 75)
        return shown | {self.stage: shown[self.stage] | {"example": True}, self.status: done_html(EXAMPLE_TEXT),
                        self.mpp: shown_mpp(loaded.analysis.mpp), self.start: gr.update(interactive=True)}

    def make_file(self, kind: str, value: dict[str, Any] | None) -> Path:
        analysis = self.demo.store.get(key_of(value)).analysis
        if analysis is None:
            raise ExpiredError("Press Segment first.")
        return write_download(kind, analysis, Choice.of(value or {}), self.demo.model_name, self.demo.out_folder())


def _area_slider(analysis: Analysis, choice: Choice) -> dict[str, Any]:
    """The slider of the smallest area in the unit at hand, reaching to the largest gland's."""
    per_um = analysis.mpp is not None
    areas = [gland.area_um2 if per_um else gland.area_px for gland in analysis.prediction.glands]
    return gr.update(maximum=int(max([float(area or 0) for area in areas] + [4 * choice.min_area, 100.0])) + 1,
                     value=choice.min_area, label=f"Smallest gland ({'µm²' if per_um else 'px; no pixel size given'})")
