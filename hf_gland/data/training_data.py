"""The splits a run learns from, opened from a folder or from the Hub."""

import json
from collections.abc import Sequence
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
from hf_gland.data.schema import FEATURES, check_images
from hf_gland.errors import DatasetError
from hf_gland.imaging.pixel_size import check_mpp

DEFAULT_VALIDATION = "validation"  # may be missing, which no other split that the settings name may


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from, with images still encoded.

    `validation`: None where there is none; `target`: images to adapt to, whose labels are not for training; `mpp`: the
    training pixel size in µm, None: each image's own pixels; `notes`: what the user should be told before it starts;
    `measurable`: whether there are `held_out_splits`.
    """

    provenance: dict[str, Any]
    train: datasets.Dataset
    validation: datasets.Dataset | None
    target: datasets.Dataset | None
    mpp: float | None
    notes: tuple[str, ...]
    measurable: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the masks, background first."""
        return tuple(self.provenance["class_names"])


def open_dataset(source: str, config_name: str = "", revision: str = "",
                 ) -> tuple[datasets.DatasetDict, dict[str, Any]]:
    """All splits and the provenance of a dataset folder, or of a Hub dataset. Raises DatasetError.

    `config_name`: "" for the default configuration; `revision`: branch, tag or commit, "" for the main branch.
    """
    if not source:
        raise DatasetError("no dataset given; pass --dataset with a folder made by build_dataset, or a Hub dataset id")
    if Path(source).exists() or source.startswith((".", "/", "~")):
        if config_name or revision:
            raise DatasetError(f"{source}: is a folder; a configuration and a revision (--dataset_config, "
                               "--dataset_revision) are for datasets on the Hub")
        return load_local(Path(source).expanduser()), load_provenance(Path(source).expanduser())
    named = f"{config_name}/" if config_name not in ("", "default") else ""
    try:
        provenance = json.loads(Path(hf_hub_download(
            source, f"{named}{PROVENANCE_FILE}", repo_type="dataset", revision=revision or None)).read_text("utf-8"))
        if provenance.get("form") == "masks-only":
            raise DatasetError(f"{source}: holds annotations without their images, as their licence asks. Join them with "
                               "the official archive first: python scripts/publish.py join --help")
        splits = datasets.load_dataset(source, config_name or provenance.get("configuration"), revision=revision or None)
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
    """One split in the columns of the schema: one row at least, images embedded, ids that differ, plausible pixel sizes.

    Raises DatasetError naming what there is, or the first row that is wrong; PixelSizeError.
    """
    if split not in splits:
        raise DatasetError(f"{source}: has no split '{split}'; it has {', '.join(sorted(splits))}")
    rows, where = splits[split], f"{source}: split '{split}'"
    if missing := sorted(set(FEATURES) - set(rows.column_names)):
        raise DatasetError(f"{where} lacks the columns {', '.join(missing)}; make it with build_dataset")
    if len(rows) == 0:
        raise DatasetError(f"{where} is empty")
    rows = rows.select_columns(list(FEATURES))  # any other column would be decoded with each row
    check_images(rows.data.table, where)
    ids = rows["image_id"][:]
    if len(set(ids)) < len(ids) or not all(ids):
        twice = next(i for i in ids if not i or ids.count(i) > 1)
        raise DatasetError(f"{where}: " + (f"image_id '{twice}' comes twice" if twice else "a row has no image_id")
                           + "; each image needs an id of its own")
    for image_id, mpp in zip(ids, rows["mpp"][:], strict=True):
        if mpp is not None:
            check_mpp(mpp, f"{where}, {image_id}")
    return rows


def held_out_splits(splits: datasets.DatasetDict) -> list[str]:
    """What a model is measured on unless other splits are named: those with a dense mask whose names begin with test, or
    validation if it has one."""
    known = [name for name, rows in splits.items()
             if "mask" in rows.column_names and rows.data["mask"].null_count < len(rows)]
    return [name for name in known if name.startswith("test")] or [name for name in known if name == DEFAULT_VALIDATION]


def open_training_data(config: TrainConfig) -> TrainingData:
    """What `config` names. A dataset without the default validation split is trained on without one; a missing split of
    any other name is an error. Raises DatasetError, PixelSizeError."""
    wanted = config.data
    splits, provenance = open_dataset(wanted.dataset, wanted.configuration, wanted.revision)
    train, validation, target, notes = pick_split(splits, wanted.train_split, wanted.dataset), None, None, []
    if wanted.validation_split == DEFAULT_VALIDATION and DEFAULT_VALIDATION not in splits:
        notes.append(f"{wanted.dataset} has no split '{DEFAULT_VALIDATION}': it trains on all of '{wanted.train_split}', "
                     "nothing tells how it does on other patients (build_dataset --val-fraction holds some out)")
    elif wanted.validation_split:
        validation = pick_split(splits, wanted.validation_split, wanted.dataset)
    if wanted.adapt_dataset:
        targets, about = open_dataset(wanted.adapt_dataset)
        target = pick_split(targets, wanted.adapt_split, wanted.adapt_dataset)
        if about["class_names"] != provenance["class_names"] and target.data["mask"].null_count < len(target):
            raise DatasetError(f"{wanted.adapt_dataset} has the classes {', '.join(about['class_names'])}, {wanted.dataset} "
                               f"{', '.join(provenance['class_names'])}: the numbers in their masks would mean different "
                               "things. Build one again with the other's --class-names in their order")
        provenance = {**provenance, "adapted_to": {"split": wanted.adapt_split, **{
            key: about.get(key) for key in ("source", "sources", "licence", "data_sha256")}}}
    parts = [rows for rows in (train, validation, target) if rows is not None]
    mpp = training_mpp(config, parts)
    if not wanted.mpp and (mixed := mixed_sizes(parts)):
        notes.append(f"{mixed}, and all are used as they are (mpp 0): --mpp resamples them to one pixel size, and records "
                     "it with the model")
    if wanted.mpp and mpp is None:
        notes.append(f"no image of {wanted.dataset} states its pixel size, so training is at the images' own pixels instead "
                     f"of at {wanted.mpp:g} µm, and the model's pixel size is recorded as unknown. That is right for images "
                     "of one magnification; otherwise give it (build_dataset --mpp, or --missing_mpp here)")
    return TrainingData(provenance, train, validation, target, mpp, tuple(notes), bool(held_out_splits(splits)))


def mixed_sizes(parts: Sequence[datasets.Dataset]) -> str:
    """Which pixel sizes the images state, where they differ by more than a twentieth or only some state theirs; else ""."""
    sizes = [mpp for rows in parts for mpp in rows["mpp"]]
    stated = [mpp for mpp in sizes if mpp is not None]
    if not stated or (len(stated) == len(sizes) and max(stated) < 1.05 * min(stated)):
        return ""
    span = " to ".join(dict.fromkeys(f"{mpp:g}" for mpp in (min(stated), max(stated))))
    silent = len(sizes) - len(stated)
    return f"images state {span} µm per pixel" + (f", {silent} of them state none" if silent else "")


def training_mpp(config: TrainConfig, parts: Sequence[datasets.Dataset]) -> float | None:
    """The pixel size to train at, µm: `config.data.mpp`, or None (own pixels) where it is 0 or no image states its own.

    Raises DatasetError where some images state one and others do not; PixelSizeError for an implausible setting.
    """
    if not config.data.mpp:
        return None
    check_mpp(config.data.mpp, "mpp")
    if config.data.missing_mpp:
        check_mpp(config.data.missing_mpp, "missing_mpp")
        return config.data.mpp
    unknown = [image_id for rows in parts for image_id, mpp in zip(rows["image_id"], rows["mpp"], strict=True)
               if mpp is None]
    if 0 < len(unknown) < sum(map(len, parts)):
        more = f" (and of {len(unknown) - 1} more)" if len(unknown) > 1 else ""
        raise DatasetError(f"{unknown[0]}: the pixel size is unknown{more}, while others state theirs and training is at "
                           f"{config.data.mpp:g} µm per pixel. Set missing_mpp to the µm per pixel of such images, or mpp "
                           "to 0 to use all pixels as they are")
    return None if unknown else config.data.mpp
