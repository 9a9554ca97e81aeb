"""Samples to a dataset folder on disk: Parquet per split, a card that `load_dataset` understands, provenance."""

import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from hf_gland.data.errors import DatasetError
from hf_gland.data.schema import FEATURES, Sample
from hf_gland.data.sparsify import SparseAnnotation, SparsifyConfig, annotation_rng, sparsify
from hf_gland.labels import IGNORE_INDEX, check_class_names

PROVENANCE_FILE = "provenance.json"
ROWS_PER_GROUP = 16
SHARD_BYTES = 400 * 2**20


@dataclass
class SplitStatistics:
    """Running counts of one split, as provenance.json reports them."""

    images: int = 0
    annotated_glands: int = 0
    total_glands: int = 0
    labelled: float = 0.0
    patients: set[str] = field(default_factory=set)

    def add(self, sample: Sample, annotation: SparseAnnotation) -> None:
        self.images += 1
        self.annotated_glands += annotation.annotated_glands
        self.total_glands += annotation.total_glands
        self.labelled += annotation.labelled_fraction
        self.patients.add(sample.patient_id)

    def summary(self) -> dict[str, Any]:
        return {"images": self.images, "patients": len(self.patients), "annotated_glands": self.annotated_glands,
                "total_glands": self.total_glands, "labelled_fraction": round(self.labelled / self.images, 6)}


def annotate(sample: Sample, config: SparsifyConfig, seed: int) -> SparseAnnotation:
    """The sparse annotation of a sample; an image without a dense mask is wholly unlabelled."""
    if sample.mask is None:
        return SparseAnnotation(np.full(sample.image.shape[:2], IGNORE_INDEX, np.uint8), 0, 0, 0.0)
    return sparsify(sample.mask, sample.instances, config, annotation_rng(seed, sample.image_id))


def make_row(sample: Sample, annotation: SparseAnnotation) -> dict[str, Any]:
    """One row in the columns of `FEATURES`, images as lossless PNG bytes (instances with 16 bits)."""
    return {
        "image": _png(sample.image), "sparse_mask": _png(annotation.mask), "mask": _png(sample.mask),
        "instances": _png(None if sample.instances is None else sample.instances.astype(np.uint16)),
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


def row_digest(split: str, sample: Sample, sparse_mask: np.ndarray) -> str:
    """SHA-256 of one row's decoded pixels and ids: what it says, however it is encoded."""
    digest = hashlib.sha256()
    mpp = None if sample.mpp is None else float(np.float32(sample.mpp))  # as the column stores it
    digest.update(json.dumps([split, sample.image_id, sample.patient_id, sample.source, sample.grade, mpp]).encode())
    for pixels in (sample.image, sparse_mask, sample.mask, sample.instances):
        if pixels is None:
            digest.update(b"null")
        else:
            digest.update(f"{pixels.shape}".encode())
            digest.update(np.ascontiguousarray(pixels.astype("<u2")).tobytes())
    return digest.hexdigest()


def combined_digest(row_digests: Iterable[str]) -> str:
    """`data_sha256`: of all rows' digests, in an order that does not depend on that of the rows."""
    return hashlib.sha256("".join(sorted(row_digests)).encode()).hexdigest()


def build_dataset(splits: Mapping[str, Iterable[Sample]], out: str | Path, *, config: SparsifyConfig, seed: int,
                  class_names: Sequence[str], source: str, licence: str, sources: Mapping[str, Any] | None = None,
                  overwrite: bool = False) -> dict[str, Any]:
    """Write `out` and return its provenance. Nothing is left at `out` unless everything was written.

    `splits`: samples of each split, read once, in order. `sources`: what the data was made from (checksums).
    Raises DatasetError: `out` exists and `overwrite` is false, a split is empty, two images share an id.
    """
    names, out = check_class_names(class_names), Path(out)
    if out.exists() and not overwrite:
        raise DatasetError(f"{out}: exists already; choose another folder, or pass --overwrite to replace it")
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        (work / "data").mkdir()
        statistics, digests = {}, []
        seen: set[str] = set()
        for split, samples in splits.items():
            statistics[split] = _write_split(work / "data", split, samples, config, seed, len(names), seen, digests)
        provenance = {
            "class_names": list(names), "source": source, "sources": dict(sources or {}),
            "sparsify": asdict(config), "seed": seed,
            "splits": {split: s.summary() for split, s in statistics.items()},
            "data_sha256": combined_digest(digests), "licence": licence,
        }
        (work / PROVENANCE_FILE).write_text(json.dumps(provenance, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (work / "README.md").write_text(dataset_card(provenance), "utf-8")
        work.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        os.replace(work, out)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise
    return provenance


def _write_split(folder: Path, split: str, samples: Iterable[Sample], config: SparsifyConfig, seed: int,
                 num_classes: int, seen: set[str], digests: list[str]) -> SplitStatistics:
    statistics, rows = SplitStatistics(), []
    shards: list[Path] = []
    writer: pq.ParquetWriter | None = None
    schema = FEATURES.arrow_schema
    try:
        for sample in samples:
            sample.check(num_classes)
            if sample.image_id in seen:
                raise DatasetError(f"two images have the id '{sample.image_id}'; ids must differ across all splits")
            seen.add(sample.image_id)
            annotation = annotate(sample, config, seed)
            statistics.add(sample, annotation)
            digests.append(row_digest(split, sample, annotation.mask))
            rows.append(make_row(sample, annotation))
            if len(rows) == ROWS_PER_GROUP:
                if writer is None:
                    shards.append(folder / f"{split}-{len(shards):05d}.parquet")
                    writer = pq.ParquetWriter(shards[-1], schema)
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []
                if shards[-1].stat().st_size > SHARD_BYTES:
                    writer.close()
                    writer = None
        if rows:
            if writer is None:
                shards.append(folder / f"{split}-{len(shards):05d}.parquet")
                writer = pq.ParquetWriter(shards[-1], schema)
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    finally:
        if writer is not None:
            writer.close()
    if not statistics.images:
        raise DatasetError(f"split '{split}' has no images")
    for index, shard in enumerate(shards):
        os.replace(shard, folder / f"{split}-{index:05d}-of-{len(shards):05d}.parquet")
    return statistics


def dataset_card(provenance: Mapping[str, Any]) -> str:
    """README.md whose front matter lets `datasets.load_dataset(folder)` find every split."""
    files = "".join(f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in provenance["splits"])
    table = "".join(f"| {split} | {s['images']} | {s['patients']} | {s['annotated_glands']} / {s['total_glands']} | "
                    f"{100 * s['labelled_fraction']:.2f} |\n" for split, s in provenance["splits"].items())
    return (f"---\ntask_categories:\n- image-segmentation\nconfigs:\n- config_name: default\n  data_files:\n{files}"
            f"---\n\n# Sparsely annotated glands: {provenance['source']}\n\n"
            f"Classes: {', '.join(provenance['class_names'])}; 255 in a mask is unlabelled, not background.\n\n"
            "| split | images | patients | glands annotated / all | pixels labelled (%) |\n|---|---|---|---|---|\n"
            f"{table}\nLicence: {provenance['licence']}\n\n"
            f"`{PROVENANCE_FILE}` holds the annotation settings, the sources' checksums and the data's SHA-256.\n")


def load_provenance(path: str | Path) -> dict[str, Any]:
    """provenance.json of a dataset folder; raises DatasetError when the folder is not one."""
    file = Path(path) / PROVENANCE_FILE
    if not file.is_file():
        raise DatasetError(f"{path}: not a dataset folder ({PROVENANCE_FILE} is missing); "
                           "make one with scripts/build_dataset.py")
    try:
        return json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise DatasetError(f"{file}: not valid JSON ({error}); build the dataset again") from error


def load_local(path: str | Path) -> datasets.DatasetDict:
    """The dataset that `build_dataset` wrote, all splits, in the columns of `FEATURES`."""
    splits = load_provenance(path)["splits"]
    for split in splits:
        if not sorted(Path(path).glob(f"data/{split}-*.parquet")):
            raise DatasetError(f"{path}: the Parquet files of split '{split}' are missing; build the dataset again")
    files = {split: [str(f) for f in sorted(Path(path).glob(f"data/{split}-*.parquet"))] for split in splits}
    for file in sum(files.values(), []):
        try:
            pq.read_metadata(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise DatasetError(f"{file}: damaged ({error}); build the dataset again") from error
    return datasets.load_dataset("parquet", data_files=files, features=FEATURES)
