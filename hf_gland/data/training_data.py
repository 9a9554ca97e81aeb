"""The splits a run learns from, opened from a folder or from the Hub."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from hf_gland.config import TrainConfig
from hf_gland.data.build import PROVENANCE_FILE, load_local, load_provenance
from hf_gland.data.schema import FEATURES
from hf_gland.errors import DatasetError


@dataclass(frozen=True)
class TrainingData:
    """Where the data come from, the training split, and where there are such, the validation split and the images to
    adapt to, whose labels are not for training."""

    provenance: dict[str, Any]
    train: datasets.Dataset
    validation: datasets.Dataset | None
    target: datasets.Dataset | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the masks, background first."""
        return tuple(self.provenance["class_names"])


def open_dataset(source: str, config_name: str = "", revision: str = "", *,
                 streaming: bool = False) -> tuple[datasets.DatasetDict, dict[str, Any]]:
    """All splits and the provenance of a dataset folder, or of a Hub dataset. Raises DatasetError.

    `config_name`: "" for the default configuration. `streaming`: read the rows of a Hub dataset over the network as they
    are asked for, once, instead of keeping a copy on disk (then the splits are `IterableDataset`s).
    """
    if not source:
        raise DatasetError("no dataset given; pass --dataset with a folder made by build_dataset, or a Hub dataset id")
    if Path(source).exists() or source.startswith((".", "/", "~")):
        return load_local(Path(source).expanduser()), load_provenance(Path(source).expanduser())
    named = f"{config_name}/" if config_name not in ("", "default") else ""
    try:
        provenance = json.loads(Path(hf_hub_download(
            source, f"{named}{PROVENANCE_FILE}", repo_type="dataset", revision=revision or None)).read_text("utf-8"))
        if provenance.get("form") == "masks-only":
            raise DatasetError(f"{source}: holds annotations without their images, as their licence asks. Join them with "
                               "the official archive first: python scripts/publish.py join --help")
        splits = datasets.load_dataset(source, config_name or provenance.get("configuration"), revision=revision or None,
                                       streaming=streaming)
    except DatasetError:
        raise
    except RevisionNotFoundError as error:
        raise DatasetError(f"{source}: has no branch, tag or commit '{revision}'; check the revision") from error
    except RepositoryNotFoundError as error:
        raise DatasetError(f"{source}: neither a folder nor a dataset on the Hub; check the name, or, if it is private, "
                           "that the token (`hf auth login`, HF_TOKEN) may read it") from error
    except RemoteEntryNotFoundError as error:
        raise DatasetError(f"{source}: has no {named}{PROVENANCE_FILE}: " + (
            f"either no configuration is named '{config_name}', or it" if named else "it") + " was not published by "
            "scripts/publish.py") from error
    except (OSError, ValueError, HfHubHTTPError, HFValidationError) as error:
        raise DatasetError(f"{source}: neither a folder nor a readable Hub dataset "
                           f"({str(error).splitlines()[0]})") from error
    return splits, provenance


def pick_split(splits: datasets.DatasetDict, split: str, source: str) -> datasets.Dataset:
    """One split, with the columns of the schema and, unless it is streamed, a row at least.

    Raises DatasetError naming what there is.
    """
    if split not in splits:
        raise DatasetError(f"{source}: has no split '{split}'; it has {', '.join(sorted(splits))}")
    missing = sorted(set(FEATURES) - set(splits[split].column_names))
    if missing:
        raise DatasetError(f"{source}: split '{split}' lacks the columns {', '.join(missing)}; make it with build_dataset")
    if isinstance(splits[split], datasets.Dataset) and len(splits[split]) == 0:
        raise DatasetError(f"{source}: split '{split}' is empty")
    return splits[split]


def open_training_data(config: TrainConfig) -> TrainingData:
    """What `config` names; a validation split that the dataset lacks is an error unless the setting is empty."""
    splits, provenance = open_dataset(config.dataset, config.dataset_config, config.dataset_revision)
    validation = (pick_split(splits, config.validation_split, config.dataset) if config.validation_split else None)
    train = pick_split(splits, config.train_split, config.dataset)
    if not config.adapt_dataset:
        return TrainingData(provenance, train, validation, None)
    targets, about = open_dataset(config.adapt_dataset)
    provenance = {**provenance, "adapted_to": {"split": config.adapt_split, **{
        key: about.get(key) for key in ("source", "sources", "data_sha256")}}}
    return TrainingData(provenance, train, validation, pick_split(targets, config.adapt_split, config.adapt_dataset))
