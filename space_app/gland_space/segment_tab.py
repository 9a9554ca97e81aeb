"""The Segment tab: a picture in, outlines and confidence out, sliders that need no model, and downloads."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from gland_space.analysis import Analysis, Choice, analyse, default_choice
from gland_space.demo import Demo, ExpiredError, Loaded
from gland_space.downloads import BUTTONS, write_download
from gland_space.page_parts import (
    DIRECT,
    DOWNLOAD_JS,
    PRIVATE,
    QUICK,
    Example,
    PictureTab,
    Update,
    done_html,
    drawing_widget,
    error_html,
    hidden_file,
    shown_mpp,
    typed_mpp,
)
from gland_space.runner import Finished, Job
from gland_space.view import choice_view, picture_view, result_view
from hf_gland.errors import HfGlandError


class SegmentTab(PictureTab):
    """Laid out and wired; `key` holds the key of the picture or result that it shows."""

    name, busy_text = "segment", "Segmenting…"

    def __init__(self, demo: Demo, found: list[Example]) -> None:
        super().__init__(demo, found)
        # The key of what is shown lives in the visitor's browser, so that a session the server forgets loses nothing.
        self.key = gr.Textbox("", visible="hidden", elem_classes="gl-hidden", label="key", elem_id="segment-key")
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=290):
                self.picture_inputs(demo.limits)
                self.page = gr.Slider(1, 2, value=1, step=1, label="Page", visible=False, elem_id="segment-page")
                self.pixel_size_input()
                with gr.Row():
                    self.run_buttons("Segment", variant="primary", interactive=False, min_width=100)
                self.status_line()
            with gr.Column(scale=4, min_width=320):
                self.viewer = drawing_widget("viewer", {"view": self.view, "alive": demo.alive}, "segment-viewer")
                with self.viewer, gr.Column(visible=False, elem_id="segment-controls") as self.controls:
                    self.lay_out_controls()
        self.ready_file = hidden_file()
        self.shown = [self.key, self.viewer, self.status, self.controls, self.page, self.mpp, self.start, self.cancel]
        self.answered = [self.viewer, self.controls, self.key, self.uncertain, self.min_area]
        self.wire()

    def lay_out_controls(self) -> None:
        with gr.Row():
            self.uncertain = gr.Slider(50, 100, value=75, step=1, elem_id="segment-uncertain", min_width=220,
                                       label="Uncertain below (mean confidence, %)",
                                       info="Glands below are dashed; places below are hatched.")
            self.min_area = gr.Slider(0, 5000, value=200, step=10, elem_id="segment-area", min_width=220,
                                      label="Smallest gland", info="Smaller ones are left out of everything.")
        with gr.Row(elem_id="segment-downloads"):
            self.buttons = {kind: gr.Button(f"⤓ {title}", size="sm", min_width=120, elem_id=f"download-{kind}",
                                            variant="primary" if kind == "zip" else "secondary")
                            for kind, title in BUTTONS.items()}

    def wire(self) -> None:
        picked = self.wire_picture()
        self.page.release(self.turn_page, [self.page, self.key, self.mpp], self.shown, **DIRECT)
        if self.demo.model is not None:
            self.wire_run([self.start.click, picked.success], [self.key, self.mpp, self.uncertain])
        sliders = [self.key, self.uncertain, self.min_area]
        gr.on([self.uncertain.input, self.min_area.input], self.slide, sliders, [self.viewer, self.status], queue=False,
              trigger_mode="always_last", **QUICK)
        for kind, button in self.buttons.items():
            button.click(partial(self.make_file, kind), sliders, self.ready_file, **DIRECT).success(
                None, self.ready_file, None, js=DOWNLOAD_JS, **PRIVATE)

    # ------------------------------------------------------------------------------------------------- what happens

    def view(self, key: str) -> dict[str, Any] | None:
        """What the result view draws, or None for a result that is no longer kept."""
        try:
            loaded = self.demo.store.get(key)
        except ExpiredError:
            return None
        return picture_view(loaded.picture) if loaded.analysis is None else result_view(loaded.analysis)

    def show(self, path: str | Path, page: int = 1, given_mpp: str | None = None) -> list[Any]:
        key, loaded = self.demo.load(path, page)
        picture = loaded.picture
        notes = picture.notes
        if picture.mpp is not None:
            notes = (*notes, f"Pixel size read from the file: {picture.mpp:g} µm. Please check it.")
        elif given_mpp is None:
            notes = (*notes, "The file does not state its pixel size; give it if you know it.")
        return [key, {"view": key}, done_html("Ready: press Segment", notes) if self.demo.model else "",
                gr.update(visible=False), gr.update(visible=picture.pages > 1, maximum=max(picture.pages, 2), value=page),
                shown_mpp(picture.mpp) if given_mpp is None else given_mpp,
                gr.update(interactive=self.demo.model is not None), gr.update(visible=False)]

    def show_nothing(self) -> list[Any]:
        return ["", None, "", gr.update(visible=False), gr.update(visible=False), gr.skip(), gr.update(interactive=False),
                gr.update(visible=False)]

    def turn_page(self, number: float, current: str | None, given: str | None, request: gr.Request) -> list[Any]:
        try:
            path = self.demo.store.get(current).path
        except ExpiredError as problem:
            return self.say(error_html(str(problem)))
        return self.show_path(request, path, partial(self.show, page=int(number), given_mpp=given))

    def answer(self, job: Job, key: str | None = None, given: str | None = None,
               uncertain_percent: float = 75) -> Iterator["float | tuple[str, list[Any]]"]:
        demo, mpp, begun = self.demo, typed_mpp(given), time.perf_counter()
        assert demo.model is not None
        loaded, model = demo.store.get(key), demo.model
        for step in demo.runner.follow(lambda job: analyse(model, loaded.picture, mpp, demo.limits, job.report), job):
            if not isinstance(step, Finished):
                yield step
                continue
            analysis: Analysis = step.result
            new_key = demo.keep(Loaded(loaded.picture, loaded.path, analysis))
            demo.store.drop(key)
            choice = Choice(uncertain_percent / 100, default_choice(analysis).min_area)
            device = "GPU" if model.segmenter.device.type == "cuda" else "CPU"
            text = f"Segmented in {time.perf_counter() - begun:.1f} s on the {device}"
            yield done_html(text, analysis.notes), [
                choice_view(new_key, analysis, choice), gr.update(visible=True), new_key,
                gr.update(minimum=round(100 * analysis.lowest_confidence)), _area_slider(analysis, choice)]

    def analysed(self, key: str | None) -> Analysis:
        analysis = self.demo.store.get(key).analysis
        if analysis is None:
            raise ExpiredError("Press Segment first.")
        return analysis

    def slide(self, current: str, uncertain_percent: float, area: float) -> list[Any]:
        """What the sliders show, without the model."""
        try:
            return [choice_view(current, self.analysed(current), Choice(uncertain_percent / 100, area)), gr.skip()]
        except ExpiredError as problem:
            return [gr.skip(), error_html(str(problem))]

    def make_file(self, kind: str, current: str | None, uncertain_percent: float, area: float) -> str:
        try:
            analysis = self.analysed(current)
            return str(write_download(kind, analysis, Choice(uncertain_percent / 100, area), self.demo.model_name,
                                      self.demo.out_folder()))
        except HfGlandError as problem:
            raise gr.Error(str(problem), print_exception=False) from problem


def _area_slider(analysis: Analysis, choice: Choice) -> Update:
    """The slider of the smallest area in the unit at hand, reaching to the largest gland's."""
    per_um = analysis.mpp is not None
    areas = [gland.area_um2 if per_um else gland.area_px for gland in analysis.prediction.glands]
    top = max([float(area or 0) for area in areas] + [4 * choice.min_area, 100.0])
    step = next(s for s in (1, 5, 10, 50, 100, 500, 1000, 5000, 10**9) if top / s <= 400)
    return gr.update(maximum=step * (int(top // step) + 1), step=step, value=choice.min_area,
                     label=f"Smallest gland ({'µm²' if per_um else 'px; no pixel size given'})")
