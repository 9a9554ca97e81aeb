"""A dataset folder to publish as one configuration, with every row checked before anything is sent."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hf_gland.data.build import load_provenance
from hf_gland.data.digest import combined_digest, row_digest
from hf_gland.data.sample import Sample
from hf_gland.data.schema import FEATURES, check_images
from hf_gland.errors import DatasetError
from hf_gland.hub.errors import HubError
from hf_gland.labels import check_mask

DEFAULT_CONFIG = "default"
RESERVED = {"data", "media", "preview"}
BATCH_ROWS = 16


@dataclass(frozen=True)
class Configuration:
    """One annotation of a data source: its name on the Hub, the folder that build_dataset wrote, its provenance."""

    name: str
    folder: Path
    provenance: dict[str, Any]

    @property
    def prefix(self) -> str:
        """Folder of its Parquet files in the repository."""
        return "data" if self.name == DEFAULT_CONFIG else self.name

    @property
    def provenance_path(self) -> str:
        return "provenance.json" if self.name == DEFAULT_CONFIG else f"{self.name}/provenance.json"

    def shards(self, split: str) -> list[Path]:
        return sorted((self.folder / "data").glob(f"{split}-[0-9]*.parquet"))

    def stored_rows(self, split: str) -> Iterator[dict[str, Any]]:
        """Rows with images still encoded (`{"bytes", "path"}`)."""
        for shard in self.shards(split):
            for batch in pq.ParquetFile(shard).iter_batches(batch_size=BATCH_ROWS):
                for index, row in enumerate(batch.to_pylist()):
                    check_images(pa.Table.from_batches([batch.slice(index, 1)]), shard.name)
                    yield row

    def rows(self, split: str) -> Iterator[dict[str, Any]]:
        """Rows in the columns of `FEATURES`, images decoded."""
        return map(FEATURES.decode_example, self.stored_rows(split))


def read_configurations(given: Sequence[str]) -> list[Configuration]:
    """`DIR`, or several `NAME=DIR`, of one source. Raises HubError or DatasetError."""
    configurations = []
    for item in given:
        name, _, folder = item.rpartition("=") if not Path(item).is_dir() else ("", "", item)
        if len(given) > 1 and not name:
            raise HubError(f"{item}: several datasets need names; write NAME=DIR, such as glands-20={item}")
        if name and (not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name) or name in RESERVED):
            raise HubError(f"{name}: cannot name a configuration; use letters, digits, '-', '_' and '.', and none of "
                           f"{', '.join(sorted(RESERVED))}")
        configurations.append(Configuration(name or DEFAULT_CONFIG, Path(folder), load_provenance(folder)))
    names = [c.name for c in configurations]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise HubError(f"{twice[0]}: two datasets have this name; give each its own")
    for key in ("source", "licence", "class_names"):
        if len({str(c.provenance[key]) for c in configurations}) > 1:
            values = ", ".join(f"{c.name}: {c.provenance[key]}" for c in configurations)
            raise HubError(f"the datasets differ in their {key.replace('_', ' ')} ({values}); publish them in repositories "
                           "of their own")
    return configurations


def check_rows(configuration: Configuration) -> None:
    """Raise DatasetError naming the first row that breaks the schema, or where data and provenance disagree."""
    provenance, digests, seen = configuration.provenance, [], set()
    for split, counts in provenance["splits"].items():
        where = f"{configuration.folder}, split '{split}'"
        shards = configuration.shards(split)
        for shard in shards:
            _check_columns(shard)
        rows = 0
        try:
            for row in configuration.rows(split):
                _check_row(row, len(provenance["class_names"]))
                if row["image_id"] in seen:
                    raise DatasetError(f"{row['image_id']}: another row has this image_id")
                seen.add(row["image_id"])
                digests.append(row_digest(split, row))
                rows += 1
        except (ValueError, TypeError, OSError, pa.ArrowException) as error:
            raise DatasetError(f"{where}, row {rows}: {str(error).rstrip('.')}. Build the dataset again with "
                               "scripts/build_dataset.py") from error
        if rows != counts["images"]:
            raise DatasetError(f"{where}: has {rows} rows in {len(shards)} files, but provenance.json says "
                               f"{counts['images']}; build the dataset again")
    if combined_digest(digests) != provenance["data_sha256"]:
        raise DatasetError(f"{configuration.folder}: the data were changed after they were built (their SHA-256 is not that "
                           "of provenance.json); build the dataset again")


def _check_columns(shard: Path) -> None:
    try:
        there = pq.read_schema(shard)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{shard}: not a readable Parquet file ({error}); build the dataset again") from error
    expected = FEATURES.arrow_schema
    for field in expected:
        if field.name not in there.names:
            raise DatasetError(f"{shard}: lacks the column {field.name}; build the dataset again")
        if there.field(field.name).type != field.type:
            raise DatasetError(f"{shard}: column {field.name} is {there.field(field.name).type}, not {field.type}; build "
                               "the dataset again")
    if extra := sorted(set(there.names) - set(expected.names)):
        raise DatasetError(f"{shard}: has columns that the schema does not know ({', '.join(extra)}); build the dataset "
                           "again")


def _check_row(row: dict[str, Any], num_classes: int) -> None:
    name = row["image_id"] or "(no image_id)"
    if not row["image_id"] or row["image"] is None or row["sparse_mask"] is None:
        raise DatasetError(f"{name}: image_id, image and sparse_mask must not be empty")
    image = np.asarray(row["image"])
    dense = None if row["mask"] is None else np.asarray(row["mask"])
    instances = None if row["instances"] is None else np.asarray(row["instances"])
    Sample(image, dense, instances, name, row["patient_id"], row["source"], mpp=row["mpp"]).check(num_classes)
    check_mask(np.asarray(row["sparse_mask"]), num_classes, name, image_hw=image.shape[:2])
