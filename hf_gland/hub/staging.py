"""The files of a repository, put together in a folder exactly as they will be on the Hub."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hf_gland.hub.errors import HubError

PREFIX = "hf_gland-publish-"  # then the process id, so that what a killed process left can be told and removed


@contextmanager
def staging_folder(out: Path | None) -> Iterator[Path]:
    """An empty folder to fill: one that goes away, or, for a dry run, `out` once it is whole. Raises HubError."""
    if out is None:
        _remove_abandoned()
        with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{os.getpid()}-") as folder:
            yield Path(folder)
        return
    out = out.absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise HubError(f"{out}: exists and is not an empty folder; give another --dry-run folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield part
        _own_files(part)
        part.chmod(0o755)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove staging folders of this user whose process is gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).split("-")[0]
        try:
            if pid.isdecimal() and folder.stat().st_uid == os.getuid():
                os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (OSError, AttributeError):  # somebody else's, or a system without process ids of this kind
            continue


def _own_files(folder: Path) -> None:
    """Replace files that `place` linked by copies: what is done to a dry run's folder leaves the originals alone."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_nlink > 1:
            copy = path.with_name(f".{path.name}.part")
            shutil.copyfile(path, copy)
            os.replace(copy, path)


def place(source: Path, target: Path) -> None:
    """Put a file into a staging folder without copying it where the file system allows; staged files are only read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)  # the file itself, where `source` is a symbolic link
    except OSError:
        shutil.copyfile(source, target)
