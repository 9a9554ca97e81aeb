"""The Segment tab: a picture in, outlines and confidence out, sliders that need no model, and downloads."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from gland_space import messages
from gland_space.analysis import Analysis, Choice, analyse, default_choice
from gland_space.demo import Demo, Loaded
from gland_space.downloads import write_download
from gland_space.examples import Example
from gland_space.pictures import read_picture
from gland_space.pixel_size import shown_mpp, typed_mpp
from gland_space.runner import Cancelled, Finished, Job
from gland_space.store import ExpiredError
from gland_space.view import choice_view, picture_view, result_view
from gland_space.widgets import DOWNLOAD_JS, example_buttons, html_widget, picture_drop, pixel_size_field, widget_parts
from hf_gland.inference import ImageError, PixelSizeError

DOWNLOADS = (("zip", "All files (zip)"), ("mask", "Mask (PNG)"), ("confidence", "Confidence (16-bit PNG)"),
             ("geojson", "GeoJSON for QuPath"), ("csv", "Table (CSV)"))
MODEL_QUEUE = "model"  # all events that run the model share this queue
BUSY = "Too many people are waiting, or the server had a problem. Please try again in a moment"
Update = dict[str, Any]


class SegmentHandlers:
    """What happens on this tab, apart from the layout."""

    def __init__(self, demo: Demo) -> None:
        self.demo = demo

    def view(self, key: str) -> dict[str, Any] | None:
        """What the result view draws, or None for a result that is no longer kept."""
        try:
            loaded = self.demo.store.get(key)
        except ExpiredError:
            return None
        return picture_view(loaded.picture) if loaded.analysis is None else result_view(loaded.analysis)

    def alive(self, key: str) -> bool:
        """Called now and then while the page is open: what it shows is kept. False if it is gone already."""
        try:
            self.demo.store.get(key)
        except ExpiredError:
            return False
        return True

    def load(self, path: str | Path, page: int = 1) -> tuple[str, Loaded]:
        """Read a picture and keep it; returns its key. Raises ImageError."""
        with self.demo.reading:
            loaded = Loaded(read_picture(path, self.demo.limits, page=page), Path(path))
        return self.demo.keep(loaded), loaded

    def segment(self, key: str | None, mpp: float | None,
                job: Job | None = None) -> Iterator["float | tuple[str, Analysis, float]"]:
        """Run the model on a kept picture: shares of the work done, then the result's key, itself, and the seconds.

        Closing the iterator stops the run. Raises ExpiredError, PixelSizeError, and Cancelled.
        """
        assert self.demo.model is not None
        loaded, model = self.demo.store.get(key), self.demo.model
        begun = time.perf_counter()
        for step in self.demo.runner.follow(
                lambda job: analyse(model, loaded.picture, mpp, self.demo.limits, job.report), job):
            if not isinstance(step, Finished):
                yield step
                continue
            new_key = self.demo.keep(Loaded(loaded.picture, loaded.path, step.result))
            self.demo.store.drop(key)
            yield new_key, step.result, time.perf_counter() - begun

    def choose(self, key: str | None, unsure_percent: float, min_area: float) -> dict[str, Any]:
        """What the sliders show, without the model. Raises ExpiredError."""
        analysis = self.demo.store.get(key).analysis
        if analysis is None or key is None:
            raise ExpiredError("Press Segment first.")
        return choice_view(key, analysis, Choice(unsure_percent / 100, min_area))

    def download(self, kind: str, key: str | None, unsure_percent: float, min_area: float) -> Path:
        """Write one of the files. Raises ExpiredError."""
        analysis = self.demo.store.get(key).analysis
        if analysis is None:
            raise ExpiredError("Press Segment first.")
        return write_download(kind, analysis, Choice(unsure_percent / 100, min_area), self.demo.model_name,
                              self.demo.folder)


def build_segment_tab(demo: Demo, found: list[Example]) -> gr.Textbox:
    """Lay out the tab and wire it; returns the key of the picture or result that it shows."""
    handlers = SegmentHandlers(demo)

    def view(shown_key: str) -> dict[str, Any] | None:  # both called by viewer.js
        return handlers.view(shown_key)

    def alive(shown_key: str) -> bool:
        return handlers.alive(shown_key)

    # The key of what is shown lives in the visitor's browser, so that a session the server forgets loses nothing.
    key = gr.Textbox("", visible="hidden", elem_classes="gl-hidden", label="key", elem_id="segment-key")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=290):
            drop = picture_drop(demo.limits, "segment-drop")
            pick = example_buttons(found, "segment-examples")
            page = gr.Slider(1, 2, value=1, step=1, label="Page", visible=False, elem_id="segment-page")
            mpp = pixel_size_field("segment-mpp")
            with gr.Row():
                start = gr.Button("Segment", variant="primary", interactive=False, elem_id="segment-start", min_width=100)
                cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="segment-cancel", min_width=100)
            status = html_widget("", "segment-status", classes="gl-status")
        with gr.Column(scale=4, min_width=320):
            viewer = gr.HTML(None, **widget_parts("viewer"), server_functions=[view, alive],
                             elem_id="segment-viewer")
            with viewer, gr.Column(visible=False, elem_id="segment-controls") as controls:
                with gr.Row():
                    unsure = gr.Slider(50, 100, value=75, step=1, elem_id="segment-unsure", min_width=220,
                                       label="Unsure below (mean confidence, %)",
                                       info="Glands below are dashed; places below are hatched.")
                    min_area = gr.Slider(0, 5000, value=200, step=10, elem_id="segment-area", min_width=220,
                                         label="Smallest gland", info="Smaller ones are left out of everything.")
                with gr.Row(elem_id="segment-downloads"):
                    buttons = {kind: gr.Button(f"⤓ {title}", size="sm", min_width=120, elem_id=f"download-{kind}",
                                               variant="primary" if kind == "zip" else "secondary")
                               for kind, title in DOWNLOADS}
    ready_file = gr.File(visible="hidden", elem_classes="gl-hidden", label="file to download")

    shown = [key, viewer, status, controls, page, mpp, start, cancel]

    def ticket(request: gr.Request) -> str:
        return f"{request.session_hash}/segment"

    def show_picture(request: gr.Request, path: str | Path, page_number: int = 1,
                     given_mpp: str | None = None) -> list[Any]:
        demo.tickets.call_off(ticket(request))  # or its result would take the place of the new picture
        try:
            new_key, loaded = handlers.load(path, page_number)
        except ImageError as error:
            return ["", None, messages.error(str(error)), gr.update(visible=False), gr.update(visible=False),
                    gr.skip(), gr.update(interactive=False), gr.update(visible=False)]
        picture = loaded.picture
        if picture.mpp is not None:
            notes = (*picture.notes, f"Pixel size read from the file: {picture.mpp:g} µm. Please check it.")
        else:
            notes = (*picture.notes, "The file does not state its pixel size; give it if you know it.") \
                if given_mpp is None else picture.notes
        return [new_key, {"view": new_key}, messages.done("Ready: press Segment", notes) if demo.model else "",
                gr.update(visible=False),
                gr.update(visible=picture.pages > 1, maximum=max(picture.pages, 2), value=page_number),
                shown_mpp(picture.mpp) if given_mpp is None else given_mpp, gr.update(interactive=demo.model is not None),
                gr.update(visible=False)]

    def upload(path: str | None, request: gr.Request) -> list[Any]:
        if path is None:
            return [gr.skip()] * (len(shown) + 1)
        return [*show_picture(request, path), None]

    def turn_page(number: float, current: str | None, given: str | None, request: gr.Request) -> list[Any]:
        try:
            return show_picture(request, demo.store.get(current).path, int(number), given)
        except ExpiredError as error:
            return [gr.skip(), gr.skip(), messages.error(str(error)), *[gr.skip()] * 5]

    def example(event: gr.EventData, request: gr.Request) -> list[Any]:
        return show_picture(request, found[int(event.index)].path)

    def begin(request: gr.Request) -> list[Any]:
        demo.tickets.ask(ticket(request))
        return [messages.progress(None, "Waiting for the model…"), gr.update(interactive=False), gr.update(visible=True)]

    def idle(text: str) -> list[Any]:
        """status, start, cancel, viewer, controls, key, unsure, min_area"""
        return [text, gr.update(interactive=True), gr.update(visible=False), *[gr.skip()] * 5]

    def call_off(request: gr.Request) -> list[Any]:
        demo.tickets.call_off(ticket(request))
        return idle(messages.done("Cancelled"))

    def run(current: str | None, given: str | None, unsure_percent: float, request: gr.Request) -> Iterator[list[Any]]:
        shown_percent = -1
        job = demo.tickets.take(ticket(request))
        if job is None:  # called off while it waited, which the page has said already
            yield [gr.skip()] * 8
            return
        try:
            for step in handlers.segment(current, typed_mpp(given), job):
                if isinstance(step, float):
                    if (percent := round(100 * step)) > shown_percent:
                        shown_percent = percent
                        yield [messages.progress(step, "Segmenting…"), *[gr.skip()] * 7]
                    continue
                new_key, analysis, seconds = step
                choice = Choice(unsure_percent / 100, default_choice(analysis).min_area)
                text = f"Segmented in {seconds:.1f} s on {_device(demo)}"
                yield [messages.done(text, analysis.notes), gr.update(interactive=True), gr.update(visible=False),
                       choice_view(new_key, analysis, choice), gr.update(visible=True), new_key,
                       gr.update(minimum=round(100 * analysis.lowest_confidence)), _area_slider(analysis, choice)]
        except Cancelled:  # by the button or a new picture, either of which has said so
            yield [gr.skip()] * 8
        except (ExpiredError, PixelSizeError, ImageError) as error:
            yield idle(messages.error(str(error)))
        finally:
            demo.tickets.done(ticket(request), job)

    def slide(current: str | None, unsure_percent: float, area: float) -> list[Any]:
        try:
            return [handlers.choose(current, unsure_percent, area), gr.skip()]
        except ExpiredError as error:
            return [gr.skip(), messages.error(str(error))]

    def make_file(kind: str, current: str | None, unsure_percent: float, area: float) -> str:
        try:
            return str(handlers.download(kind, current, unsure_percent, area))
        except ExpiredError as error:
            raise gr.Error(str(error), print_exception=False) from error

    private: dict[str, Any] = {"api_visibility": "private"}
    quick: dict[str, Any] = private | {"show_progress": "hidden"}
    direct: dict[str, Any] = private | {"queue": False}  # never held up by, or turned away for, those who wait
    drop.upload(upload, drop, [*shown, drop], **direct)
    page.release(turn_page, [page, key, mpp], shown, **direct)
    outputs = [status, start, cancel, viewer, controls, key, unsure, min_area]
    queue_options = {"concurrency_id": MODEL_QUEUE, "concurrency_limit": demo.limits.concurrency}
    if demo.model is None:
        pick.click(example, None, shown, **direct)
    else:
        for trigger in (start.click, pick.click(example, None, shown, **direct).success):
            begun = trigger(begin, None, [status, start, cancel], queue=False, **quick)
            running = begun.then(run, [key, mpp, unsure], outputs, trigger_mode="multiple", **queue_options, **quick)
            running.failure(lambda: idle(messages.error(BUSY)), None, outputs, queue=False, **quick)
        cancel.click(call_off, None, outputs, queue=False, **quick)
    gr.on([unsure.input, min_area.input], slide, [key, unsure, min_area], [viewer, status], queue=False,
          trigger_mode="always_last", **quick)
    for kind, button in buttons.items():
        button.click(partial(make_file, kind), [key, unsure, min_area], ready_file, **direct).success(
            None, ready_file, None, js=DOWNLOAD_JS, **private)
    return key


def _device(demo: Demo) -> str:
    assert demo.model is not None
    return "the GPU" if demo.model.segmenter.device.type == "cuda" else "the CPU"


def _area_slider(analysis: Analysis, choice: Choice) -> Update:
    """The slider of the smallest area in the unit at hand, reaching to the largest gland's."""
    per_um = analysis.mpp is not None
    areas = [gland.area_um2 if per_um else gland.area_px for gland in analysis.prediction.glands]
    top = max([float(area or 0) for area in areas] + [4 * choice.min_area, 100.0])
    step = next(s for s in (1, 5, 10, 50, 100, 500, 1000, 5000, 10**9) if top / s <= 400)
    return gr.update(maximum=step * (int(top // step) + 1), step=step, value=choice.min_area,
                     label=f"Smallest gland ({'µm²' if per_um else 'px; no pixel size given'})")
