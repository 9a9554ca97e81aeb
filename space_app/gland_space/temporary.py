"""The one folder that the demo writes to: emptied while it runs, gone when it ends."""

import atexit
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

SWEEP_SECONDS = 60.0


def new_folder(folder: Path) -> Path:
    """A new, empty folder below `folder` with an unguessable name."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def sweep(folder: Path, max_age_seconds: float) -> int:
    """Remove files older than that, and folders as old that are empty; returns how many files went."""
    oldest, removed = time.time() - max_age_seconds, 0
    for place, _, names in os.walk(folder, topdown=False):
        for name in names:
            file = Path(place, name)
            try:
                if file.lstat().st_ctime < oldest:
                    file.unlink()
                    removed += 1
            except OSError:  # already gone
                continue
        try:
            if Path(place) != folder and Path(place).stat().st_mtime < oldest:
                os.rmdir(place)
        except OSError:  # something is in it
            continue
    return removed


class TemporaryFolder:
    """A temporary folder that Python and gradio put all their files into, swept once a minute.

    `close()` removes it; so does the end of the program.
    """

    def __init__(self, keep_seconds: float) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="hf-gland-space-"))
        self._before = (os.environ.get("GRADIO_TEMP_DIR"), tempfile.tempdir)
        os.environ["GRADIO_TEMP_DIR"] = tempfile.tempdir = str(self.path)  # uploads pass through both
        self._closed = threading.Event()
        self._keep_seconds = keep_seconds
        self._sweeper = threading.Thread(target=self._sweep, name="temporary files", daemon=True)
        self._sweeper.start()
        atexit.register(self.close)

    def _sweep(self) -> None:
        while not self._closed.wait(SWEEP_SECONDS):
            sweep(self.path, self._keep_seconds)

    def close(self) -> None:
        if self._closed.is_set():
            return
        self._closed.set()
        self._sweeper.join()
        gradio_folder, tempfile.tempdir = self._before
        if gradio_folder is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = gradio_folder
        shutil.rmtree(self.path, ignore_errors=True)
