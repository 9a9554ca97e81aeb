"""Which model the demo shows: the one it is told to, or the one that was just trained here."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from huggingface_hub import SpaceCard

from hf_gland.inference import GlandPrediction, GlandSegmenter, ModelError

MODEL_VARIABLE = "HF_GLAND_MODEL"
DEMO_MODEL = Path("runs/demo/run/model")  # where the README's first command leaves its model


@dataclass(frozen=True)
class ModelSource:
    """A folder or a Hub repository, and for the latter a branch, tag or commit (None: the newest)."""

    location: str
    revision: str | None = None

    @property
    def is_folder(self) -> bool:
        return Path(self.location).is_dir()

    @property
    def shown(self) -> str:
        """For the page: a repository id, or the folder's last parts; never a full path of the server."""
        if not self.is_folder:
            return f"{self.location}@{self.revision}" if self.revision else self.location
        return "/".join(Path(self.location).resolve().parts[-3:])


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A model ready to use, and where it came from. `predict` is `segmenter.predict`, with a GPU lent for each call where
    that is how the machine works."""

    segmenter: GlandSegmenter
    source: ModelSource
    predict: Callable[..., GlandPrediction] = field(init=False)

    def __post_init__(self) -> None:
        lent = os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")
        object.__setattr__(self, "predict", _on_lent_gpu(self.segmenter) if lent else self.segmenter.predict)


def parse_source(text: str) -> ModelSource:
    """`owner/name`, `owner/name@revision`, or a folder (whose own name may hold an @); raises ModelError."""
    text = text.strip()
    if Path(text).expanduser().is_dir():
        return ModelSource(str(Path(text).expanduser()))
    location, at, revision = text.rpartition("@")
    if not at:
        location, revision = text, ""
    if at and not (location and revision):
        raise ModelError(f"{text}: give a Hub id such as owner/name or owner/name@revision, or a folder")
    return ModelSource(location, revision or None)


def find_source(given: str | None, environment: Mapping[str, str], card: Path,
                folders: tuple[Path, ...]) -> ModelSource | None:
    """The model to show, or None: `given`, else HF_GLAND_MODEL, else the first that the Space's card names, else the
    demo's model below one of `folders`. Raises ModelError."""
    text = given or environment.get(MODEL_VARIABLE, "").strip() or _named_in(card)
    if text:
        return parse_source(text)
    for folder in folders:
        if (folder / DEMO_MODEL / "config.json").is_file():
            return ModelSource(str(folder / DEMO_MODEL))
    return None


def _named_in(card: Path) -> str:
    try:
        models = SpaceCard.load(card).data.get("models") or [] if card.is_file() else []
    except (OSError, ValueError, yaml.YAMLError):
        return ""
    return str(models[0]) if isinstance(models, list) and models else ""


def load_model(source: ModelSource) -> LoadedModel:
    """Load it, downloading if need be; raises ModelError whose message is fit for the page."""
    segmenter = GlandSegmenter.from_pretrained(source.location, revision=source.revision)
    return LoadedModel(segmenter, source)


def _on_lent_gpu(segmenter: GlandSegmenter) -> Callable[..., GlandPrediction]:
    """`predict` for a ZeroGPU Space, where a process of its own gets a GPU for one call. No progress comes back from it."""
    import spaces  # exists on such Spaces alone

    def predict(rgb: np.ndarray, mpp: float | None, **options: Any) -> GlandPrediction:
        return segmenter.predict(rgb, mpp, **options)

    lent = spaces.GPU(predict)  # now, not at the first call: a Space is checked for this when it starts
    return lambda rgb, mpp, progress=None, **options: lent(rgb, mpp, **options)
