"""Everything that the parts of the page share."""

from dataclasses import dataclass, field
from pathlib import Path
from threading import BoundedSemaphore

from gland_space.analysis import Analysis
from gland_space.limits import Limits
from gland_space.model_source import LoadedModel
from gland_space.runner import Runner, Tickets
from gland_space.store import Store
from hf_gland.imaging.pictures import Picture
from hf_gland.labels import BINARY_CLASSES

READERS = 2  # pictures decoded at a time: each may take a few hundred MB


@dataclass(frozen=True, eq=False)
class Loaded:
    """What is kept for a visitor under one key: a picture, the upload it came from, and its result once there is one."""

    picture: Picture
    path: Path
    analysis: Analysis | None = None

    @property
    def nbytes(self) -> int:
        return self.picture.rgb.nbytes if self.analysis is None else self.analysis.nbytes


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
    reading: BoundedSemaphore = field(init=False, default_factory=lambda: BoundedSemaphore(READERS))

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
