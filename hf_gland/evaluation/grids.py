"""What the cells of a grid of trainings have in common, kept in its folder: their names do not tell it."""

import json
from collections.abc import Mapping
from pathlib import Path

from hf_gland.files import write_text_atomically


def other_settings(path: Path, own: Mapping[str, str | None]) -> str:
    """What sets a grid apart from the one whose settings `path` holds, in words; "" if nothing does.

    `own`: settings by the name of their option, written to `path` where nothing is there yet; what it does
    not hold, as it was written by an older version, is not compared.
    """
    if not path.exists():
        write_text_atomically(path, json.dumps(dict(own), indent=2) + "\n")
    there = json.loads(path.read_text("utf-8"))
    differing = [f"--{name.replace('_', '-')} {there.get(name) or 'not given'} there, {value or 'not given'} here"
                 for name, value in own.items() if name in there and there[name] != value]
    return f"{path.parent}: holds another grid ({'; '.join(differing)}); give another --out" if differing else ""
