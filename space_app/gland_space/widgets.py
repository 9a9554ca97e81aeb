"""The page's own widgets: HTML, a script and a style each, in `static/`."""

from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from gland_space.examples import Example, examples_html
from gland_space.limits import Limits

STATIC = Path(__file__).resolve().parent / "static"

# Once the server has written the file, the browser saves it under its own name.
DOWNLOAD_JS = """(file) => {
  if (!file || !file.url) return;
  const link = Object.assign(document.createElement("a"), { href: file.url, download: file.orig_name || "" });
  document.body.append(link); link.click(); link.remove();
}"""

_EXAMPLE_JS = """element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-example]");
  if (button) trigger("click", { index: Number(button.dataset.example) });
});"""


@cache
def static_text(name: str) -> str:
    return (STATIC / name).read_text("utf-8")


def widget_parts(name: str) -> dict[str, Any]:
    """What `gr.HTML` needs to show `static/<name>.html`, brought to life by `static/<name>.js`."""
    return {"html_template": static_text(f"{name}.html"), "js_on_load": static_text(f"{name}.js"),
            "apply_default_css": False}


def html_widget(value: str, elem_id: str, *, classes: str = "") -> gr.HTML:
    """A piece of the page without behaviour."""
    return gr.HTML(value, elem_id=elem_id, elem_classes=classes, js_on_load=None, apply_default_css=False)


def picture_drop(limits: Limits, elem_id: str) -> gr.File:
    return gr.File(label=f"Picture: PNG, JPEG or TIFF (pyramids too), up to {limits.max_file_mb} MB", height=130,
                   elem_id=elem_id, file_count="single", type="filepath")


def pixel_size_field(elem_id: str) -> gr.Textbox:
    """A text field: an empty one means unknown, which a number field cannot show."""
    return gr.Textbox("", label="Pixel size (µm per pixel)", placeholder="unknown", elem_id=elem_id, max_length=20,
                      max_lines=1, info="A 20× scan has about 0.5, a 40× scan about 0.25.")


def example_buttons(found: list[Example], elem_id: str) -> gr.HTML:
    return gr.HTML(examples_html(found), elem_id=elem_id, js_on_load=_EXAMPLE_JS, apply_default_css=False,
                   visible=bool(found))
