"""Which model the demo shows: the one it is told to, or the one that was just trained here."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from huggingface_hub import SpaceCard

from hf_gland.inference import GlandSegmenter, ModelError

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
    """A model ready to use, and where it came from."""

    segmenter: GlandSegmenter
    source: ModelSource


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


def zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space, where a function gets the GPU for one call at a time."""
    return os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "true")
