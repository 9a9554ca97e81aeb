"""What the tabs are made of: messages, widgets and examples."""

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

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

    script = "".join(static_text(f"{part}.js") for part in ("stage", "glands", "drawing", "keeping", "start"))
    return gr.HTML(None, html_template=static_text("stage.html").replace("MODE", mode), apply_default_css=False,
                   elem_id=elem_id, elem_classes=f"gl-viewer gl-{mode}", js_on_load=script,
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
