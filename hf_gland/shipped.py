"""Folders that stand beside the package in its repository and inside it once it is installed."""

from pathlib import Path

import hf_gland
from hf_gland.errors import HfGlandError


def shipped(name: str) -> Path:
    """The folder or file `name` (hub_cards, space_app, constraints.txt) of this installation; HfGlandError if absent."""
    package = Path(hf_gland.__file__).parent
    for candidate in (package / "shipped" / name, package.parent / name):
        if candidate.exists():
            return candidate
    raise HfGlandError(f"{name}: missing from this installation of hf_gland; install it again")
