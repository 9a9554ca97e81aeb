"""Segment glands in pictures and whole slides: outlines for QuPath, a table, overlays and maps.

  python scripts/predict.py biopsy.png --model runs/first/model --mpp 0.5 --out predictions
  python scripts/predict.py slides/ more/*.tif --model owner/name --mpp 0.25 --views 2 --out predictions --skip-existing
  python scripts/predict.py slide.svs 'study/**/*.ndpi' cohort.csv --model owner/name --out predictions --skip-existing

Slides, pyramids and pictures above 67 million pixels go through in stripes: tissue, or what --roi outlines, at a pixel size
that the file or --mpp must say. A .csv lists files: columns path, mpp, roi. OUT/slides.csv has a row for each slide.
Folders are searched to any depth, hidden and linked ones apart; what is left out is listed. A file that cannot be read is
reported and the rest goes on. OUT/glands.csv has the glands of all pictures, OUT/predictions.json the settings and what
became of each picture; both keep up with the run, the latter as lines of OUT/predictions.jsonl until the run ends. Pixels
count as the files store them, without a camera's orientation tag, as in QuPath. Exit status: 0 if every image was
segmented, 1 if some could not be, 2 for a mistake in the command or a full disk.
"""

import argparse
import errno
import os
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

import hf_gland
from hf_gland.cli.outcome import Outcome, glands_found, recorded
from hf_gland.export.formats import DEFAULT_FORMATS, FORMATS, output_paths, write_outputs
from hf_gland.options import (
    BACKENDS,
    LEAST_GLAND_CONFIDENCE,
    MOST_VIEWS,
    PICTURE_TILE_PX,
    SLIDE_TILE_PX,
    SMALLEST_DETAIL_UM2,
    SMALLEST_GLAND_UM2,
    UNSURE_BELOW,
    VIEWS_HELP,
    ExportOptions,
    PostProcessing,
    Tiling,
)

if TYPE_CHECKING:  # the rest is imported where it is needed, so that --help comes without torch
    from hf_gland.export.results_folder import ResultsFolder
    from hf_gland.inference.requests import Request
    from hf_gland.inference.segmenter import FileResult, GlandSegmenter

INTERRUPTED = "stopped; go on later with --skip-existing"
LARGE_PX = 16e6
BYTES_PER_PIXEL = 55  # 3.7 GB measured at 8192×8192 px, of two classes


def build_parser() -> argparse.ArgumentParser:
    formats = "; ".join(f"{name}: {f.about}" for name, f in FORMATS.items())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER", help="what to segment")
    parser.add_argument("--model", required=True, help="model folder, such as RUN/model, or Hub id")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub model (default: main)")
    parser.add_argument("--student", action="store_true", help="use the student instead of the teacher")
    parser.add_argument("--out", type=Path, required=True,
                        help="folder to write, not that of the images; its subfolders mirror theirs")
    parser.add_argument("--mpp", type=float, help="µm per pixel of the images [what each file states, else the model's]")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(DEFAULT_FORMATS), metavar="FORMAT",
                        help=f"what to write [{' '.join(DEFAULT_FORMATS)}]. {formats}")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace results that exist already")
    existing.add_argument("--skip-existing", action="store_true",
                          help="leave out images whose results all exist, of this model, these settings and the very "
                               "pictures: goes on where a run was stopped")
    slides = parser.add_argument_group("slides")
    where = slides.add_mutually_exclusive_group()
    where.add_argument("--roi", type=Path, metavar="GEOJSON",
                       help="predict inside these outlines (of QuPath, in pixels of the slide) instead of all tissue")
    where.add_argument("--no-tissue-mask", action="store_true", help="predict the whole slide, glass included")
    slides.add_argument("--ray", metavar="ADDRESS",
                        help="share the slides out over a Ray cluster whose machines see the same files: auto for the one "
                             "this machine is part of, local for one of this machine alone, or its address")
    tiling = parser.add_argument_group("prediction")
    tiling.add_argument("--tile-px", type=int, help="side of a tile, at the model's pixel size "
                        f"[{PICTURE_TILE_PX}; {SLIDE_TILE_PX} for slides]")
    tiling.add_argument("--stride-px", type=int, help="distance between tiles (default: three quarters of a tile)")
    tiling.add_argument("--batch-size", type=int, default=4, help="tiles at a time [4]")
    tiling.add_argument("--views", type=int, choices=range(1, MOST_VIEWS + 1), default=1, help=f"{VIEWS_HELP} [1]")
    tiling.add_argument("--keep-stain", action="store_true",
                        help="show the network what is unlike the training images as it is stained, not in their stain")
    tiling.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one)")
    tiling.add_argument("--precision", default="auto",
                        help="float32, bfloat16, float16 (CUDA only), or auto: bfloat16 where the hardware has it [auto]")
    tiling.add_argument("--backend", choices=BACKENDS, default="auto",
                        help="what computes on a CPU: the fastest of those that `export` timed, or torch [auto]; they agree "
                             "within 0.001 in the network's output, so --skip-existing keeps results of any")
    tiling.add_argument("--exported", type=Path, metavar="FOLDER", help="what `export` wrote [MODEL/onnx]")
    cleaning = parser.add_argument_group("clean-up")
    cleaning.add_argument("--threshold", type=float, help="probability of gland from which a pixel is gland (default: "
                          "the likeliest class)")
    cleaning.add_argument("--min-gland-um2", type=float, metavar="AREA",
                          help=f"smallest gland in µm² [{SMALLEST_GLAND_UM2:g}]; 0 keeps all")
    cleaning.add_argument("--max-hole-um2", type=float, metavar="AREA",
                          help=f"largest hole to fill in µm² [{SMALLEST_DETAIL_UM2:g}]; 0 keeps all")
    cleaning.add_argument("--keep-joined", action="store_true",
                          help="one gland per connected region, even where several sure cores lie in it")
    cleaning.add_argument("--simplify-px", type=float, default=0.0, metavar="PX",
                          help="GeoJSON outlines may move by this to have fewer points [0: exact]")
    cleaning.add_argument("--min-confidence", type=float, metavar="CONFIDENCE",
                          help="leave out glands over whose pixels the probability of gland has a lower mean "
                          f"[{LEAST_GLAND_CONFIDENCE:g}, with --threshold 0]; 0 keeps all")
    cleaning.add_argument("--unsure-below", type=float, default=UNSURE_BELOW, metavar="CONFIDENCE",
                          help=f"mark glands of a lower mean confidence as unsure, in tables and GeoJSON [{UNSURE_BELOW:g}]")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from transformers.utils import logging as transformers_logging

    from hf_gland.cli.predict_slides import Shares, open_model, predict_slides, slide_settings
    from hf_gland.errors import HfGlandError
    from hf_gland.export.results_folder import listed_files
    from hf_gland.imaging.pixel_size import check_mpp
    from hf_gland.inference.requests import read_requests
    from hf_gland.locks import only_writer
    from hf_gland.model.cpu import make_fast

    make_fast()
    transformers_logging.disable_progress_bar()
    if arguments.mpp is not None:
        check_mpp(arguments.mpp, "--mpp")
    tiling, of_slides = (Tiling(usual_px if arguments.tile_px is None else arguments.tile_px, arguments.stride_px,
                                arguments.batch_size, arguments.views, arguments.precision, not arguments.keep_stain)
                         for usual_px in (PICTURE_TILE_PX, SLIDE_TILE_PX))
    post = PostProcessing(arguments.threshold, not arguments.keep_joined, min_gland_confidence=arguments.min_confidence,
                          min_gland_area_um2=arguments.min_gland_um2, max_hole_area_um2=arguments.max_hole_um2)
    options = ExportOptions(arguments.simplify_px, arguments.unsure_below)
    requests, notes = read_requests(arguments.images, arguments.out, arguments.mpp, arguments.roi)
    pictures, slides = ([request for request in requests if request.slide is slide] for slide in (False, True))
    shares = Shares()
    if arguments.ray and shares.count > 1:
        raise HfGlandError("--ray shares the slides out itself; start this command without accelerate launch")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with only_writer(arguments.out) if shares.first else nullcontext():
        if shares.first:
            for note in notes:
                print(f"note: {note}", file=sys.stderr)
            listed = listed_files(arguments.out)
            there = {request.path for request in requests if is_there(request, listed, arguments)}
        segmenter, words = open_model(arguments, shares.device(arguments.device))
        if words and shares.first:
            print(words, file=sys.stderr)
        settings = settings_of(segmenter, arguments.mpp, tiling, post, options)
        outcome = Outcome()
        if pictures and shares.first:
            outcome += predict_pictures(segmenter, pictures, there, settings, arguments)
        if slides:
            outcome += predict_slides(segmenter, slides, slide_settings(arguments, of_slides, post, options, settings),
                                      shares, arguments)
    if shares.first:
        print(outcome.words(len(requests), arguments.out))
    return 1 if outcome.failed else 0


def predict_pictures(segmenter: "GlandSegmenter", requests: list["Request"], there: set[Path], settings: dict[str, Any],
                     arguments: argparse.Namespace) -> Outcome:
    """Predict those whose results are not `there` from before, note them in the record, and say what is worth saying."""
    from hf_gland.export.results_folder import RECORD, ResultsFolder, changed_since
    from hf_gland.imaging.opening import displayable
    from hf_gland.inference.segmenter import PixelSizeWarning

    tiling, post, options = settings["tiling"], settings["post_processing"], settings["export"]
    folder = ResultsFolder(arguments.out, arguments.model, recorded(settings), overwrite=arguments.overwrite)
    finished = {request.path for request in requests if request.path in there} if arguments.skip_existing else set()
    kept = {request.path for request in requests if request.path in finished
            and folder.holds(displayable(request.path), request.stem, request.path, arguments.formats, request.mpp)}
    gone = {request.path for request in requests if request.path not in kept and not os.access(request.path, os.R_OK)
            and "files" in folder.entry(displayable(request.path), request.stem)}
    for path in sorted(gone):  # archived, or on a share that is not mounted
        print(f"error: {displayable(path)}: cannot be read; its results of before stay as they are", file=sys.stderr)
    todo = {request.path: request for request in requests if request.path not in kept | gone}
    mended = {} if arguments.overwrite else {path: file for path, request in todo.items()
                                             if (file := folder.changed(request.stem, arguments.formats))}
    for path, file in mended.items():
        print(f"error: {displayable(path)}: {changed_since(file)}", file=sys.stderr)
        del todo[path]
    failed = len(gone) + len(mended)
    if not todo:
        return Outcome(skipped=len(kept), failed=failed)
    if again := len(finished & todo.keys()):
        print(f"note: {again} images are segmented again: {RECORD} does not say that the results there are of these very "
              "pictures", file=sys.stderr)
    if segmenter.missing_mpp is not None and any(request.mpp is None for request in todo.values()):
        print(f"warning: no --mpp given; where a file states none either, {segmenter.assumption()}", file=sys.stderr)
    warnings.simplefilter("ignore", PixelSizeWarning)  # said once, above
    if large := large_pictures(todo.values(), segmenter, tiling):
        print(f"note: {large}", file=sys.stderr)
    with folder.adding({displayable(path): request.stem for path, request in todo.items()}) as add:
        for result in predicted(segmenter, list(todo.values()), tiling, post):
            add(displayable(result.path), *finish(result, todo[result.path], folder, arguments, options))
    entries = [folder.record["images"][displayable(path)] for path in todo]
    new_failed = sum("error" in entry for entry in entries)
    return Outcome(len(todo) - new_failed, len(kept), failed + new_failed, sum(entry.get("glands", 0) for entry in entries))


def is_there(request: "Request", listed: Collection[str], arguments: argparse.Namespace) -> bool:
    """Whether an image has results; raises FileExistsError for some that nobody said to replace or keep, and for files that
    are not `listed` as results, nor in the record of the slide."""
    from hf_gland.export.formats import slide_paths
    from hf_gland.export.results_folder import file_text
    from hf_gland.inference.slides.cohort import read_record, record_path, written_files

    paths = (list(slide_paths(request.stem, arguments.formats).values()) if request.slide else
             output_paths(request.stem, arguments.formats))
    there = [path for path in paths if os.path.exists(path)]  # False, too, for a name that is too long
    if there and not (arguments.overwrite or arguments.skip_existing):
        raise FileExistsError(f"{there[0]}: exists already; give another --out, --overwrite to replace results, or "
                              "--skip-existing to go on where a run was stopped")
    if not arguments.overwrite:
        written = written_files(request) if request.slide else {}
        foreign = [path for path in there if
                   (path.name not in written if request.slide else file_text(path, arguments.out) not in listed)]
        if request.slide and os.path.exists(record_path(request)) and read_record(request) is None:
            foreign.append(record_path(request))
        if foreign:
            raise FileExistsError(f"{foreign[0]}: exists already, and no record in {arguments.out} tells of it; move it "
                                  "away, give another --out, or --overwrite to replace it")
    return len(there) == len(paths)


def settings_of(segmenter: "GlandSegmenter", mpp: float | None, tiling: Tiling, post: PostProcessing,
                options: ExportOptions) -> dict[str, Any]:
    """What the results depend on; the groups of options as they are (see `recorded`)."""
    from hf_gland.model.precision import precision_name, resolve_precision

    return {"weights_sha256": segmenter.weights_sha256(), "temperature": segmenter.temperature,
            "model_mpp": segmenter.mpp, "missing_mpp": segmenter.missing_mpp, "classes": segmenter.class_names,
            "hf_gland": hf_gland.__version__, **({} if segmenter.backend == "torch" else {"backend": segmenter.backend}),
            "mpp": mpp, "precision": precision_name(resolve_precision(segmenter.device, tiling.precision)),
            "tiling": tiling, "post_processing": post, "export": options}


def large_pictures(requests: Iterable["Request"], segmenter: "GlandSegmenter", tiling: Tiling) -> str | None:
    """What the largest picture takes, by its header, if it is large; files that cannot be read are told of later."""
    from hf_gland.errors import HfGlandError
    from hf_gland.imaging.opening import displayable, open_image
    from hf_gland.imaging.pixel_size import stated_pixel_size
    from hf_gland.model.tiled import tile_starts

    count, most, words = 0, LARGE_PX, None
    for request in requests:
        path = request.path
        try:
            with open_image(path, displayable(path), max_pixels=None) as image:
                hw = image.height, image.width
                working = segmenter.working_hw(hw, stated_pixel_size(image)[0] if request.mpp is None else request.mpp)
        except HfGlandError:
            continue
        pixels = max(hw[0] * hw[1], working[0] * working[1])
        count += pixels > LARGE_PX
        if pixels > most:
            most = pixels
            rows, columns = (len(tile_starts(side, tiling.tile_px, tiling.stride_px)) for side in working)
            words = (f"the largest, {displayable(path)}, has {hw[1]}×{hw[0]} px: {rows * columns} tiles, and about "
                     f"{pixels * BYTES_PER_PIXEL / 1e9:.1f} GB of memory")
    return words and f"{count} of the pictures {'is' if count == 1 else 'are'} large; {words}"


def predicted(segmenter: "GlandSegmenter", requests: list["Request"], tiling: Tiling,
              post: PostProcessing) -> Iterator["FileResult"]:
    """Each file's result, under a bar that moves with every batch of tiles; those of one given pixel size together."""
    with tqdm(total=len(requests), bar_format="{percentage:3.0f}% |{bar}| {desc} [{elapsed}<{remaining}]") as bar:
        finished = before = 0

        def move(share: float) -> None:
            bar.n = max(bar.n, before + share)  # the network is ahead of the results
            bar.set_description_str(f"{finished}/{len(requests)} images")

        for mpp in dict.fromkeys(request.mpp for request in requests):
            alike = [request.path for request in requests if request.mpp == mpp]
            for result in segmenter.predict_many(alike, mpp, tiling, post, progress=move):
                finished += 1
                move(finished - before)
                yield result
            before = finished


def finish(result: "FileResult", request: "Request", folder: "ResultsFolder", arguments: argparse.Namespace,
           options: ExportOptions) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write one result and say so; returns its entry in the record, and its glands' rows."""
    from hf_gland.export.results_folder import file_sha256, file_text
    from hf_gland.export.table import gland_rows
    from hf_gland.imaging.opening import displayable

    image, prediction, picture = displayable(result.path), result.prediction, result.picture
    entry: dict[str, Any] = {"sha256": file_sha256(result.path), "seconds": round(result.seconds, 2)}
    if request.mpp != arguments.mpp:
        entry["given_mpp"] = request.mpp
    error, paths = result.error, []
    if prediction is not None:
        try:
            folder.begin(request.stem, arguments.formats)
            paths = write_outputs(request.stem, arguments.formats, prediction, options)
        except ValueError as problem:  # what does not fit a format; a disk that is full stops the run
            error = str(problem)
        except MemoryError:
            error = f"{image}: not enough memory to write its results; leave out some --formats"
        except OSError as problem:
            if problem.errno != errno.ENAMETOOLONG:
                raise
            error = f"{image}: its name is too long for the names of its results; give the file a shorter one"
    if error is not None or prediction is None or picture is None:
        tqdm.write(f"error: {error}", file=sys.stderr)
        if entry["sha256"] is not None:  # results of an earlier run would look current
            folder.tidy(request.stem)
            for path in filter(os.path.exists, output_paths(request.stem, arguments.formats if arguments.overwrite else ())):
                path.unlink()
        return {"error": error, **entry}, []
    share, confidence = float((prediction.class_map > 0).mean()), float(prediction.confidence.mean())
    notes = [*picture.notes, *filter(None, [prediction.look.sentence()])]
    if picture.mpp is not None and prediction.mpp is not None and abs(picture.mpp / prediction.mpp - 1) > 0.1:
        notes.append(f"The file states {picture.mpp:g} µm per pixel, not {prediction.mpp:g}.")
    tqdm.write(f"{image}: {glands_found(len(prediction.glands), prediction.left_out)}, on {share:.1%} of the area; mean "
               f"confidence {confidence:.2f}" + "".join(f"\n  note: {note}" for note in notes))
    height, width = prediction.class_map.shape
    files = (folder.tidy(request.stem, paths, entry["sha256"], request.mpp)
             | {file_text(path, arguments.out): file_sha256(path) for path in paths})
    return entry | {
        "glands": len(prediction.glands), "glands_left_out": prediction.left_out, "gland_share": round(share, 4),
        "mean_confidence": round(confidence, 4),
        "mpp": prediction.mpp, "mpp_source": "given by the user" if request.mpp is not None else picture.mpp_source,
        "width_px": width, "height_px": height, "orientation": picture.orientation, "notes": notes,
        "files": files}, gland_rows(prediction, options)
