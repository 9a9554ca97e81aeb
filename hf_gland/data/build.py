"""Annotated samples to a dataset folder, and back.

    OUT/README.md                            a card by which `datasets.load_dataset(OUT)` finds every split
    OUT/provenance.json                      classes, sources, annotation settings, counts, checksum
    OUT/data/<split>-00000-of-0000N.parquet  rows in the columns of `FEATURES`
"""

import functools
import io
import json
import re
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hf_gland.data.card import folder_card
from hf_gland.data.digest import combined_digest, row_digest
from hf_gland.data.parallel import map_in_order
from hf_gland.data.parquet import SplitWriter
from hf_gland.data.sample import Sample
from hf_gland.data.schema import FEATURES, PIXEL_COLUMNS
from hf_gland.data.sparsify import SparseAnnotation, SparsifyConfig, annotation_rng, left_unlabelled, sparsify
from hf_gland.errors import DatasetError
from hf_gland.labels import IGNORE_INDEX, check_class_names, check_mask

PROVENANCE_FILE = "provenance.json"


@dataclass
class SplitStatistics:
    """Running counts of one split. One image whose glands or marks nobody counted makes their sum unknown (None)."""

    images: int = 0
    annotated_glands: int = 0
    total_glands: int | None = 0
    marks: int | None = 0
    labelled_fractions: list[float] = field(default_factory=list)
    patients: set[str] = field(default_factory=set)

    def add(self, sample: Sample, annotation: SparseAnnotation) -> None:
        self.images += 1
        self.annotated_glands += annotation.annotated_glands
        self.total_glands = _sum(self.total_glands, annotation.total_glands)
        self.marks = _sum(self.marks, annotation.marks)
        self.labelled_fractions.append(annotation.labelled_fraction)
        self.patients |= {sample.patient_id} - {""}

    def summary(self) -> dict[str, Any]:
        """The split's entry in provenance.json; labelled_fraction is the mean over images, 0-1."""
        return {"images": self.images, "patients": len(self.patients), "annotated_glands": self.annotated_glands,
                "total_glands": self.total_glands, "marks": self.marks,
                "labelled_fraction": round(float(np.mean(self.labelled_fractions)), 6)}


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def annotated(samples: Iterable[Sample], config: SparsifyConfig, seed: int, outlined: Collection[str] | None = None,
              ) -> Iterator[tuple[Sample, SparseAnnotation]]:
    """Pair each sample with its sparse annotation, a function of (seed, image_id) and the settings.

    An image without a dense mask is left wholly unlabelled, its glands uncounted; so is, with its glands counted, one that
    is not among the ids `outlined` (style `images`; None: all are).
    """
    def draw(sample: Sample) -> tuple[Sample, SparseAnnotation]:
        if sample.mask is None:
            nothing = np.full(sample.image.shape[:2], IGNORE_INDEX, np.uint8)
            return sample, SparseAnnotation(nothing, 0, None, 0.0, 0)
        drawn = sparsify(sample.mask, sample.instances, config, annotation_rng(seed, sample.image_id))
        return sample, drawn if outlined is None or sample.image_id in outlined else left_unlabelled(drawn)

    return map_in_order(draw, samples, lambda sample: sample.image.size)


@dataclass(frozen=True)
class About:
    """What a dataset says of itself, beside its rows.

    `source`: name of the data; `licence` of the images; `annotation` and `seed`: how they were annotated; `sources`: what
    they were made from (checksums).
    """

    class_names: Sequence[str]
    source: str
    licence: str
    annotation: Mapping[str, Any] | SparsifyConfig
    seed: int = 0
    sources: Mapping[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Its part of provenance.json."""
        drawn = asdict(self.annotation) if isinstance(self.annotation, SparsifyConfig) else dict(self.annotation)
        return {"source": self.source, "sources": dict(self.sources), "seed": self.seed, "licence": self.licence,
                "sparsify": drawn}


def build_dataset(splits: Mapping[str, Iterable[tuple[Sample, SparseAnnotation]]], out: str | Path, about: About, *,
                  overwrite: bool = False) -> dict[str, Any]:
    """Write the folder `out` and return its provenance. Unless everything was written, `out` is left as it was.

    `splits`: annotated samples by split, each read once and never held all at once. Raises DatasetError when `out` exists
    and `overwrite` is false, or is not a dataset folder; when a split is empty, two images share an id, or the disk is
    full; MaskError for a mask that breaks the label convention.
    """
    names, out = check_class_names(about.class_names), Path(out).absolute()
    _check_target(out, overwrite)
    for split in splits:
        if not re.fullmatch(r"\w+", split) or split == "all":
            raise DatasetError(f"'{split}' cannot name a split; use letters, digits and _ (and not 'all')")
    work: Path | None = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-unfinished-", dir=out.parent))
        provenance = _write(work, splits, names, about.record())
        work.chmod(0o755)  # mkdtemp makes folders for one user only
        _swap(work, out)
    except OSError as error:
        raise DatasetError(f"{out}: could not be written ({error}); is there space, and permission to write?") from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
    return provenance


def _check_target(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise DatasetError(f"{out}: exists already; choose another folder, or pass --overwrite to replace it")
    if out.exists() and not (out / PROVENANCE_FILE).is_file():
        raise DatasetError(f"{out}: is not a dataset folder (no {PROVENANCE_FILE}), so it is not overwritten")


def _swap(work: Path, out: Path) -> None:
    """Put `work` in the place of `out`; the old folder is only deleted once the new one is there."""
    if not out.exists():
        work.replace(out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}-old-", dir=out.parent))
    try:
        out.replace(old / "data")
        try:
            work.replace(out)
        except BaseException:
            (old / "data").replace(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _write(folder: Path, splits: Mapping[str, Iterable[tuple[Sample, SparseAnnotation]]], names: tuple[str, ...],
           record: Mapping[str, Any]) -> dict[str, Any]:
    (folder / "data").mkdir()
    counts: dict[str, SplitStatistics] = {}
    digests: list[str] = []
    seen: set[str] = set()
    for split, pairs in splits.items():
        counts[split] = SplitStatistics()
        with SplitWriter(folder / "data", split) as writer:
            encoded = functools.partial(encode, split, len(names))
            for sample, drawn, digest, row in map_in_order(encoded, pairs, lambda pair: pair[0].image.size):
                if sample.image_id in seen:
                    raise DatasetError(f"two images have the id '{sample.image_id}'; ids must differ across all splits")
                seen.add(sample.image_id)
                counts[split].add(sample, drawn)
                digests.append(digest)
                writer.write(row)
        if not counts[split].images:
            raise DatasetError(f"split '{split}' has no images")
    provenance = {"class_names": list(names), **record, "splits": {s: c.summary() for s, c in counts.items()},
                  "shared_patients": shared_patients({s: c.patients for s, c in counts.items()}),
                  "data_sha256": combined_digest(digests)}
    write_about(folder, provenance)
    return provenance


def write_about(folder: Path, provenance: Mapping[str, Any]) -> None:
    """provenance.json and README.md of a dataset folder."""
    (folder / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (folder / "README.md").write_text(folder_card(provenance), "utf-8")


def encode(split: str, num_classes: int, pair: tuple[Sample, SparseAnnotation],
           ) -> tuple[Sample, SparseAnnotation, str, dict[str, Any]]:
    """An annotated image, its share in `data_sha256`, and its row as it is written. Raises HfGlandError naming the image."""
    sample, annotation = pair
    sample.check(num_classes)
    check_mask(annotation.mask, num_classes, sample.image_id, image_hw=sample.image.shape[:2])
    row = make_row(sample, annotation)
    whole = sample.mask is not None and np.array_equal(sample.mask, annotation.mask)  # style full: one PNG serves for both
    cells = {column: _png(row[column]) for column in PIXEL_COLUMNS if not (whole and column == "sparse_mask")}
    return sample, annotation, row_digest(split, row), row | cells | ({"sparse_mask": cells["mask"]} if whole else {})


def make_row(sample: Sample, annotation: SparseAnnotation) -> dict[str, Any]:
    """One row in the columns of `FEATURES`, its images as arrays (instances uint16)."""
    return {
        "image": sample.image, "sparse_mask": annotation.mask, "mask": sample.mask,
        "instances": None if sample.instances is None else sample.instances.astype(np.uint16),
        "image_id": sample.image_id, "patient_id": sample.patient_id, "source": sample.source,
        "grade": sample.grade, "mpp": sample.mpp, "labelled_fraction": annotation.labelled_fraction,
        "annotated_glands": annotation.annotated_glands, "total_glands": annotation.total_glands,
    }


def _png(pixels: np.ndarray | None) -> dict[str, Any] | None:
    if pixels is None:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def shared_patients(patients: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """`{"train+test": [patient ids]}` for every two splits that have a patient in common."""
    splits = list(patients)
    pairs = {f"{a}+{b}": sorted(patients[a] & patients[b]) for i, a in enumerate(splits) for b in splits[i + 1:]}
    return {pair: shared for pair, shared in pairs.items() if shared}


def load_provenance(path: str | Path) -> dict[str, Any]:
    """provenance.json of a dataset folder; raises DatasetError when the folder is not one."""
    file = Path(path) / PROVENANCE_FILE
    if not file.is_file():
        raise DatasetError(f"{path}: not a dataset folder ({PROVENANCE_FILE} is missing); "
                           "make one with scripts/build_dataset.py")
    try:
        provenance = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise DatasetError(f"{file}: not valid JSON ({error}); build the dataset again") from error
    if not isinstance(provenance, dict) or not isinstance(provenance.get("splits"), dict):
        raise DatasetError(f"{file}: names no splits; build the dataset again")
    return provenance


def load_local(path: str | Path) -> datasets.DatasetDict:
    """The dataset that `build_dataset` wrote, all splits, in the columns of `FEATURES`.

    `datasets` keeps an uncompressed copy in its cache (`HF_DATASETS_CACHE`). Raises DatasetError when the folder is
    not a dataset, or a file is missing or damaged.
    """
    files: dict[str, list[str]] = {}
    for split, counts in load_provenance(path)["splits"].items():
        shards = sorted(Path(path).glob(f"data/{split}-[0-9]*.parquet"))
        try:
            metadata = [pq.read_metadata(shard) for shard in shards]
        except (pa.ArrowInvalid, OSError) as error:
            raise DatasetError(f"{path}: a Parquet file of split '{split}' is damaged ({error}); "
                               "build the dataset again") from error
        for shard, about in zip(shards, metadata, strict=True):
            # `datasets` would fill a column that is not there with nulls, and an image with no mask is valid.
            if absent := sorted(set(FEATURES) - set(about.schema.to_arrow_schema().names)):
                raise DatasetError(f"{shard}: lacks the columns {', '.join(absent)}; build the dataset again")
        rows = sum(about.num_rows for about in metadata)
        if rows != counts["images"]:
            raise DatasetError(f"{path}: split '{split}' has {rows} rows in {len(shards)} Parquet files but "
                               f"{PROVENANCE_FILE} says {counts['images']}; build the dataset again")
        files[split] = [str(shard) for shard in shards]
    try:
        return datasets.load_dataset("parquet", data_files=files, features=FEATURES)
    except datasets.exceptions.DatasetGenerationError as error:
        raise DatasetError(f"{path}: cannot be read ({error.__cause__ or error}); build the dataset again") from error
