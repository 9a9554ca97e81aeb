"""One writer per folder: a lock that ends with the process that holds it, and that names its holder."""

import errno
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

from hf_gland.errors import HfGlandError


class LockedError(HfGlandError):
    """Another process writes to a folder; the message names the folder, the process and the remedy."""


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold `folder`, which must exist, against other processes, also those of other machines that share it.

    The lock is the operating system's: it ends with its process, however that ends, and is then free to be taken. The file
    `.lock` names the process that holds it. Raises LockedError where another one does. Where the system or the file system
    knows no locks, nothing is held.
    """
    path = folder / ".lock"
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115 - closed below
        try:
            _lock(file, folder)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        except BaseException:
            file.close()
            raise
        file.close()  # its holder ended and removed it between our opening and locking it
    with file:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()}, started {time.strftime('%Y-%m-%d %H:%M:%S')}")
        file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _lock(file: TextIO, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # of the process alone: forked workers do not inherit it
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            raise LockedError(f"{folder}: {file.read() or 'another process'} is writing there. Wait for it to end, or give "
                              "another folder") from error
