"""Rows to Parquet files that `datasets` reads back with every column type intact."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hf_gland.data.schema import FEATURES

GROUP_BYTES = 32 * 2**20  # rows are written in groups of this size, which bounds the memory that building takes
GROUP_ROWS = 100
SHARD_BYTES = 450 * 2**20  # the Hub's viewer and streaming readers like files under 500 MB


class SplitWriter:
    """Writes `folder/<split>-00000-of-0000N.parquet`; used as a context manager, it names the files on a clean exit.

    Rows hold the columns of `FEATURES`, images as `{"bytes": PNG, "path": None}` or None. Raises OSError when the
    disk is full; what was written until then stays under a working name.
    """

    def __init__(self, folder: Path, split: str) -> None:
        self._folder, self._split = folder, split
        self._schema = FEATURES.arrow_schema  # carries the feature types in its metadata
        self._rows: list[dict[str, Any]] = []
        self._pending_bytes = self._file_bytes = 0
        self._shards: list[Path] = []
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> "SplitWriter":
        return self

    def write(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        self._pending_bytes += sum(len(cell["bytes"]) for cell in row.values() if isinstance(cell, dict))
        if self._pending_bytes >= GROUP_BYTES or len(self._rows) >= GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        if self._file is None:
            self._shards.append(self._folder / f"{self._split}-{len(self._shards):05d}.part")
            self._file, self._file_bytes = pq.ParquetWriter(self._shards[-1], self._schema), 0
        self._file.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._file_bytes += self._pending_bytes
        self._rows, self._pending_bytes = [], 0
        if self._file_bytes >= SHARD_BYTES:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            file.close()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self._flush()
            self._close()
            for index, shard in enumerate(self._shards):
                shard.replace(self._folder / f"{self._split}-{index:05d}-of-{len(self._shards):05d}.parquet")
            return
        with contextlib.suppress(OSError):  # the error that brought us here says more than one about closing a file
            self._close()
