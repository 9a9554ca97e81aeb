"""Suggest what to outline next: ranked regions of pictures or slides, as annotations for QuPath.

  python scripts/suggest.py slides/ --model runs/first/model --annotated drawn/ --count 20 --out suggestions
  python scripts/suggest.py biopsy.png --model runs/first/model --mpp 0.5 --by uncertainty --round 2 --out suggestions

Predicted glands of all images at random; with --by uncertainty the regions, of stroma too, in which the most is expected to
change. For the next training, random glands were worth more (scripts/annotation_curve.py).

OUT/IMAGE.geojson holds the suggestions on each image, of class "Suggested: gland" (or stroma), their rank in name and
measurements; OUT/suggestions.csv ranks those of all images. Drag a file onto its image in QuPath; give each the class that
it really has (Gland, Stroma, Ignore*), mend its outline, delete what is not worth it, and export again: build_dataset
qupath leaves out what is still "Suggested". What --annotated says is outlined already is not suggested.
"""

import argparse
import csv
import io
import json
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from hf_gland.files import write_text_atomically

if TYPE_CHECKING:  # the rest is imported where it is needed, so that --help comes without torch
    from hf_gland.inference.suggest import Place

INTERRUPTED = "stopped; nothing was written"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE_OR_FOLDER", help="pictures or slides")
    parser.add_argument("--model", required=True, help="model folder, such as RUN/model, or Hub id")
    parser.add_argument("--revision", help="branch, tag or commit of a Hub model (default: main)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace suggestions that are there already, not "
                        "files that hold other outlines")
    parser.add_argument("--annotated", type=Path, metavar="PATH",
                        help="GeoJSON of what is outlined already: a folder of files named after the images, or the one "
                        "file of one image")
    parser.add_argument("--count", type=int, default=20, help="how many, over all images [20]")
    parser.add_argument("--by", choices=("random", "uncertainty"), default="random", help="how to choose [%(default)s]")
    parser.add_argument("--round", type=int, default=1, help="1 for the first suggestions, 2 for the next: by uncertainty, "
                        "early ones are spread more at random, as the model knows little yet [1]")
    parser.add_argument("--seed", type=int, default=0, help="of what is random [0]")
    parser.add_argument("--mpp", type=float, help="µm per pixel of the images [what each file states, else the model's]")
    parser.add_argument("--metadata", type=Path, metavar="CSV",
                        help="image_id and grade, over which --by uncertainty spreads its suggestions")
    parser.add_argument("--device", help="such as cpu or cuda:0 (default: a GPU if there is one)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from hf_gland.data.metadata import known_of, read_metadata
    from hf_gland.data.outlines import labelling
    from hf_gland.data.sources.qupath import annotation_file, images_in
    from hf_gland.errors import HfGlandError
    from hf_gland.export.geojson_read import read_annotations
    from hf_gland.imaging.opening import displayable
    from hf_gland.imaging.slides import MOST_PICTURE_PX, open_slide
    from hf_gland.inference.segmenter import GlandSegmenter, PixelSizeWarning
    from hf_gland.inference.suggest import LEAST_SCORE, choose, choose_at_random, noise_of_round
    from hf_gland.inference.suggest_image import image_places
    from hf_gland.model.cpu import make_fast

    make_fast()
    if arguments.count < 1 or arguments.round < 1:
        raise HfGlandError("--count and --round must be at least 1")
    if arguments.metadata and arguments.by == "random":
        raise HfGlandError("--metadata spreads suggestions over grades, which random ones are not; give --by uncertainty")
    images = {displayable(path): path for path in images_in(arguments.images, arguments.annotated)}
    check_target(arguments, images)
    table = read_metadata(arguments.metadata) if arguments.metadata else None
    grades = {name: known_of(path, path.stem, table).grade for name, path in images.items()}
    segmenter = GlandSegmenter.from_pretrained(arguments.model, arguments.revision, arguments.device)
    warnings.simplefilter("ignore", PixelSizeWarning)  # said below
    silent: list[str] = []  # images that do not say how large a pixel is
    places: list[Place] = []
    scales: dict[str, float] = {}
    for name, path in tqdm(images.items(), desc="looking", unit="image", disable=None):
        try:
            outlines = annotation_file(path, arguments.annotated, len(images)) if arguments.annotated else None
            with open_slide(path, name, MOST_PICTURE_PX) as slide:
                silent += [name] if slide.mpp_xy is None and arguments.mpp is None else []
                drawn = labelling(read_annotations(outlines)[0]) if outlines else ()
                scales[name], found = image_places(segmenter, slide, arguments.mpp, drawn, grades[name])
            places += found
        except HfGlandError as error:
            tqdm.write(f"error: {error}", file=sys.stderr)
    seed = arguments.seed + arguments.round
    chosen = (choose_at_random(places, arguments.count, seed=seed) if arguments.by == "random" else
              choose(places, arguments.count, noise=noise_of_round(arguments.round), seed=seed, least=LEAST_SCORE))
    write(chosen, {name: (images[name], scale) for name, scale in scales.items()}, segmenter.class_names, arguments.out)
    if silent and segmenter.missing_mpp is not None:
        more = f" and {len(silent) - 1} more" if len(silent) > 1 else ""
        print(f"warning: {silent[0]}{more}: no pixel size is stated, and no --mpp was given; {segmenter.assumption()}",
              file=sys.stderr)
    if len(chosen) < arguments.count:
        why = "" if arguments.by == "random" else ", are uncertain and lie apart"
        print(f"note: only {len(chosen)} places are not outlined yet{why}", file=sys.stderr)
    print(f"suggested: {len(chosen)} places on {len({place.image for place in chosen})} of {len(images)} images; written to "
          f"{arguments.out}")
    return 0 if len(scales) == len(images) else 1


def check_target(arguments: argparse.Namespace, images: Mapping[str, Path]) -> None:
    """Raise HfGlandError where two images would have one file, FileExistsError where there is one that nobody gave up, or
    that holds more than suggestions."""
    from hf_gland.errors import HfGlandError
    from hf_gland.export.geojson_read import read_annotations
    from hf_gland.inference.suggest import is_suggestion

    stems = [path.stem for path in images.values()]
    if twice := [stem for stem in stems if stems.count(stem) > 1]:
        raise HfGlandError(f"{twice[0]}: two of the images have this name, and so would their suggestions; take them apart")
    there = [path for stem in stems if (path := arguments.out / f"{stem}.geojson").exists()]
    if there and not arguments.overwrite:
        raise FileExistsError(f"{there[0]}: exists already; give another --out, or --overwrite to replace it")
    for path in there:
        drawn, more = read_annotations(path)
        if more or not all(map(is_suggestion, drawn)):
            raise FileExistsError(f"{path}: holds outlines that are not suggestions, which --overwrite leaves; give another "
                                  "--out")


def write(chosen: Sequence["Place"], images: Mapping[str, tuple[Path, float]], class_names: Sequence[str],
          out: Path) -> None:
    """A GeoJSON file for each image, with what is suggested on it, and OUT/suggestions.csv; `images`: path and pixels of
    the file per pixel of a place, by name."""
    from hf_gland.inference.suggest import suggestion
    from hf_gland.labels import BACKGROUND

    names = ["stroma" if class_id == BACKGROUND else name for class_id, name in enumerate(class_names)]
    table = io.StringIO()
    lines = csv.writer(table, lineterminator="\n")
    lines.writerow(["rank", "image", "class", "x_px", "y_px", "expected_change"])
    features: dict[str, list[dict]] = {name: [] for name in images}
    for rank, place in enumerate(chosen, start=1):
        scale = images[place.image][1]
        features[place.image].append(suggestion(place, rank, names[place.class_id], (scale, scale)))
        lines.writerow([rank, place.image, names[place.class_id], *(round(side * scale) for side in place.centre_px),
                        round(place.score, 4)])
    for name, (path, _) in images.items():
        text = json.dumps({"type": "FeatureCollection", "features": features[name]}, separators=(",", ":"))
        write_text_atomically(out / f"{path.stem}.geojson", text)
    write_text_atomically(out / "suggestions.csv", table.getvalue())
