"""The files of a repository, put together in a folder exactly as they will be on the Hub."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_gland.hub.errors import HubError


@contextmanager
def staging_folder(out: Path | None) -> Iterator[Path]:
    """An empty folder to fill: one that goes away, or, for a dry run, `out` once it is whole. Raises HubError."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="hf_gland-publish-") as folder:
            yield Path(folder)
        return
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HubError(f"{out}: exists and is not an empty folder; give another --dry-run folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield part
        part.chmod(0o755)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def place(source: Path, target: Path) -> None:
    """Put a file into a staging folder without copying it where the file system allows; staged files are only read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
