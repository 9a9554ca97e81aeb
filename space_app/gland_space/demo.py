"""Everything that the parts of the page share, and what is kept in memory for its visitors."""

import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from gland_space.analysis import Analysis, analyse
from gland_space.model_source import LoadedModel
from gland_space.pictures import Limits, SentFile, read_picture, safe_name
from gland_space.runner import Job, Runner, Tickets
from gland_space.server import make_room, new_folder
from gland_space.slides import opens_as_slide, read_overview, tile_images
from hf_gland.errors import HfGlandError, ImageError
from hf_gland.imaging.pictures import Picture
from hf_gland.labels import BINARY_CLASSES

EXAMPLE_SECONDS = 30.0  # that the first visitors wait for the example's result
READERS = 2  # pictures decoded at a time: each may take a few hundred MB
Value = TypeVar("Value")


class ExpiredError(HfGlandError):
    """A result is no longer kept; the message is for the user."""

    def __init__(self, message: str = "This result is no longer kept. Load the picture again.") -> None:
        super().__init__(message)


class QuotaError(HfGlandError):
    """All visitors' files together are as many as the demo keeps."""


@dataclass
class _Entry(Generic[Value]):
    value: Value
    size: int
    used: float


class Store(Generic[Value]):
    """Values found by an unguessable key alone: at most `max_bytes` of them, each kept `keep_seconds` after its last use;
    the least recently used go first."""

    def __init__(self, max_bytes: int, keep_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._keep_seconds, self._clock = max_bytes, keep_seconds, clock
        self._entries: OrderedDict[str, _Entry[Value]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, value: Value, size: int) -> str:
        """Keep a value of `size` bytes; returns its key. The newest value is always kept, however large."""
        key = secrets.token_urlsafe(24)
        with self._lock:
            self._entries[key] = _Entry(value, size, self._clock())
            self._sweep()
        return key

    def get(self, key: str | None) -> Value:
        """The value, whose time starts anew; raises ExpiredError."""
        with self._lock:
            self._sweep()
            entry = self._entries.get(key or "")
            if entry is None:
                raise ExpiredError
            entry.used = self._clock()
            self._entries.move_to_end(key or "")
            return entry.value

    def drop(self, key: str | None) -> None:
        """Forget a value, if it is still there."""
        with self._lock:
            self._entries.pop(key or "", None)

    @property
    def bytes(self) -> int:
        """What is held now."""
        with self._lock:
            self._sweep()
            return sum(entry.size for entry in self._entries.values())

    def _sweep(self) -> None:
        now = self._clock()
        for key in [k for k, entry in self._entries.items() if now - entry.used > self._keep_seconds]:
            del self._entries[key]
        total = sum(entry.size for entry in self._entries.values())
        while total > self._max_bytes and len(self._entries) > 1:
            total -= self._entries.popitem(last=False)[1].size


@dataclass(frozen=True, eq=False)
class Loaded:
    """What is kept for a visitor under one key: a picture, the upload it came from, and its result once there is one.

    Of a slide, `picture` is its overview, and the result is that of a part of it, which has a picture of its own.
    """

    picture: Picture
    path: Path
    analysis: Analysis | None = None
    is_slide: bool = False
    own_name: str = ""  # of the file on the visitor's computer

    @property
    def nbytes(self) -> int:
        own = self.picture.rgb.nbytes if self.analysis is None or self.is_slide else 0
        return own + (0 if self.analysis is None else self.analysis.nbytes)


@dataclass(frozen=True, eq=False)
class Demo:
    """`model` is None where there is none to show; `problem` then says why, for the page. `reading` is held while a
    picture is decoded."""

    model: LoadedModel | None
    problem: str | None
    folder: Path
    limits: Limits = field(default_factory=Limits)
    results: Path | None = None
    runner: Runner = field(init=False)
    store: Store[Loaded] = field(init=False)
    tickets: Tickets = field(init=False, default_factory=Tickets)
    example: Future[Loaded] | None = field(init=False, default=None)
    reading: threading.BoundedSemaphore = field(init=False, default_factory=lambda: threading.BoundedSemaphore(READERS))

    def __post_init__(self) -> None:
        object.__setattr__(self, "runner", Runner(self.limits.concurrency))
        object.__setattr__(self, "store", Store(self.limits.store_mb * 2**20, self.limits.keep_minutes * 60))

    @property
    def class_names(self) -> tuple[str, ...]:
        """The model's classes; without a model, those of the project's default."""
        if self.model is None:
            return BINARY_CLASSES
        return tuple(self.model.segmenter.id2label.values())

    @property
    def model_name(self) -> str:
        return "no model" if self.model is None else self.model.source.shown

    def keep(self, loaded: Loaded) -> str:
        """Store it; returns its key."""
        return self.store.put(loaded, loaded.nbytes)

    def load(self, path: str | Path, page: int = 1, max_side_px: int | None = None,
             slides: bool = True, mpp: float | None = None) -> tuple[str, Loaded]:
        """Read a picture, or the overview of a slide (unless no `slides` are wanted), and keep it; returns its key and
        itself. `mpp`, if given, takes the place of the pixel size that the file states. Raises ImageError."""
        own_name = path.own_name if isinstance(path, SentFile) else Path(path).name
        path = Path(path)
        with self.reading:
            is_slide = opens_as_slide(path)
            if is_slide and not slides:
                raise ImageError(f"{safe_name(path.name)}: is a slide. Open it in the Segment tab and zoom to a part of it; "
                                 "that part can be taken over here")
            picture = (read_overview(path, self.limits) if is_slide else
                       read_picture(path, self.limits, page=page, max_side_px=max_side_px))
        loaded = Loaded(picture if mpp is None else replace(picture, mpp=mpp), path, is_slide=is_slide, own_name=own_name)
        return self.keep(loaded), loaded

    def tiles(self, asked: dict[str, Any]) -> list[str] | None:
        """Parts of a slide's levels, as `tile_images` makes them, of the slide kept under `asked["view"]`; None where there
        are none."""
        try:
            loaded = self.store.get(str(asked.get("view")))
            with self.reading:
                return tile_images(loaded.path, loaded.picture, asked) if loaded.is_slide else None
        except HfGlandError:
            return None

    def prepare_example(self, path: Path) -> None:
        """Begin to segment the picture that every visitor is to see first."""
        model = self.model
        if model is None:
            return

        def work(job: Job) -> Loaded:
            picture = read_picture(path, self.limits)
            return Loaded(picture, path, analyse(model, picture, picture.mpp, self.limits, job.report))

        object.__setattr__(self, "example", self.runner.start(work, Job()))

    def example_result(self) -> Loaded | None:
        """What `prepare_example` began, once it is there; None where there is nothing to show."""
        try:
            return None if self.example is None else self.example.result(EXAMPLE_SECONDS)
        except (HfGlandError, TimeoutError):
            return None

    def out_folder(self) -> Path:
        """A new folder for files to download; raises QuotaError where all room is taken."""
        if not make_room(self.folder, 0, self.limits.quota_mb * 2**20):
            raise QuotaError("The demo has no room left for files just now. Please try again in a minute.")
        return new_folder(self.folder)

    def alive(self, key: str) -> bool:
        """Called now and then while the page is open: what it shows is kept. False if it is gone already."""
        try:
            loaded = self.store.get(key)
            if loaded.is_slide:
                os.utime(loaded.path)  # its file is read as long as it is looked at
        except (ExpiredError, OSError):
            return False
        return True
