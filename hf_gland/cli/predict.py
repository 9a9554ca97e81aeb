"""Segment glands in images: outlines for QuPath, a table, overlays and maps.

  python scripts/predict.py biopsy.png --model runs/first/model --mpp 0.5 --out predictions
  python scripts/predict.py slides/ more/*.tif --model owner/name --mpp 0.25 --flips --out predictions --skip-existing

Folders are searched to any depth. A file that cannot be read is reported and the rest goes on. OUT/predictions.json
records the settings and what became of each image. Exit status: 0 if every image was segmented, 1 if some could not
be, 2 for a mistake in the command.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm
from transformers.utils import logging as transformers_logging

import hf_gland
from hf_gland.export.formats import DEFAULT_FORMATS, FORMATS, output_paths, write_outputs
from hf_gland.files import write_atomically
from hf_gland.imaging.find import find_images
from hf_gland.imaging.pixel_size import check_mpp
from hf_gland.inference.segmenter import FileResult, GlandSegmenter, PixelSizeWarning
from hf_gland.model.cpu import keep_freed_memory, use_all_cores
from hf_gland.model.precision import PRECISION, precision_name, resolve_precision
from hf_gland.options import SMALLEST_GLAND_UM2, ExportOptions, PostProcessing, Tiling

RECORD = "predictions.json"


def build_parser() -> argparse.ArgumentParser:
    formats = "; ".join(f"{name}: {f.about}" for name, f in FORMATS.items())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER", help="what to segment")
    parser.add_argument("--model", required=True, help="model folder, such as RUN/model, or Hub id")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub model (default: main)")
    parser.add_argument("--student", action="store_true", help="use the student instead of the teacher")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; subfolders mirror the input's")
    parser.add_argument("--mpp", type=float, help="µm per pixel of the images (default: assume the model's)")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(DEFAULT_FORMATS), metavar="FORMAT",
                        help=f"what to write [{' '.join(DEFAULT_FORMATS)}]. {formats}")
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace results that exist already")
    existing.add_argument("--skip-existing", action="store_true",
                          help="leave out images whose results all exist: goes on where a run was stopped")
    tiling = parser.add_argument_group("prediction")
    tiling.add_argument("--tile-px", type=int, default=512, help="side of a tile, at the model's pixel size [512]")
    tiling.add_argument("--stride-px", type=int, help="distance between tiles (default: three quarters of a tile)")
    tiling.add_argument("--batch-size", type=int, default=4, help="tiles at a time [4]")
    tiling.add_argument("--flips", action="store_true", help="average over four mirrored views (four times the work)")
    tiling.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one)")
    tiling.add_argument("--precision", choices=("auto", *PRECISION), default="auto",
                        help="auto: bfloat16 where the hardware has it, else float32; float16: CUDA only [auto]")
    cleaning = parser.add_argument_group("clean-up")
    cleaning.add_argument("--threshold", type=float, help="probability of gland from which a pixel is gland (default: "
                          "the likeliest class)")
    cleaning.add_argument("--min-gland-um2", type=float, metavar="AREA",
                          help=f"smallest gland in µm² [{SMALLEST_GLAND_UM2:g}]; 0 keeps all")
    cleaning.add_argument("--max-hole-um2", type=float, metavar="AREA",
                          help=f"largest hole to fill in µm² [{SMALLEST_GLAND_UM2:g}]; 0 keeps all")
    cleaning.add_argument("--keep-joined", action="store_true",
                          help="one gland per connected region, even where several sure cores lie in it")
    cleaning.add_argument("--simplify-px", type=float, default=0.0, metavar="PX",
                          help="GeoJSON outlines may move by this to have fewer points [0: exact]")
    cleaning.add_argument("--unsure-below", type=float, default=0.75, metavar="CONFIDENCE",
                          help="mark glands of a lower mean confidence as unsure, in tables and GeoJSON [0.75]")
    return parser


def main() -> int:
    arguments = build_parser().parse_args()
    keep_freed_memory()
    use_all_cores()
    transformers_logging.disable_progress_bar()
    try:
        return run(arguments)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; go on later with --skip-existing", file=sys.stderr)
        return 130


def run(arguments: argparse.Namespace) -> int:
    if arguments.mpp is not None:
        check_mpp(arguments.mpp, "--mpp")
    options = ExportOptions(arguments.simplify_px, arguments.unsure_below)
    tiling = Tiling(arguments.tile_px, arguments.stride_px, arguments.batch_size, arguments.flips, arguments.precision)
    post = PostProcessing(arguments.threshold, not arguments.keep_joined, min_gland_area_um2=arguments.min_gland_um2,
                          max_hole_area_um2=arguments.max_hole_um2)
    found, left_out = find_images(arguments.images, leave_out=arguments.out)
    for note in left_out:
        print(f"note: {note}", file=sys.stderr)
    stems = {path: arguments.out / stem for path, stem in found.items()}
    todo = {path: stem for path, stem in stems.items() if not is_done(stem, arguments)}
    if not todo:
        print(f"nothing to do: the results of all {len(stems)} images exist in {arguments.out}")
        return 0
    segmenter = GlandSegmenter.from_pretrained(arguments.model, arguments.revision, arguments.device,
                                               "student" if arguments.student else None)
    settings = {"weights_sha256": segmenter.weights_sha256(), "model_mpp": segmenter.mpp, "hf_gland": hf_gland.__version__,
                "classes": list(segmenter.id2label.values()), "mpp": arguments.mpp, "export": asdict(options),
                "precision": precision_name(resolve_precision(segmenter.device, tiling.precision)),
                "tiling": asdict(tiling), "post_processing": asdict(post)}
    record = open_record(arguments, json.loads(json.dumps(settings)))
    if arguments.mpp is None and segmenter.mpp is not None:
        print(f"warning: no --mpp given; assuming {segmenter.mpp:g} µm per pixel, as the model was trained at. At "
              "another magnification the outlines will be wrong. Sizes in µm are left out", file=sys.stderr)
    warnings.simplefilter("ignore", PixelSizeWarning)  # said once, above
    try:
        for result in predicted(segmenter, list(todo), arguments.mpp, tiling, post):
            entry = finish(result, todo[result.path], arguments, options)
            record["images"][str(result.path)] = entry | {"seconds": round(result.seconds, 2)}
    finally:
        write_record(arguments.out, record)
    failed = sum("error" in record["images"][str(path)] for path in todo)
    glands = sum(record["images"][str(path)].get("glands", 0) for path in todo)
    skipped = f", skipped: {len(stems) - len(todo)}" if len(todo) < len(stems) else ""
    print(f"segmented: {len(todo) - failed}{skipped}, failed: {failed}, glands: {glands}; written to {arguments.out}")
    return 1 if failed else 0


def is_done(stem: Path, arguments: argparse.Namespace) -> bool:
    """Whether to leave an image out; raises FileExistsError for results that nobody said to replace or keep."""
    paths = output_paths(stem, arguments.formats)
    there = [path for path in paths if path.exists()]
    if there and not (arguments.overwrite or arguments.skip_existing):
        raise FileExistsError(f"{there[0]}: exists already; give another --out, --overwrite to replace results, or "
                              "--skip-existing to go on where a run was stopped")
    return arguments.skip_existing and len(there) == len(paths)


def open_record(arguments: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """The record to add to; raises ValueError where results of other settings would get mixed with new ones."""
    path = arguments.out / RECORD
    record = {"model": arguments.model, "settings": settings, "images": {}}
    if path.exists():
        try:
            before = json.loads(path.read_text("utf-8"))
            changed = [key for key in settings if before["settings"].get(key) != settings[key]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: not a record of this script ({error}); give another --out") from error
        if changed and not arguments.overwrite:
            raise ValueError(f"{path}: the results there were made with other settings ({', '.join(changed)}); give "
                             "another --out, or --overwrite")
        record["images"] = {} if changed else before["images"]
    write_record(arguments.out, record)
    return record


def write_record(out: Path, record: dict[str, Any]) -> None:
    text = json.dumps(record, indent=2, ensure_ascii=False) + "\n"
    write_atomically(out / RECORD, lambda file: file.write(text.encode("utf-8")))


def predicted(segmenter: GlandSegmenter, paths: list[Path], mpp: float | None, tiling: Tiling,
              post: PostProcessing) -> Iterator[FileResult]:
    """Each file's result, under a bar that moves with every batch of tiles."""
    with tqdm(total=len(paths), bar_format="{percentage:3.0f}% |{bar}| {desc} [{elapsed}<{remaining}]") as bar:
        finished = 0

        def move(share: float) -> None:
            bar.n = max(bar.n, finished + share)  # the network is ahead of the results
            bar.set_description_str(f"{finished}/{len(paths)} images")

        for result in segmenter.predict_many(paths, mpp, tiling, post, progress=move):
            finished += 1
            move(0.0)
            yield result


def finish(result: FileResult, stem: Path, arguments: argparse.Namespace, options: ExportOptions) -> dict[str, Any]:
    """Write one result and say so; returns its entry in the record."""
    if result.error is not None or result.prediction is None:
        tqdm.write(f"error: {result.error}", file=sys.stderr)
        return {"error": result.error}
    try:
        paths = write_outputs(stem, arguments.formats, result.prediction, options)
    except ValueError as error:  # what does not fit a format; a disk that is full stops the run
        tqdm.write(f"error: {error}", file=sys.stderr)
        return {"error": str(error)}
    share = float((result.prediction.class_map > 0).mean())
    confidence = float(result.prediction.confidence.mean())
    tqdm.write(f"{result.path}: glands: {len(result.prediction.glands)}, on {share:.1%} of the area; mean confidence "
               f"{confidence:.2f}")
    height, width = result.prediction.class_map.shape
    return {"glands": len(result.prediction.glands), "gland_share": round(share, 4),
            "mean_confidence": round(confidence, 4), "width_px": width, "height_px": height,
            "files": [path.relative_to(arguments.out).as_posix() for path in paths]}
