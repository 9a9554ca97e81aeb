"""The pictures that ship with the demo, all of them synthetic."""

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

FOLDER = Path(__file__).resolve().parent.parent / "examples"
THUMBNAIL_PX = (240, 180)


@dataclass(frozen=True)
class Example:
    path: Path
    title: str


def examples() -> list[Example]:
    """The PNG files of the examples folder in the order of their names, `1-benign-glands.png` titled "benign glands"."""
    return [Example(path, path.stem.partition("-")[2].replace("-", " ") or path.stem)
            for path in sorted(FOLDER.glob("*.png"))]


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
