"""All slides of a run on one picture, each with its glands outlined, to see at a glance where something went wrong."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from hf_gland.export.formats import FORMATS
from hf_gland.files import write_atomically
from hf_gland.inference.requests import Request
from hf_gland.inference.slides.cohort import read_record, summary_row

CONTACT_SHEET = "slides.png"
MAX_WIDTH_PX, MAX_CELL_PX = 4096, 360  # many slides get smaller cells
GAP_PX, LINE_PX = 8, 16


def write_contact_sheet(path: Path, requests: Iterable[Request]) -> None:
    """PNG of the overlays of all slides that have a record, in the order of their names; a slide that failed, or whose
    overlay was not asked for or is gone, has an empty cell. Below each stand its name, and glands, gland area and mean
    confidence.
    """
    records = [(request, record) for request in requests if (record := read_record(request)) is not None]
    if not records:
        return
    records.sort(key=lambda one: one[1]["image"])
    columns = math.ceil(math.sqrt(len(records)))
    cell_px = min(MAX_CELL_PX, MAX_WIDTH_PX // columns - GAP_PX)
    line_px = 3 * LINE_PX if cell_px > 8 * LINE_PX else 0  # in smaller cells nothing could be read
    width, height = cell_px + GAP_PX, cell_px + line_px + GAP_PX
    sheet = Image.new("RGB", (columns * width + GAP_PX, math.ceil(len(records) / columns) * height + GAP_PX), "white")
    fonts = Path(matplotlib.get_data_path(), "fonts", "ttf")  # Pillow's own font has no µ
    draw, font = ImageDraw.Draw(sheet), ImageFont.truetype(fonts / "DejaVuSans.ttf", 11)
    for number, (request, record) in enumerate(records):
        left, top = GAP_PX + number % columns * width, GAP_PX + number // columns * height
        overlay = _overlay(request, record)
        if overlay is None:
            draw.rectangle((left, top, left + cell_px - 1, top + cell_px - 1), "#eeeeee", "#bbbbbb")
        else:
            overlay.thumbnail((cell_px, cell_px), reducing_gap=2.0)
            sheet.paste(overlay, (left + (cell_px - overlay.width) // 2, top + (cell_px - overlay.height) // 2))
        for line, text in enumerate(_caption(record) if line_px else ()):
            while font.getlength(text) > cell_px:
                text = text.rstrip("…")[:-1] + "…"
            draw.text((left, top + cell_px + line * LINE_PX), text, "black", font)
    write_atomically(path, lambda file: sheet.save(file, "PNG"))


def _overlay(request: Request, record: Mapping[str, Any]) -> Image.Image | None:
    name = request.stem.name + FORMATS["overlay"].slide.ending  # type: ignore[union-attr]
    if name not in record.get("files", {}):
        return None
    try:
        with Image.open(request.stem.with_name(name)) as image:
            return image.convert("RGB")
    except OSError:  # gone or damaged since; the slide's other results need none
        return None


def _caption(record: Mapping[str, Any]) -> list[str]:
    row, name = summary_row(record), Path(record["image"]).name
    if "error" in record:
        return [name, "failed: " + row["error"].removeprefix(f"{record['image']}: ")]
    confidence = "" if row["mean_confidence"] is None else f", confidence {row['mean_confidence']:.2f}"
    return [name, f"{row['glands']} glands on {row['gland_area_share'] or 0:.1%}{confidence}",
            "note: " + row["warnings"] if row["warnings"] else ""]
