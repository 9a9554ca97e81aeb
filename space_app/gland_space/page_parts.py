"""What the tabs are made of: messages, widgets, examples, and the tab that a picture comes into."""

import base64
import hashlib
import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
from PIL import Image

from gland_space.analysis import Analysis, analyse, stage_view
from gland_space.demo import Demo, ExpiredError, Loaded
from gland_space.pictures import SentFile
from gland_space.runner import Cancelled, Finished, Job
from gland_space.slides import TILE_PX, part_of, read_part, whole_slide_command
from hf_gland.errors import HfGlandError
from hf_gland.imaging.pictures import Picture
from hf_gland.inference import PixelSizeError

STATIC = Path(__file__).resolve().parent / "static"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
THUMBNAIL_PX = (240, 180)
MODEL_QUEUE = "model"  # all events that run the model share this queue
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUICK: dict[str, Any] = PRIVATE | {"show_progress": "hidden"}
DIRECT: dict[str, Any] = PRIVATE | {"queue": False}  # never held up by, or turned away for, those who wait

# Once the server has written the file, the browser saves it under its own name.
DOWNLOAD_JS = """(file) => {
  if (!file || !file.url) return;
  const link = Object.assign(document.createElement("a"), { href: file.url, download: file.orig_name || "" });
  document.body.append(link); link.click(); link.remove();
  document.dispatchEvent(new CustomEvent("gl-saved", { detail: link.download }));
}"""
EXAMPLE_JS = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (button) trigger("click", { index: Number(button.dataset.example) });
});"""


# ------------------------------------------------------------------------------------------------------------ messages


def error_html(text: str) -> str:
    """A message that stays until the next step; read out at once by screen readers."""
    return f'<p class="gl-message gl-error" role="alert">{_sentence(text)}</p>'


def done_html(text: str, notes: Iterable[str] = ()) -> str:
    """What was done, and what the user should know about it."""
    lines = "".join(f'<p class="gl-message gl-note">{_sentence(note)}</p>' for note in notes)
    return f'<p class="gl-message" role="status">{_sentence(text)}</p>{lines}'


def progress_html(share: float | None, text: str) -> str:
    """A bar at `share` (0-1), or one that moves to and fro while that is unknown (None)."""
    if share is None:
        return (f'<div class="gl-message" role="status">{escape(text)}<div class="gl-progress gl-waiting" '
                f'role="progressbar" aria-label="{escape(text)}"><i></i></div></div>')
    percent = round(100 * min(max(share, 0.0), 1.0))
    return (f'<div class="gl-message" role="status">{escape(text)} {percent} %<div class="gl-progress" '
            f'role="progressbar" aria-label="{escape(text)}" aria-valuemin="0" aria-valuemax="100" '
            f'aria-valuenow="{percent}"><i style="width: {percent}%"></i></div></div>')


def _sentence(text: str) -> str:
    text = escape(text.strip())
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


# ------------------------------------------------------------------------------------------------------------- widgets


@cache
def static_text(name: str) -> str:
    return (STATIC / name).read_text("utf-8")


def stage_widget(mode: str, functions: dict[str, Callable[[Any], Any]], elem_id: str) -> gr.HTML:
    """The stage on which a picture is looked at (`mode` "segment") or drawn on ("annotate").

    `functions` are what its script can call.
    """
    def plain_function(called: str, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def call(given: Any) -> Any:  # gradio marks it, which a method does not bear
            return work(given)
        call.__name__ = called
        return call

    script = "".join(static_text(f"{part}.js") for part in ("stage", "slide", "glands", "drawing", "loading"))
    return gr.HTML(None, html_template=static_text("stage.html").replace("MODE", mode), apply_default_css=False,
                   elem_id=elem_id, elem_classes=f"gl-viewer gl-{mode}", js_on_load=script,
                   server_functions=[plain_function(*item) for item in functions.items()])


def html_widget(value: str, elem_id: str, *, classes: str = "") -> gr.HTML:
    """A piece of the page without behaviour."""
    return gr.HTML(value, elem_id=elem_id, elem_classes=classes, js_on_load=None, apply_default_css=False)


def sent_file(label: str, **options: Any) -> gr.File:
    """A file that a visitor sends, as a SentFile. Of one that is named by its address gradio would fetch any size; this one
    does not."""
    file = gr.File(label=label, type="filepath", **options)
    keep, read = file.async_move_resource_to_block_cache, file.preprocess

    async def keep_sent(source: str | Path | None) -> str | None:
        if str(source).startswith(("http://", "https://")):
            raise gr.Error("send the file itself; addresses are not fetched", print_exception=False)
        return await keep(source)

    def read_sent(sent: Any) -> SentFile | None:
        path = read(sent)
        return None if path is None else SentFile.of(str(path), sent.orig_name or "")

    # A subclass would make gradio write a stub file here.
    vars(file).update(async_move_resource_to_block_cache=keep_sent, preprocess=read_sent)
    return file


# ------------------------------------------------------------------------------------------------------------ examples


@dataclass(frozen=True)
class Example:
    """A picture that ships with the demo; all of them are synthetic."""

    path: Path
    title: str


def examples() -> list[Example]:
    """The PNG files of the examples folder in the order of their names, `1-benign-glands.png` titled "benign glands"."""
    return [Example(path, path.stem.partition("-")[2].replace("-", " ") or path.stem)
            for path in sorted(EXAMPLES.glob("*.png"))]


def examples_html(found: list[Example]) -> str:
    """A row of buttons with thumbnails; each carries its number in `data-example`."""
    buttons = "".join(
        f'<button type="button" class="gl-example" data-example="{index}" aria-label="Example: {escape(example.title)}">'
        f'<img src="{_thumbnail(example.path)}" alt=""><span>{escape(example.title)}</span></button>'
        for index, example in enumerate(found))
    return f'<p class="gl-label">or an example (synthetic tissue)</p><div class="gl-examples-list">{buttons}</div>'


def _thumbnail(path: Path) -> str:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail(THUMBNAIL_PX)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


# ---------------------------------------------------------------------------------------------------------- pixel size


def typed_mpp(text: str | None) -> float | None:
    """µm per pixel as typed, with a point or a comma; None for an empty field. Raises PixelSizeError."""
    typed = (text or "").strip().removesuffix("µm").strip().replace(",", ".")
    if not typed:
        return None
    try:
        return float(typed)
    except ValueError as error:
        raise PixelSizeError(f"The pixel size '{typed[:40]}' is not a number; a 20× scan has about 0.5 (µm per pixel), a "
                             "40× scan about 0.25. Leave it empty if it is unknown") from error


def known_mpp(loaded: Loaded) -> float | None:
    """The pixel size that a picture was segmented at; before that, the one that it came with."""
    return loaded.picture.mpp if loaded.analysis is None else loaded.analysis.mpp


def shown_mpp(mpp: float | None) -> str:
    """A pixel size as the field shows it."""
    return "" if mpp is None else f"{mpp:g}"


# ------------------------------------------------------------------------------------------------------ a picture's tab

BUSY = "Too many people are waiting, or the server had a problem. Please try again in a moment"
# The stage shows lengths in the unit at hand, without asking the server.
_MPP_JS = "(text) => document.dispatchEvent(new CustomEvent('gl-mpp', {{ detail: {{ tab: '{}', text }} }}))"
Update = dict[gr.components.Component, Any]


class PictureTab:
    """Laid out and wired by its subclasses with the parts here. Handlers return what changes, by component.

    The key of what is shown lives in the stage's value, in the visitor's browser, so that a session that the server forgets
    loses nothing.
    """

    name: ClassVar[str]
    busy_text: ClassVar[str]
    accepted: ClassVar[str]
    max_side_px: int | None = None

    def __init__(self, demo: Demo, found: list[Example]) -> None:
        self.demo, self.found = demo, found
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=290):
                self.drop = sent_file(f"1. {self.accepted}, up to {demo.limits.max_file_mb} MB", height=130,
                                      elem_id=f"{self.name}-drop")
                self.pick = gr.HTML(examples_html(found), elem_id=f"{self.name}-examples", js_on_load=EXAMPLE_JS,
                                    apply_default_css=False, visible=bool(found))
                # A text field: an empty one means unknown, which a number field cannot show.
                self.mpp = gr.Textbox("", label="2. Pixel size (µm per pixel)", placeholder="unknown", max_length=20,
                                      elem_id=f"{self.name}-mpp", max_lines=1,
                                      info="Of the file; a 20× scan has about 0.5, a 40× scan about 0.25.")
                self.lay_out_inputs()
                self.status = html_widget("", f"{self.name}-status", classes="gl-status")
            with gr.Column(scale=4, min_width=320):
                self.stage = stage_widget(self.name, {"view": self.view, "alive": demo.alive, "suggest": self.suggest,
                                                      "tiles": demo.tiles}, f"{self.name}-stage")
                with self.stage, gr.Column(visible=False, elem_id=f"{self.name}-controls") as self.controls:
                    self.lay_out_controls()
        self.ready_file = gr.File(visible="hidden", elem_classes="gl-hidden", label="file to download")
        self.shown = [self.stage, self.status, self.controls, self.mpp, self.start, self.cancel]

    # What subclasses say.

    def lay_out_inputs(self) -> None:
        """Below the pixel size; `run_buttons` among it."""
        raise NotImplementedError

    def lay_out_controls(self) -> None:
        """Below the stage, once there is a picture or a result."""
        raise NotImplementedError

    def show_loaded(self, key: str, loaded: Loaded) -> Update:
        """What a new picture changes."""
        raise NotImplementedError

    def answer_view(self, key: str, analysis: Analysis, value: dict[str, Any] | None) -> Update:
        """What a result, kept under `key`, changes; `value` is the stage's when it was asked for."""
        raise NotImplementedError

    def suggest(self, value: dict[str, Any]) -> list[dict[str, float]]:
        """Where to outline next, for what is drawn."""
        return []

    # What they share.

    def run_buttons(self, start_text: str, **start: Any) -> None:
        with gr.Row():
            self.start = gr.Button(start_text, elem_id=f"{self.name}-start", min_width=100, **start)
            self.cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id=f"{self.name}-cancel", min_width=90)

    def view(self, key: str) -> dict[str, Any] | None:
        """What the stage shows, or None for a picture that is no longer kept."""
        try:
            loaded = self.demo.store.get(key)
        except ExpiredError:
            return None
        view = stage_view(loaded.picture, loaded.analysis)
        if loaded.is_slide:
            model = self.demo.model
            view |= {"tile_px": TILE_PX, "slide_mpp": loaded.picture.mpp, "digest": digest(loaded.picture),
                     "command": "" if model is None else whole_slide_command(loaded.own_name, model.source)}
        return view

    def show(self, request: gr.Request, path: str | Path, page: int = 1) -> Update:
        """What a picture's file changes; what the model would say of the last picture is not wanted any more."""
        self.demo.tickets.call_off(self.ticket(request))
        idle = {self.start: gr.update(interactive=self.demo.model is not None), self.cancel: gr.update(visible=False)}
        try:
            key, loaded = self.demo.load(path, page, self.max_side_px, self.max_side_px is None)
        except HfGlandError as problem:
            return idle | {self.stage: None, self.status: error_html(str(problem)), self.controls: gr.update(visible=False),
                           self.start: gr.update(interactive=False)}
        return idle | {self.mpp: shown_mpp(loaded.picture.mpp)} | self.show_loaded(key, loaded)

    def ticket(self, request: gr.Request) -> str:
        return f"{request.session_hash}/{self.name}"

    def wire_picture(self) -> Any:
        """Uploads, examples and the pixel size; returns the event of an example, for what is to follow it."""
        def upload(path: str | None, request: gr.Request) -> Update:
            return {self.drop: None} | ({} if path is None else self.show(request, path))

        def example(event: gr.EventData, request: gr.Request) -> Update:
            return self.show(request, self.found[int(event.index)].path)

        self.drop.upload(upload, self.drop, [*self.shown, self.drop], **DIRECT)
        self.mpp.change(None, self.mpp, None, js=_MPP_JS.format(self.name), **PRIVATE)
        return self.pick.click(example, None, self.shown, **DIRECT)

    def wire_run(self, triggers: Iterable[Any]) -> None:
        """Each trigger asks for a run of the model; `cancel`, a new picture or leaving calls it off."""
        buttons = [self.status, self.start, self.cancel]
        untouched = {self.status: gr.skip()}

        def begin(request: gr.Request) -> Update:
            self.demo.tickets.ask(self.ticket(request))
            return {self.status: progress_html(None, "Waiting for the model…"), self.start: gr.update(interactive=False),
                    self.cancel: gr.update(visible=True)}

        def idle(text: str) -> Update:
            return {self.status: text, self.start: gr.update(interactive=True), self.cancel: gr.update(visible=False)}

        def call_off(request: gr.Request) -> Update:
            self.demo.tickets.call_off(self.ticket(request))
            return idle(done_html("Cancelled"))

        def run(request: gr.Request, value: dict[str, Any] | None, given_mpp: str) -> Iterator[Update]:
            percent = -1
            job = self.demo.tickets.take(self.ticket(request))
            if job is None:  # called off while it waited, which the page has said already
                yield untouched
                return
            try:
                for step in self.answer(job, value, given_mpp):
                    if not isinstance(step, float):
                        yield idle(step[0]) | step[1]
                    elif round(100 * step) > percent:
                        percent = round(100 * step)
                        yield {self.status: progress_html(step, self.busy_text)}
            except Cancelled:  # by the button or a new picture, either of which has said so
                yield untouched
            except HfGlandError as problem:
                yield idle(error_html(str(problem)))
            finally:
                self.demo.tickets.done(self.ticket(request), job)

        for trigger in triggers:
            running = trigger(begin, None, buttons, queue=False, **QUICK).then(
                run, [self.stage, self.mpp], [*buttons, self.stage, self.controls], trigger_mode="multiple",
                concurrency_id=MODEL_QUEUE, concurrency_limit=self.demo.limits.concurrency, **QUICK)
            running.failure(lambda: idle(error_html(BUSY)), None, buttons, queue=False, **QUICK)
        self.cancel.click(call_off, None, buttons, queue=False, **QUICK)

    def wire_download(self, button: gr.Button, make: Any, further: list[gr.components.Component]) -> None:
        """The button has `make` write a file of the stage's value and of `further`, and the browser save it."""
        def ready(*values: Any) -> Update:
            try:
                path: Path = make(*values)
            except HfGlandError as problem:
                return {self.ready_file: None, self.status: error_html(str(problem))}
            return {self.ready_file: str(path), self.status: done_html(f"{path.name} is saved")}

        button.click(ready, [self.stage, *further], [self.ready_file, self.status], **DIRECT).success(
            None, self.ready_file, None, js=DOWNLOAD_JS, **PRIVATE)

    def answer(self, job: Job, value: dict[str, Any] | None,
               given_mpp: str | None) -> Iterator["float | tuple[str, Update]"]:
        """Run the model on what is shown: shares of the work done, then what to say and what changes."""
        demo, model, begun = self.demo, self.demo.model, time.perf_counter()
        assert model is not None
        mpp, loaded = typed_mpp(given_mpp), demo.store.get(key_of(value))

        def work(job: Job) -> Analysis:
            picture = loaded.picture if not loaded.is_slide else read_part(
                loaded.path, loaded.picture, part_of(value, loaded.picture.full_hw), mpp, model.segmenter.mpp, demo.limits)
            return analyse(model, picture, mpp, demo.limits, job.report)

        for step in demo.runner.follow(work, job):
            if not isinstance(step, Finished):
                yield step
                continue
            key = demo.keep(replace(loaded, analysis=step.result))
            device = "GPU" if model.segmenter.device.type == "cuda" else "CPU"
            yield (done_html(f"Segmented in {time.perf_counter() - begun:.1f} s on the {device}", step.result.notes),
                   self.answer_view(key, step.result, value))


def digest(picture: Picture, names: Iterable[str] = ()) -> str:
    """What tells a picture, and the classes it is drawn with, by their content."""
    return hashlib.sha256(picture.rgb.tobytes() + repr((picture.rgb.shape, tuple(names))).encode()).hexdigest()


def key_of(value: dict[str, Any] | None) -> str:
    """The key in a stage's value; empty where it shows nothing."""
    return str((value or {}).get("view") or "")
