"""The part of `predict` that is about slides: which of them are to do, shared out over processes, and a bar for each."""

import argparse
import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_gland.cli.outcome import Outcome, glands_found, recorded
from hf_gland.export.formats import FORMATS
from hf_gland.imaging.opening import displayable
from hf_gland.inference.requests import Request
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.inference.slides.cohort import (
    SUMMARY,
    SlideSettings,
    is_finished,
    predict_one,
    read_summary,
    summary_row,
    write_summary,
)
from hf_gland.inference.slides.contact_sheet import CONTACT_SHEET, write_contact_sheet
from hf_gland.inference.slides.on_ray import predict_on_ray
from hf_gland.inference.slides.predict import Progress
from hf_gland.inference.slides.tiles import TilePlan
from hf_gland.options import ExportOptions, PostProcessing, Tiling

LONGEST_SHARE = timedelta(days=30)  # that processes wait for one another


class Shares:
    """The processes of one run, where `accelerate launch` started several: each takes a share of the slides."""

    def __init__(self) -> None:
        self.count, self.index = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self._state: Any = None

    @property
    def first(self) -> bool:
        return self.index == 0

    def device(self, wanted: str | None) -> str | None:
        """The device of this process; the processes meet here."""
        if self.count == 1:
            return wanted
        from accelerate import PartialState

        self._state = PartialState(cpu=wanted == "cpu", timeout=LONGEST_SHARE)
        return wanted or str(self._state.device)

    def told_by_first(self, value: Any) -> Any:
        """What the first process says, in all of them."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def of_all(self, values: list[Any]) -> list[Any]:
        """The values of all processes, which wait for one another."""
        if self.count == 1:
            return values
        from accelerate.utils import gather_object

        return gather_object(values)


def open_model(arguments: argparse.Namespace, device: str | None) -> tuple[GlandSegmenter, str | None]:
    """The model on its device, and what is to be said of its back-end."""
    segmenter = GlandSegmenter.from_pretrained(arguments.model, arguments.revision, device,
                                               "student" if arguments.student else None)
    return segmenter, segmenter.use_backend(arguments.backend, arguments.exported or Path(arguments.model) / "onnx",
                                            arguments.precision)


def slide_settings(arguments: argparse.Namespace, tiling: Tiling, post: PostProcessing, options: ExportOptions,
                   settings: dict[str, Any]) -> SlideSettings:
    """How slides are predicted and written; of the pixel size their records say for each what was given."""
    whole = recorded({name: value for name, value in settings.items() if name != "mpp"} | {"tiling": tiling})
    whole |= {"tissue_mask": not arguments.no_tissue_mask}
    return SlideSettings(arguments.formats, tiling, post, options, arguments.no_tissue_mask,
                         {"model": arguments.model, "revision": arguments.revision, "settings": whole},
                         arguments.overwrite)


def predict_slides(segmenter: GlandSegmenter, requests: list[Request], settings: SlideSettings, shares: Shares,
                   arguments: argparse.Namespace) -> Outcome:
    """Predict this process's share of what is not finished, the largest files first, and write the table of all slides."""
    todo = None
    if shares.first:
        if none := [name for name in settings.formats if FORMATS[name].slide is None]:
            print(f"note: {', '.join(none)}: not written of slides, only of pictures", file=sys.stderr)
        read_summary(arguments.out / SUMMARY)  # raises for a table that cannot be gone on with
        kept = {request for request in requests if arguments.skip_existing and is_finished(request, settings)}
        todo = sorted((request for request in requests if request not in kept), key=_size, reverse=True)
        if not arguments.overwrite:
            for request in todo:
                is_finished(request, settings)  # raises for results of other settings
    todo = shares.told_by_first(todo)
    own = todo[shares.index::shares.count]
    gc.freeze()  # the points of outlines start the collector often; it need not walk through all libraries each time
    records = (_on_ray(segmenter, own, settings, arguments) if arguments.ray and own else
               (_with_bar(segmenter, request, settings, f"{number}/{len(own)}", shares)
                for number, request in enumerate(own, start=1)))
    glands, failed = [], []
    for record in records:
        say(record)
        if "error" in record:
            failed.append(record)
        else:
            glands.append(record["figures"]["glands"])
        if shares.first:
            write_summary(arguments.out / SUMMARY, requests, failed)
    glands, failed = shares.of_all(glands), shares.of_all(failed)
    if shares.first:
        write_summary(arguments.out / SUMMARY, requests, failed)
        write_contact_sheet(arguments.out / CONTACT_SHEET, requests)
    return Outcome(len(glands), len(requests) - len(todo), len(todo) - len(glands), sum(glands))


def say(record: dict[str, Any]) -> None:
    """One line on what became of a slide, and its notes."""
    if "error" in record:
        tqdm.write(f"error: {record['error']}", file=sys.stderr)
        return
    row = summary_row(record)
    tqdm.write(f"{row['image']}: {glands_found(row['glands'], row['glands_left_out'])}, "
               f"on {row['gland_area_share'] or 0:.1%} of {row['predicted_mm2']:.1f} mm² ({record['predicted']}); "
               f"{row['tiles']} tiles in {row['seconds']:.0f} s; {row['mpp']:g} µm per pixel ({row['mpp_source']})"
               + "".join(f"\n  note: {note}" for note in record["notes"]))


def _with_bar(segmenter: GlandSegmenter, request: Request, settings: SlideSettings, place: str,
              shares: Shares) -> dict[str, Any]:
    with tqdm(unit=" tiles", desc=f"{place} {displayable(request.path.name)}", disable=not shares.first, leave=False) as bar:
        def shown(plan: TilePlan, progress: Progress) -> None:
            bar.total = plan.tiles
            bar.update(progress.tiles - bar.n)

        return predict_one(segmenter, request, settings, shown)


def _on_ray(segmenter: GlandSegmenter, requests: list[Request], settings: SlideSettings,
            arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The records of slides as workers finish them, all with this process's back-end and precision, under a bar."""
    same = {"backend": segmenter.backend, "precision": settings.recorded["settings"]["precision"]}
    settings = replace(settings, tiling=replace(settings.tiling, precision=same["precision"]))
    load = partial(_model, argparse.Namespace(**vars(arguments) | same))
    yield from tqdm(predict_on_ray(arguments.ray, load, requests, settings, arguments.device != "cpu"), unit=" slides",
                    total=len(requests), leave=False)


def _model(arguments: argparse.Namespace) -> GlandSegmenter:
    return open_model(arguments, arguments.device)[0]


def _size(request: Request) -> int:
    try:
        return request.path.stat().st_size
    except OSError:
        return 0
