"""All that is written of one slide, while its stripes come."""

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from hf_gland.export.formats import FORMATS, slide_paths
from hf_gland.export.results_folder import file_sha256
from hf_gland.export.slide_writer import SlideInfo
from hf_gland.files import atomic_file
from hf_gland.inference.glands import GlandPrediction, GlandRules
from hf_gland.inference.slides.bands import Bands
from hf_gland.inference.slides.finder import GlandFinder
from hf_gland.inference.slides.groups import MAX_GROUP_PX
from hf_gland.inference.slides.plan import SlideGrid, Stripe
from hf_gland.options import ExportOptions

RECORD_ENDING = ".json"


@dataclass
class SlideCounts:
    """`glands` found, `unsure` ones and those that `reach_border` among them, and what was `left_out` of them as unsure;
    pixels of the grid: `gland_px` of glands and `area_px` that were predicted; `mean_confidence` over the latter, 0-1 (None:
    there are none).
    """

    glands: int = 0
    unsure: int = 0
    left_out: int = 0
    reach_border: int = 0
    gland_px: int = 0
    area_px: int = 0
    mean_confidence: float | None = None


class SlideOutputs:
    """Stripes in, files out: `with SlideOutputs(…) as outputs`, `add` every stripe of the grid, `finish`.

    Files grow beside their final names and get these when all are complete, the record last: where it is, all are. It is
    written before the first gets its name, so that after a kill its part tells which files are of this run. Leaving the
    `with` without `finish` removes what was begun; after a kill, the next run of the slide writes over it.
    """

    def __init__(self, stem: Path, formats: Iterable[str], rules: GlandRules, grid: SlideGrid, thumbnail: np.ndarray,
                 name: str, options: ExportOptions = ExportOptions()):
        self.paths = slide_paths(stem, formats)
        self.record_path = stem.with_name(stem.name + RECORD_ENDING)
        self.counts, self.seconds = SlideCounts(), {"finding glands": 0.0, "writing": 0.0}
        self._options = replace(options, scale_xy=grid.scale_xy, origin_xy=grid.origin_xy)
        self._rules, self._grid, self._name, self._thumbnail = rules, grid, name, thumbnail
        self._bands, self._finder = Bands(grid), GlandFinder(rules, grid, name)
        self._percent_sum = 0
        self._top_px = 0  # of the first row of classes that is not written yet
        self._classes: deque[np.ndarray] = deque()
        self._files = ExitStack()

    def __enter__(self) -> Self:
        slide = SlideInfo(self._name, (self._grid.height_px, self._grid.width_px), self._grid.mpp, self._thumbnail)
        with ExitStack() as files:
            self._parts = {path: files.enter_context(atomic_file(path, part_name(path))) for path in self.paths.values()}
            self._writers = [FORMATS[name].slide.open(self._parts[path], slide, self._options)  # type: ignore[union-attr]
                             for name, path in self.paths.items()]
            self._files = files.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*(error if error[0] else (_Unfinished, _Unfinished(), None)))

    def add(self, stripe: Stripe) -> None:
        """The next rows of the grid."""
        for band in self._bands.add(stripe):
            self._write_confidence(band)
            self._classes.append(np.zeros(band.tissue.shape, np.uint8))
            parts, started = self._finder.add(band), time.perf_counter()
            while True:
                part = next(parts, None)
                found = time.perf_counter()
                self.seconds["finding glands"] += found - started
                if part is None:
                    break
                self._write_glands(part)
                started = time.perf_counter()
                self.seconds["writing"] += started - found
            self._write_classes(self._finder.settled_px)
            self.seconds["writing"] += time.perf_counter() - found

    def finish(self, record: Mapping[str, Any]) -> list[str]:
        """Complete all files, and write `record` with the figures, timings and checksums beside them, after those that it
        lists of files that were there; returns the notes."""
        started = time.perf_counter()
        self._bands.finish()
        for writer in self._writers:
            writer.finish()
        for file in self._parts.values():
            file.flush()
        counts, notes = self.counts, [*record.get("notes", ()), *self.notes()]
        counts.left_out = self._finder.left_out
        counts.mean_confidence = self._percent_sum / counts.area_px / 100 if counts.area_px else None
        self.seconds["writing"] += time.perf_counter() - started
        parts = {path.name: path.with_name(part_name(path)) for path in self._parts}
        files = {name: {"bytes": part.stat().st_size, "sha256": file_sha256(part)} for name, part in parts.items()}
        whole = {**record, "figures": asdict(counts), "notes": notes, "files": record.get("files", {}) | files,
                 "seconds": {**record.get("seconds", {}), **{stage: round(s, 2) for stage, s in self.seconds.items()}}}
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
        part = self.record_path.with_name(part_name(self.record_path))
        part.write_bytes(text)
        self._files.close()
        os.replace(part, self.record_path)
        return notes

    def notes(self) -> list[str]:
        """What a reader of the results should know."""
        notes = []
        if self._finder.divided:
            limit_mm2 = MAX_GROUP_PX * self._grid.mpp**2 / 1e6
            notes.append(f"regions of gland of more than {limit_mm2:.1f} mm² were divided into blocks along straight lines "
                         f"({self._finder.divided} times); glands there count as touching the border")
        if self.counts.area_px and not self.counts.glands:
            notes.append("no gland was found")
        return notes

    def _write_confidence(self, band: Stripe) -> None:
        started = time.perf_counter()
        percent = np.zeros(band.tissue.shape, np.uint8)
        window = slice(*band.columns())
        tissue = band.tissue[:, window]
        if area_px := int(np.count_nonzero(tissue)):
            highest = band.probabilities[:len(self._rules.id2label), :, window].max(axis=0)
            highest *= 100
            np.round(highest, out=highest)
            np.copyto(percent[:, window], highest, where=tissue, casting="unsafe")
            self.counts.area_px += area_px
            self._percent_sum += int(percent[:, window].sum(dtype=np.int64))
        for writer in self._writers:
            writer.add_confidence(percent)
        self.seconds["writing"] += time.perf_counter() - started

    def _write_glands(self, part: GlandPrediction) -> None:
        counts = self.counts
        counts.glands += len(part.glands)
        counts.unsure += sum(gland.mean_confidence < self._options.unsure_below for gland in part.glands)
        counts.reach_border += sum(gland.touches_border for gland in part.glands)
        counts.gland_px += sum(gland.area_px for gland in part.glands)
        for writer in self._writers:
            writer.add_glands(part)
        top, left = part.origin_yx
        row = self._top_px
        for rows in self._classes:
            first, end = max(row, top), min(row + len(rows), top + part.class_map.shape[0])
            if first < end:
                found = part.class_map[first - top:end - top]
                there = rows[first - row:end - row, left:left + found.shape[1]]
                np.copyto(there, found, where=found > 0)
            row += len(rows)

    def _write_classes(self, settled_px: int) -> None:
        while self._classes and self._top_px + len(self._classes[0]) <= settled_px:
            rows = self._classes.popleft()
            self._top_px += len(rows)
            for writer in self._writers:
                writer.add_classes(rows)


class _Unfinished(Exception):
    """Makes the files under way disappear."""


def part_name(path: Path) -> str:
    """The same for the same file in every run, so that what a killed run left is written over."""
    return f".{hashlib.sha256(path.name.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}.part"
