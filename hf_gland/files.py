"""Writing a file so that nobody ever sees half of it."""

import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> Path:
    """Let `write` fill a hidden sibling of `path`, then rename it; a failure leaves `path` as it was.

    The folder is made if need be. Returns the path.
    """
    # Not the target's own name with something added, which may be too long for a file system.
    with atomic_file(path, f".{os.getpid()}-{threading.get_ident()}.part") as file:
        write(file)
    return Path(path)


@contextmanager
def atomic_file(path: str | Path, part_name: str) -> Iterator[BinaryIO]:
    """A file under `part_name` beside `path`, which the end of the `with` renames, and an error in it removes."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(part_name)
    try:
        with part.open("w+b") as file:
            yield file
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def write_text_atomically(path: str | Path, text: str) -> Path:
    """The same for a text, in UTF-8."""
    return write_atomically(path, lambda file: file.write(text.encode()))


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """A hidden sibling of `folder` to fill, which takes its place once that went well; a failure leaves `folder` as it was.

    For one process at a time: what an earlier one left half filled is removed.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def safe_name(text: str) -> str:
    """`text` as part of a file name: what else than letters, digits, `_`, `.`, `+` and `-` it holds becomes one dash."""
    return re.sub(r"[^\w.+-]+", "-", text)


def respect_umask(folder: Path) -> None:
    """Give every file below `folder` the permissions of a newly made one; safetensors lets its owner alone read a file."""
    probe = folder / ".probe"
    probe.touch()
    usual = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(usual)
