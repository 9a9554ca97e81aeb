"""Slide after slide: those that are finished stay, one that fails is told of and the rest go on."""

import csv
import errno
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_gland.environment import hardware, versions
from hf_gland.errors import HfGlandError
from hf_gland.export.formats import FORMATS, slide_paths
from hf_gland.export.results_folder import changed_since, file_sha256, file_text, other_settings, read_table
from hf_gland.files import atomic_file, write_atomically
from hf_gland.imaging.appearance import USUAL_LOOK
from hf_gland.imaging.opening import displayable
from hf_gland.imaging.slide_files import slide_files
from hf_gland.imaging.slides import MOST_PICTURE_PX, open_slide, slide_mpp
from hf_gland.inference.glands import GlandRules
from hf_gland.inference.requests import Request
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.inference.slides.area import find_area
from hf_gland.inference.slides.outputs import RECORD_ENDING, SlideOutputs, part_name
from hf_gland.inference.slides.plan import slide_grid
from hf_gland.inference.slides.predict import Progress, predict_slide
from hf_gland.inference.slides.tiles import TilePlan, plan_tiles, sample_tiles
from hf_gland.model.memory import out_of_memory
from hf_gland.options import ExportOptions, PostProcessing, Tiling

SUMMARY = "slides.csv"
THUMBNAIL_PX = 2048
LONGEST_NAME_BYTES = 255  # on all common file systems
STAIN_TILES = 24  # of a slide, by which its stain is compared with that of the training images
COLUMNS = ("image", "error", "glands", "unsure_glands", "gland_area_share", "predicted_mm2", "mean_confidence", "width_px",
           "height_px", "mpp", "mpp_source", "tiles", "seconds", "warnings", "record")


@dataclass(frozen=True)
class SlideSettings:
    """How slides are predicted and written. `whole`: all of each, not its tissue alone; `recorded`: the model's name and
    revision, and under "settings" all that results depend on; `overwrite`: replace also what was changed since."""

    formats: Sequence[str]
    tiling: Tiling
    post: PostProcessing
    export: ExportOptions
    whole: bool
    recorded: Mapping[str, Any]
    overwrite: bool = False


Shown = Callable[[TilePlan, Progress], object]


def record_path(request: Request) -> Path:
    """Where the record of a slide stands: it is written last, so where it is, all is."""
    return request.stem.with_name(request.stem.name + RECORD_ENDING)


def is_finished(request: Request, settings: SlideSettings, overwrite: bool = False) -> bool:
    """Whether a slide's results are there, of these settings, of the very file, and as they were written.

    Raises HfGlandError for results of other settings, unless they are to be overwritten.
    """
    record = read_record(request)
    if record is None or "error" in record:
        return False
    recorded = settings.recorded["settings"]
    if changed := other_settings(record["settings"], json.loads(json.dumps(recorded))):
        if overwrite:
            return False
        raise HfGlandError(f"{record_path(request)}: the results there were made with other settings "
                           f"({', '.join(changed)}); give another --out, or --overwrite")
    files = {path.name for path in slide_paths(request.stem, settings.formats).values()}
    written = record["files"]
    return (record["given"] == _given(request) and files <= written.keys() and record["sha256"] == slide_sha256(request.path)
            and all(file_sha256(request.stem.with_name(name)) == written[name]["sha256"] for name in files))


def slide_sha256(path: Path) -> str | None:
    """Checksum of a slide: of its file, or of the names and checksums of all, where these are several. None where one cannot
    be read."""
    first, *more = slide_files(path)
    if not more:
        return file_sha256(first)
    checksums = {file_text(file, path.parent): file_sha256(file) for file in (first, *more)}
    return None if None in checksums.values() else hashlib.sha256(_json(checksums)).hexdigest()


def read_record(request: Request) -> dict[str, Any] | None:
    """What a run wrote of a slide; None where there is nothing, or something else."""
    return _read_record(record_path(request))


def written_files(request: Request) -> dict[str, set[str]]:
    """The names of a slide's result files that its record tells of, or that of a run which was killed as it gave the files
    their names; with the checksums they may have."""
    path, written = record_path(request), dict[str, set[str]]()
    for record in map(_read_record, (path, path.with_name(part_name(path)))):
        for name, file in {} if record is None else record.get("files", {}).items():
            written.setdefault(name, set()).add(file["sha256"])
    return written


def changed_file(request: Request, settings: SlideSettings) -> Path | None:
    """The first result file of a slide that is no longer as it was written, as where its outlines were mended."""
    written = written_files(request)
    return next((path for path in slide_paths(request.stem, settings.formats).values()
                 if path.exists() and file_sha256(path) not in written.get(path.name, ())), None)


def predict_one(segmenter: GlandSegmenter, request: Request, settings: SlideSettings,
                shown: Shown = lambda plan, progress: None) -> dict[str, Any]:
    """Predict a slide, write its files and its record, and return that; with an "error" where it failed.

    Only what would fail with every slide is raised: a full disk, and an interruption.
    """
    name = displayable(request.path)
    if not all(map(_fits, (record_path(request), *slide_paths(request.stem, settings.formats).values()))):
        message = f"{name}: its name is too long for the names of its results; give the file a shorter one"
        return write_error(request, message, settings)
    if not settings.overwrite and (changed := changed_file(request, settings)):
        return {"image": name, "error": f"{name}: {changed_since(changed)}", **settings.recorded}
    try:
        return _predict(segmenter, request, name, settings, shown)
    except Exception as error:  # whatever a slide leads to, the others go on
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        if out_of_memory(error):
            message = f"{name}: not enough memory for it; try a smaller --batch-size, or a machine with more"
        else:
            message = str(error) if isinstance(error, HfGlandError) else f"{name}: {type(error).__name__}: {error}"
        return write_error(request, message, settings)


def write_error(request: Request, message: str, settings: SlideSettings) -> dict[str, Any]:
    """The record of a slide that failed, which is written, unless its name is too long for that, and returned.

    Nothing is written, and finished results stay, where the slide or its outlines are not there to make others: it was
    archived, or a share is not mounted.
    """
    record = {"image": displayable(request.path), "error": message, **settings.recorded}
    before = read_record(request)
    if before is not None and "error" not in before and (
            slide_sha256(request.path) is None or (request.roi is not None and file_sha256(request.roi) is None)):
        return record | {"error": f"{message}; its results of before stay as they are"}
    _tidy(request, ())  # files of an earlier run are not what the record tells of
    for path in filter(os.path.exists, slide_paths(request.stem, settings.formats if settings.overwrite else ()).values()):
        path.unlink()
    if _fits(record_path(request)):
        write_atomically(record_path(request), lambda file: file.write(_json(record)))
    return record


def _predict(segmenter: GlandSegmenter, request: Request, name: str, settings: SlideSettings,
             shown: Shown) -> dict[str, Any]:
    started = time.perf_counter()
    sha256 = slide_sha256(request.path)
    with open_slide(request.path, name, MOST_PICTURE_PX) as slide:
        mpp_xy, source, notes = slide_mpp(slide, request.mpp)
        grid = slide_grid(slide.hw, mpp_xy, segmenter.mpp)
        area, more = find_area(slide, grid, mpp_xy, request.roi, settings.whole)
        plan = plan_tiles(grid, area, settings.tiling)
        if not plan.tiles:
            raise HfGlandError(f"{name}: the outlined regions hold no pixel at the model's pixel size")
        look = (segmenter.appearance.look([*sample_tiles(slide, plan, STAIN_TILES)], settings.tiling.match_stain)
                if segmenter.appearance else USUAL_LOOK)
        if unlike := look.sentence():
            more.append(unlike)
        rules = GlandRules(segmenter.id2label, settings.post, grid.mpp, temperature=segmenter.temperature)
        with SlideOutputs(request.stem, settings.formats, rules, grid, slide.whole(THUMBNAIL_PX).rgb,
                          displayable(request.path.name), settings.export) as outputs:
            planned = time.perf_counter()
            progress = predict_slide(segmenter, slide, plan, outputs.add, lambda done: shown(plan, done), look)
            predicted = time.perf_counter()
            if progress.unreadable_px:
                first = tuple(map(round, progress.unreadable[0]))
                more.append(f"{progress.unreadable_px / progress.area_px:.2%} of the area could not be decoded and was left "
                            f"out, first at {first} (left, top, width, height in pixels of the file)")
            record = {
                "image": name, "sha256": sha256, "given": _given(request), **settings.recorded, "width_px": slide.hw[1],
                "height_px": slide.hw[0], "levels": [list(hw[::-1]) for hw in slide.level_hw], "reader": slide.reader,
                "mpp_xy": list(mpp_xy), "mpp_source": source, "predicted_mpp": grid.mpp,
                "predicted": area.about, "tiles": progress.tiles, "notes": [*notes, *more],
                "versions": versions(), "hardware": hardware(str(segmenter.device)),
                "seconds": {"planning": round(planned - started, 2), "network": round(progress.network_s, 2),
                            "waiting for the reader": round(progress.reading_s, 2),
                            "adding up tiles": round(progress.blending_s, 2),
                            "waiting for what follows": round(progress.held_up_s, 2),
                            "what follows, of processors": round(progress.following_cpu_s, 2),
                            "prediction in all, of processors": round(progress.cpu_s, 2),
                            "prediction in all": round(predicted - planned, 2)}}
            outputs.finish(record | {"files": _tidy(request, settings.formats, record)})
    return json.loads(record_path(request).read_text("utf-8"))


def write_summary(path: Path, requests: Iterable[Request], failed: Iterable[Mapping[str, Any]] = ()) -> None:
    """One row for each slide that has a record, or else is among those that `failed`, after those that the table has of
    others.

    A row tells where the record is, by which a slide is known again whose path is given in another way.
    """
    rows, errors = [], {record["image"]: record for record in failed}
    for request in requests:
        if (record := read_record(request)) is not None:
            rows.append(summary_row(record) | {"record": file_text(record_path(request), path.parent)})
        elif (image := displayable(request.path)) in errors:
            rows.append(summary_row(errors[image]))
    known = {row[column] for row in rows for column in ("image", "record") if column in row}
    rows = [row for row in read_summary(path) if not known & {row.get("image"), row.get("record")}] + rows
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    # One name for all runs, of which only one writes at a time: what a killed one left is written over.
    with atomic_file(path, f".{path.name}.part") as file:
        file.write(text.getvalue().encode("utf-8"))


def read_summary(path: Path) -> list[dict[str, str]]:
    """The rows of the table of slides; none where it is not there. Raises HfGlandError for what is no such table."""
    return [*read_table(path, {"image", "error", "glands"})] if path.exists() else []


def summary_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the summary says of a slide."""
    if "error" in record:
        return {"image": record["image"], "error": record["error"]}
    figures, area_px = record["figures"], record["figures"]["area_px"]
    return {"image": record["image"], "glands": figures["glands"], "unsure_glands": figures["unsure"],
            "glands_left_out": figures["left_out"],
            "gland_area_share": round(figures["gland_px"] / area_px, 4) if area_px else None,
            "predicted_mm2": round(area_px * record["predicted_mpp"]**2 / 1e6, 4),
            "mean_confidence": None if figures["mean_confidence"] is None else round(figures["mean_confidence"], 4),
            "width_px": record["width_px"], "height_px": record["height_px"], "mpp": record["mpp_xy"][0],
            "mpp_source": record["mpp_source"], "tiles": record["tiles"], "seconds": record["seconds"]["prediction in all"],
            "warnings": "; ".join(record["notes"])}


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and ("error" in record or record.keys() >= {"settings", "files", "given", "sha256"})
    return record if whole else None


def _tidy(request: Request, rewritten: Iterable[str], record: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Remove the files of before that are not of the formats to be `rewritten`, but for those changed since.

    What was made with the settings of `record` of the very slide stays too, and is returned as records list it.
    """
    before, written, same = read_record(request), written_files(request), dict[str, Any]()
    of_same = (record is not None and before is not None and "error" not in before
               and all(before[key] == record[key] for key in ("sha256", "given"))
               and not other_settings(before["settings"], json.loads(json.dumps(record["settings"]))))
    paths = slide_paths(request.stem, FORMATS)
    for path in (path for name, path in paths.items() if name not in set(rewritten)):
        sha256 = file_sha256(path)
        if sha256 not in written.get(path.name, ()):
            continue
        listed = before["files"].get(path.name) if before is not None and of_same else None
        if listed is not None and listed["sha256"] == sha256:
            same[path.name] = listed
        else:
            path.unlink()
    return same


def _fits(path: Path) -> bool:
    """Whether a file system takes a file's name."""
    return len(os.fsencode(path.name)) <= LONGEST_NAME_BYTES


def _given(request: Request) -> dict[str, Any]:
    """What was asked for this slide in particular."""
    return {"mpp": request.mpp, "roi_sha256": None if request.roi is None else file_sha256(request.roi)}


def _json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, indent=2, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
