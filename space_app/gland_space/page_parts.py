"""What the tabs are made of: messages, widgets, examples, and the wiring that both picture tabs share."""

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
from PIL import Image

from gland_space.demo import Demo
from gland_space.limits import Limits
from gland_space.runner import Cancelled, Job
from hf_gland.errors import HfGlandError
from hf_gland.inference import ImageError, PixelSizeError

STATIC = Path(__file__).resolve().parent / "static"
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
THUMBNAIL_PX = (240, 180)
MODEL_QUEUE = "model"  # all events that run the model share this queue
BUSY = "Too many people are waiting, or the server had a problem. Please try again in a moment"
PRIVATE: dict[str, Any] = {"api_visibility": "private"}
QUICK: dict[str, Any] = PRIVATE | {"show_progress": "hidden"}
DIRECT: dict[str, Any] = PRIVATE | {"queue": False}  # never held up by, or turned away for, those who wait
Update = dict[str, Any]

# Once the server has written the file, the browser saves it under its own name.
DOWNLOAD_JS = """(file) => {
  if (!file || !file.url) return;
  const link = Object.assign(document.createElement("a"), { href: file.url, download: file.orig_name || "" });
  document.body.append(link); link.click(); link.remove();
  document.dispatchEvent(new CustomEvent("gl-saved", { detail: link.download }));
}"""
_EXAMPLE_JS = """element.addEventListener("click", (event) => {
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


def drawing_widget(name: str, functions: dict[str, Callable[[str], Any]], elem_id: str) -> gr.HTML:
    """`static/<name>.html`, brought to life by `stage.js` and `<name>.js`; `functions` are what its script can call."""
    def plain_function(called: str, work: Callable[[str], Any]) -> Callable[[str], Any]:
        def call(key: str) -> Any:  # gradio marks it, which a method does not bear
            return work(key)
        call.__name__ = called
        return call

    return gr.HTML(None, html_template=static_text(f"{name}.html"), apply_default_css=False, elem_id=elem_id,
                   js_on_load=static_text("stage.js") + static_text(f"{name}.js"),
                   server_functions=[plain_function(*item) for item in functions.items()])


def html_widget(value: str, elem_id: str, *, classes: str = "") -> gr.HTML:
    """A piece of the page without behaviour."""
    return gr.HTML(value, elem_id=elem_id, elem_classes=classes, js_on_load=None, apply_default_css=False)


def sent_file(label: str, **options: Any) -> gr.File:
    """A file that a visitor sends. Of one that is named by its address gradio would fetch any size; this one does not."""
    file = gr.File(label=label, type="filepath", **options)
    keep = file.async_move_resource_to_block_cache

    async def keep_sent(source: str | Path | None) -> str | None:
        if str(source).startswith(("http://", "https://")):
            raise gr.Error("send the file itself; addresses are not fetched", print_exception=False)
        return await keep(source)

    vars(file)["async_move_resource_to_block_cache"] = keep_sent  # a subclass would make gradio write a stub file here
    return file


def hidden_file() -> gr.File:
    return gr.File(visible="hidden", elem_classes="gl-hidden", label="file to download")


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


def shown_mpp(mpp: float | None) -> str:
    """A pixel size as the field shows it."""
    return "" if mpp is None else f"{mpp:g}"


# ------------------------------------------------------------------------------------------------------ a picture's tab


class PictureTab:
    """A tab where a picture comes in, by upload or as an example, and where the model can be run on it.

    A subclass lays itself out with `picture_inputs` and `run_buttons`, names in `shown` what a new picture changes, in
    `answered` what a run of the model changes, and says what becomes of them.
    """

    name: ClassVar[str]
    busy_text: ClassVar[str]
    shown: list[gr.components.Component]
    answered: list[gr.components.Component]

    def __init__(self, demo: Demo, found: list[Example]) -> None:
        self.demo, self.found = demo, found

    # What subclasses say.

    def show(self, path: str | Path) -> list[Any]:
        """Values of `shown` for the picture in a file. Raises ImageError."""
        raise NotImplementedError

    def show_nothing(self) -> list[Any]:
        """Values of `shown` where the file is no picture; a message is put into `status`."""
        raise NotImplementedError

    def answer(self, job: Job, *values: Any) -> Iterator["float | tuple[str, list[Any]]"]:
        """Run the model: shares of the work done, then what to say and the values of `answered`."""
        raise NotImplementedError

    # What they share.

    def picture_inputs(self, limits: Limits) -> None:
        self.drop = sent_file(f"Picture: PNG, JPEG or TIFF (pyramids too), up to {limits.max_file_mb} MB", height=130,
                              elem_id=f"{self.name}-drop")
        self.pick = gr.HTML(examples_html(self.found), elem_id=f"{self.name}-examples", js_on_load=_EXAMPLE_JS,
                            apply_default_css=False, visible=bool(self.found))

    def pixel_size_input(self) -> None:
        """A text field: an empty one means unknown, which a number field cannot show."""
        self.mpp = gr.Textbox("", label="Pixel size (µm per pixel)", placeholder="unknown", elem_id=f"{self.name}-mpp",
                              max_length=20, max_lines=1, info="A 20× scan has about 0.5, a 40× scan about 0.25.")

    def run_buttons(self, start_text: str, **start: Any) -> None:
        self.start = gr.Button(start_text, elem_id=f"{self.name}-start", **start)
        self.cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id=f"{self.name}-cancel", min_width=90,
                                size=start.get("size", "lg"))

    def status_line(self) -> None:
        self.status = html_widget("", f"{self.name}-status", classes="gl-status")

    def ticket(self, request: gr.Request) -> str:
        return f"{request.session_hash}/{self.name}"

    def show_path(self, request: gr.Request, path: str | Path, show: Callable[..., list[Any]] | None = None) -> list[Any]:
        """Values of `shown`; what the model would say of the last picture is not wanted any more."""
        self.demo.tickets.call_off(self.ticket(request))
        try:
            return (show or self.show)(path)
        except ImageError as problem:
            values = self.show_nothing()
            values[self.shown.index(self.status)] = error_html(str(problem))
            return values

    def say(self, message: str) -> list[Any]:
        """Values of `shown` that change the message alone."""
        return [message if part is self.status else gr.skip() for part in self.shown]

    def wire_picture(self) -> Any:
        """Uploads and examples; returns the event of an example, for what is to follow it."""
        def upload(path: str | None, request: gr.Request) -> list[Any]:
            return [gr.skip()] * (len(self.shown) + 1) if path is None else [*self.show_path(request, path), None]

        def example(event: gr.EventData, request: gr.Request) -> list[Any]:
            return self.show_path(request, self.found[int(event.index)].path)

        self.drop.upload(upload, self.drop, [*self.shown, self.drop], **DIRECT)
        return self.pick.click(example, None, self.shown, **DIRECT)

    def wire_run(self, triggers: Iterable[Any], inputs: list[gr.components.Component]) -> None:
        """Each trigger asks for a run of the model on `inputs`; `cancel`, a new picture or leaving calls it off."""
        buttons = [self.status, self.start, self.cancel]
        nothing = [gr.skip()] * len(self.answered)

        def begin(request: gr.Request) -> list[Any]:
            self.demo.tickets.ask(self.ticket(request))
            return [progress_html(None, "Waiting for the model…"), gr.update(interactive=False), gr.update(visible=True)]

        def idle(text: str) -> list[Any]:
            return [text, gr.update(interactive=True), gr.update(visible=False)]

        def call_off(request: gr.Request) -> list[Any]:
            self.demo.tickets.call_off(self.ticket(request))
            return idle(done_html("Cancelled"))

        def run(request: gr.Request, *values: Any) -> Iterator[list[Any]]:
            untouched, percent = [gr.skip()] * (3 + len(nothing)), -1
            job = self.demo.tickets.take(self.ticket(request))
            if job is None:  # called off while it waited, which the page has said already
                yield untouched
                return
            try:
                for step in self.answer(job, *values):
                    if not isinstance(step, float):
                        yield [*idle(step[0]), *step[1]]
                    elif round(100 * step) > percent:
                        percent = round(100 * step)
                        yield [progress_html(step, self.busy_text), gr.skip(), gr.skip(), *nothing]
            except Cancelled:  # by the button or a new picture, either of which has said so
                yield untouched
            except HfGlandError as problem:
                yield [*idle(error_html(str(problem))), *nothing]
            finally:
                self.demo.tickets.done(self.ticket(request), job)

        for trigger in triggers:
            running = trigger(begin, None, buttons, queue=False, **QUICK).then(
                run, inputs, [*buttons, *self.answered], trigger_mode="multiple", concurrency_id=MODEL_QUEUE,
                concurrency_limit=self.demo.limits.concurrency, **QUICK)
            running.failure(lambda: idle(error_html(BUSY)), None, buttons, queue=False, **QUICK)
        self.cancel.click(call_off, None, buttons, queue=False, **QUICK)
