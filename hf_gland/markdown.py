"""Markdown with other people's words in it: text that stays text, tables, code blocks."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# What could start a tag, an entity, a link, a picture, code, or the next cell of a table.
_MARKS = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "\\": "&#92;", "[": "&#91;", "]": "&#93;", "`": "&#96;"}


def escaped(value: Any) -> Any:
    """`value` with every text in it (of dicts, their keys too, sequences and dataclasses) made safe to stand in Markdown.

    Such text shows as it is and can neither hold HTML, links, pictures nor code, nor break out of its line.
    """
    if isinstance(value, str):
        text = "".join(_MARKS.get(c, c) for c in " ".join(value.split()))
        return re.sub(r"://|(?<=\bwww)\.", lambda m: "".join(f"&#{ord(c)};" for c in m[0]), text)
    if isinstance(value, Mapping):
        return {escaped(k): escaped(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(escaped(v) for v in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: escaped(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return dataclasses.replace(value, **changed)
    return value


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], numeric_from: int) -> str:
    """A table; columns from `numeric_from` on are set flush right, None is an empty cell."""
    rule = ["---"] * numeric_from + ["---:"] * (len(header) - numeric_from)
    cells = [["" if cell is None else " ".join(str(cell).replace("|", "\\|").split()) for cell in row] for row in rows]
    return "".join("|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|\n" for line in (header, rule, *cells))


def code_block(text: str, language: str = "") -> str:
    """`text` as it is between fences that it cannot close."""
    fence = "`" * max([3, *(1 + len(run) for run in re.findall("`+", text))])
    return f"{fence}{language}\n{text}\n{fence}"


def count(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
