"""Build a dataset of sparsely annotated gland images: a folder that `datasets.load_dataset` reads.

examples:
  python scripts/build_dataset.py synthetic --out data/synthetic
  python scripts/build_dataset.py glas --archive warwick_qu_dataset_released_2016_07_08.zip --out data/glas-20
  python scripts/build_dataset.py glas --archive glas/ --out data/glas-full --style full
  python scripts/build_dataset.py glas --archive glas/ --out data/glas-images --style images --budget 0.1
  python scripts/build_dataset.py folder --root my_images --mask-values 0=0,255=1 --mpp 0.5 --out data/mine
  python scripts/build_dataset.py folder --root my_images --style as-is --out data/mine      (masks drawn sparsely by hand)
"""

import argparse
import sys
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_gland.data.parallel import map_in_order
from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sources import all_sources
from hf_gland.data.sparsify import BACKGROUNDS, STYLES, SparseAnnotation, SparsifyConfig, outlined_images
from hf_gland.data.split import fold_out, hold_out
from hf_gland.data.stain import shift_stain
from hf_gland.errors import DatasetError
from hf_gland.files import write_atomically

# What reads and writes Parquet is imported where it is needed: `datasets` takes seconds, and --help needs none of it.

INTERRUPTED = "stopped; --out holds the whole dataset or is as it was"
SHEET_IMAGES = 5
Pairs = Iterable[tuple[Sample, SparseAnnotation]]


def budget(text: str) -> float | int:
    """`3` is a number of glands; `0.2` and `1.0` are shares."""
    return int(text) if text.isdigit() else float(text)


def build_parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="SOURCE")
    for source in all_sources():
        parser = commands.add_parser(source.name, help=source.summary, description=source.description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.set_defaults(source=source)
        source.add_options(parser)
        add_common_options(parser, source)
    return top


def add_common_options(parser: argparse.ArgumentParser, source: Source) -> None:
    """The options that every source has."""
    parser.add_argument("--out", required=True, type=Path, help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it is a dataset folder already")
    parser.add_argument("--contact-sheet", type=Path, metavar="PNG",
                        help=f"also draw {SHEET_IMAGES} images of the first split, in every style")
    parser.add_argument("--stain-shift", type=float, default=0.0, metavar="STRENGTH",
                        help="restain every image, to try a model on a foreign laboratory's slides: 1 fades haematoxylin "
                        "to 70 %% and strengthens eosin to 142 %%, 2 does it twice [0: as they are]")
    if source.held_out:
        held = parser.add_mutually_exclusive_group()
        held.add_argument("--held-out-as", type=Path, metavar="DATASET",
                          help="hold out the patients that this dataset folder holds out as 'validation', so that a model "
                          "that was trained on it is still measured on patients it has not seen")
        held.add_argument("--val-fraction", type=float, metavar="SHARE",
                          help="of the train images, held out as 'validation' by patient; 0: none "
                          f"[{source.held_out}, where there are enough patients and no validation split]")
        parser.add_argument("--fold", type=int, metavar="K", help="hold out the patients of fold K (1 to --folds), as "
                            "a test split beside train; other splits are left out")
        parser.add_argument("--folds", type=int, default=5, metavar="N", help="folds by patient [%(default)s]")
    if not source.drawn:
        return
    drawing = parser.add_argument_group("annotation (lengths in px of the image) [default]")
    default = SparsifyConfig()
    drawing.add_argument("--style", choices=(*STYLES, *source.styles), help=f"[{default.style}]" if not source.styles else
                         f"as-is: the masks are sparse already [{default.style}, or as-is with --sparse-masks]")
    drawing.add_argument("--budget", type=budget, default=default.budget, help="share of each image's glands (0.2, 1.0) "
                         "or a number of glands (3); of the image area for roi; of a split's images, or their number, for "
                         "images [%(default)s]")
    drawing.add_argument("--background", choices=BACKGROUNDS, default=default.background, help="[%(default)s]")
    drawing.add_argument("--seed", type=int, default=0, help="of the annotation; the splits do not depend on it [0]")
    for name, text in (("rim_px", "width of the stroma labelled around a gland"), ("stroke_px", "width of a stroke"),
                       ("strokes", "strokes in stroma"), ("stroke_length", "share of the image's shorter side"),
                       ("point_px", "diameter of a dot"), ("min_gland_px", "smaller glands are left out, in px of area")):
        value = getattr(default, name)
        drawing.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"{text} [%(default)s]")


def run(arguments: argparse.Namespace) -> None:
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
        build(arguments)


def build(arguments: argparse.Namespace) -> None:
    from hf_gland.data.build import About, annotated, build_dataset

    if arguments.contact_sheet is not None and not arguments.contact_sheet.absolute().parent.is_dir():
        raise DatasetError(f"{arguments.contact_sheet}: there is no such folder to draw the contact sheet in")
    source: Source = arguments.source
    offer: Offer = source.open(arguments)
    config = None if offer.by_hand else drawing_config(arguments)
    fold = getattr(arguments, "fold", None)
    offered = offer.splits if fold is None else fold_out(offer.splits, fold, arguments.folds)
    plan, note = hold_out(offered, getattr(arguments, "val_fraction", None), source.held_out, held_out_before(arguments))
    if note:
        print(f"note: {note}", file=sys.stderr)

    def pairs(split: str, items: Sequence[Item]) -> Any:
        read = tqdm(offer.read(items), total=len(items), desc=split, unit="image", disable=None)
        drawn = read if config is None else annotated(
            (sample for sample, _ in read), config, arguments.seed, outlined(items, config, arguments.seed))
        return restained(drawn, arguments.stain_shift) if arguments.stain_shift else drawn

    seed = getattr(arguments, "seed", 0)
    about = About(offer.class_names, offer.title, offer.licence, config or {"style": "as-is"}, seed,
                  dict(offer.record) | ({"stain_shift": arguments.stain_shift} if arguments.stain_shift else {}))
    provenance = build_dataset({split: pairs(split, items) for split, items in plan.items()}, arguments.out, about,
                               overwrite=arguments.overwrite)
    report(provenance)
    print(f"written to {arguments.out}")
    if arguments.contact_sheet is not None:
        draw_sheet(arguments, config)


def outlined(items: Sequence[Item], config: SparsifyConfig, seed: int) -> frozenset[str] | None:
    """The images of a split in which something is drawn; None: in all."""
    if config.style != "images":
        return None
    return outlined_images({item.image_id: item.patient_id for item in items}, config.budget, seed)


def drawing_config(arguments: argparse.Namespace) -> SparsifyConfig:
    given = {f.name: getattr(arguments, f.name) for f in fields(SparsifyConfig)}
    return SparsifyConfig(**given | {"style": arguments.style or SparsifyConfig.style})


def held_out_before(arguments: argparse.Namespace) -> set[str] | None:
    """The patients of the validation split of --held-out-as; None where it was not given."""
    if (folder := getattr(arguments, "held_out_as", None)) is None:
        return None
    from hf_gland.data.build import load_local

    splits = load_local(folder)
    patients = set(splits["validation"]["patient_id"]) - {""} if "validation" in splits else set()
    if not patients:
        raise DatasetError(f"{folder}: holds no patient out, as it has no validation split of known patients")
    return patients


def restained(pairs: Pairs, strength: float) -> Pairs:
    return map_in_order(lambda pair: (replace(pair[0], image=shift_stain(pair[0].image, strength)), pair[1]), pairs,
                        lambda pair: pair[0].image.size)


def draw_sheet(arguments: argparse.Namespace, config: SparsifyConfig | None) -> None:
    from hf_gland.data.build import load_local
    from hf_gland.data.contact_sheet import style_sheet

    rows = next(iter(load_local(arguments.out).values()))
    chosen = [rows[i * len(rows) // SHEET_IMAGES] for i in range(SHEET_IMAGES)] if len(rows) > SHEET_IMAGES else list(rows)
    sheet = style_sheet(chosen, config, getattr(arguments, "seed", 0))
    write_atomically(arguments.contact_sheet, lambda file: sheet.save(file, "PNG"))
    print(f"contact sheet written to {arguments.contact_sheet}")


def report(provenance: dict[str, Any]) -> None:
    print(f"{'split':14}{'images':>7}{'patients':>10}{'glands drawn / all':>20}{'labelled %':>12}")
    for split, s in provenance["splits"].items():
        glands = f"{s['annotated_glands']} / {'?' if s['total_glands'] is None else s['total_glands']}"
        print(f"{split:14}{s['images']:7}{s['patients'] or '?':>10}{glands:>20}{100 * s['labelled_fraction']:12.2f}")
    for pair, patients in provenance["shared_patients"].items():
        print(f"note: {pair.replace('+', ' and ')} share {len(patients)} patients")
    print(f"data sha256 {provenance['data_sha256']}")
