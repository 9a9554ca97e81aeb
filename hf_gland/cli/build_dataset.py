"""Build a dataset of sparsely annotated gland images: a folder that `datasets.load_dataset` reads.

examples:
  python scripts/build_dataset.py synthetic --out data/synthetic
  python scripts/build_dataset.py glas --archive warwick_qu_dataset_released_2016_07_08.zip --out data/glas-20
  python scripts/build_dataset.py glas --archive glas/ --out data/glas-full --style full
  python scripts/build_dataset.py folder --root my_images --mask-values 0=0,255=1 --mpp 0.5 --out data/mine
  python scripts/build_dataset.py folder --root my_images --style as-is --out data/mine      (masks drawn sparsely by hand)
"""

import argparse
import hashlib
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_gland.data.build import annotated, build_dataset, load_local
from hf_gland.data.contact_sheet import style_sheet
from hf_gland.data.schema import Sample
from hf_gland.data.sources.folder import FolderItem, FolderOptions, read_items, scan_folder, settle_masks
from hf_gland.data.sources.glas import GLAS_LICENCE, GLAS_SPLITS, VAL_FRACTION, iter_glas, known_checksums, plan_glas
from hf_gland.data.sources.synthetic.images import SPLITS, iter_synthetic
from hf_gland.data.sparsify import BACKGROUNDS, STYLES, SparseAnnotation, SparsifyConfig
from hf_gland.data.split import split_by_patient
from hf_gland.data.stain import shift_stain
from hf_gland.errors import DatasetError
from hf_gland.labels import BINARY_CLASSES, check_class_names

Pairs = Iterable[tuple[Sample, SparseAnnotation]]
SHEET_IMAGES = 5


def budget(text: str) -> float | int:
    """`3` is a number of glands; `0.2` and `1.0` are shares."""
    return int(text) if text.isdigit() else float(text)


def mask_values(text: str) -> dict[int, int]:
    """`0=0,255=1` as {0: 0, 255: 1}."""
    pairs = [part.split("=") for part in text.split(",")]
    if any(len(pair) != 2 for pair in pairs) or len({int(pair[0]) for pair in pairs}) != len(pairs):
        raise ValueError(text)
    return {int(value): int(class_id) for value, class_id in pairs}


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = top.add_subparsers(dest="command", required=True, metavar="{glas,synthetic,folder}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--out", required=True, type=Path, help="folder to write")
    common.add_argument("--overwrite", action="store_true", help="replace --out if it is a dataset folder already")
    common.add_argument("--contact-sheet", type=Path, metavar="PNG",
                        help=f"also draw {SHEET_IMAGES} images of the first split, in every style")
    common.add_argument("--stain-shift", type=float, default=0.0, metavar="STRENGTH",
                        help="restain every image, to try a model on a foreign laboratory's slides: 1 fades haematoxylin "
                        "to 70 %% and strengthens eosin to 142 %%, 2 does it twice [0: as they are]")
    drawing = common.add_argument_group("annotation (lengths in px of the image) [default]")
    default = SparsifyConfig()
    drawing.add_argument("--budget", type=budget, default=default.budget, help="share of each image's glands (0.2, 1.0) "
                         "or a number of glands (3); of the image area for roi [%(default)s]")
    drawing.add_argument("--background", choices=BACKGROUNDS, default=default.background, help="[%(default)s]")
    drawing.add_argument("--seed", type=int, default=0, help="of the annotation; the splits do not depend on it [0]")
    for name, text in (("rim_px", "width of the stroma labelled around a gland"), ("stroke_px", "width of a stroke"),
                       ("strokes", "strokes in stroma"), ("stroke_length", "share of the image's shorter side"),
                       ("point_px", "diameter of a dot"), ("min_gland_px", "smaller glands are left out, in px of area")):
        value = getattr(default, name)
        drawing.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"{text} [%(default)s]")

    glas = commands.add_parser("glas", parents=[common], help="the GlaS challenge, from the official archive")
    glas.add_argument("--archive", required=True, type=Path, help="the official zip, or the folder it extracts to")
    glas.add_argument("--no-verify", action="store_true", help="do not compare files with the official checksums")
    glas.add_argument("--splits", nargs="+", choices=GLAS_SPLITS, help="[those the archive holds]")

    synthetic = commands.add_parser("synthetic", parents=[common], help="drawn H&E-like images, no download")
    synthetic.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS), help="[all]")
    synthetic.add_argument("--images", type=int, metavar="N", help="images per split "
                           f"[{', '.join(f'{s} {n}' for s, n in SPLITS.items())}]")
    synthetic.add_argument("--size-px", nargs=2, type=int, metavar=("HEIGHT", "WIDTH"), help="[384 512]")
    synthetic.add_argument("--data-seed", type=int, default=0, help="of the images themselves [0]")
    synthetic.add_argument("--class-names", nargs="+", default=list(BINARY_CLASSES), metavar="NAME",
                           help="2, or 3 to tell benign and malignant glands apart [%(default)s]")

    folder = commands.add_parser("folder", parents=[common], help="any folder of images and masks",
                                 description=sys.modules[FolderOptions.__module__].__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    folder.add_argument("--root", required=True, type=Path, help="the folder")
    folder.add_argument("--splits", nargs="+", metavar="SPLIT", help="only these [all there are]")
    folder.add_argument("--class-names", nargs="+", default=list(BINARY_CLASSES), metavar="NAME",
                        help="background first [%(default)s]")
    folder.add_argument("--mask-values", type=mask_values, metavar="0=0,255=1",
                        help="the masks' numbers and their classes (255: unlabelled) [numbers are classes; 0 and 255 alone: "
                             "background and gland]")
    folder.add_argument("--sparse-masks", type=Path, metavar="DIR",
                        help="sparse masks drawn by hand; masks/ is then the dense truth, for evaluation only")
    folder.add_argument("--allow-missing-masks", action="store_true", help="keep images without a mask, unlabelled")
    folder.add_argument("--mpp", type=float, help="µm per pixel, where metadata.csv gives none [unknown]")
    folder.add_argument("--patient-pattern", default="", metavar="REGEX",
                        help="finds the patient in an image id, e.g. '^(P[0-9]+)_' [metadata.csv's patient_id]")
    folder.add_argument("--source-name", default="", metavar="NAME", help="of the data, kept in each row [folder name]")
    folder.add_argument("--licence", default="unknown", help="of the images, e.g. cc-by-4.0 [%(default)s]")

    for parser, styles, style in ((glas, STYLES, "glands"), (synthetic, STYLES, "glands"),
                                  (folder, (*STYLES, "as-is"), None)):
        parser.add_argument("--style", choices=styles, default=style,
                            help="[glands]" if style else "as-is: masks/ is sparse already [glands, or as-is with "
                                                          "--sparse-masks]")
    for parser, share in ((glas, VAL_FRACTION), (folder, 0.0)):
        parser.add_argument("--val-fraction", type=float, default=share, metavar="SHARE",
                            help="of the train images, held out as 'validation' by patient (0: none) [%(default)s]")
    return top.parse_args(argv)


def drawing_config(args: argparse.Namespace) -> SparsifyConfig:
    return SparsifyConfig(**{f.name: getattr(args, f.name) for f in fields(SparsifyConfig)})


def progress(items: Iterable[Any], total: int, split: str) -> Iterator[Any]:
    yield from tqdm(items, total=total, desc=split, unit="image", disable=None)


def glas(args: argparse.Namespace) -> dict[str, Any]:
    config = drawing_config(args)
    plan = plan_glas(args.archive, args.splits, val_fraction=args.val_fraction, verify=not args.no_verify)

    def samples(split: str) -> Iterator[Sample]:
        official = "train" if split == "validation" else split
        return progress(iter_glas(args.archive, official, image_ids=set(plan[split]), verify=not args.no_verify),
                        len(plan[split]), split)

    known = {} if args.no_verify else known_checksums()
    unverified = [i for ids in plan.values() for i in ids if f"{i}.bmp" not in known or f"{i}_anno.bmp" not in known]
    sources: dict[str, Any] = {"unverified_images": len(unverified)}
    if args.archive.is_file():
        with args.archive.open("rb") as stream:
            sources["archive_sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"splits": {split: annotated(samples(split), config, args.seed) for split in plan}, "source": "GlaS",
            "class_names": BINARY_CLASSES, "licence": GLAS_LICENCE, "annotation": config, "sources": sources}


def synthetic(args: argparse.Namespace) -> dict[str, Any]:
    config = drawing_config(args)
    size = {} if args.size_px is None else {"size_px": tuple(args.size_px)}

    def samples(split: str) -> Iterator[Sample]:
        stream = iter_synthetic(split, seed=args.data_seed, images=args.images, num_classes=len(args.class_names), **size)
        return progress(stream, SPLITS[split] if args.images is None else args.images, split)

    return {"splits": {split: annotated(samples(split), config, args.seed) for split in args.splits},
            "class_names": args.class_names, "source": "synthetic", "licence": "cc0-1.0", "annotation": config,
            "sources": {"data_seed": args.data_seed}}


def folder(args: argparse.Namespace) -> dict[str, Any]:
    if args.sparse_masks is not None and args.style not in (None, "as-is"):
        raise DatasetError(f"--sparse-masks are used as they are; they cannot be combined with --style {args.style}")
    by_hand = args.sparse_masks is not None or args.style == "as-is"
    args.style = "as-is" if by_hand else args.style or "glands"
    config = None if by_hand else drawing_config(args)
    name = args.source_name or args.root.resolve().name
    options = FolderOptions(
        num_classes=len(check_class_names(args.class_names)), mask_values=args.mask_values, mpp=args.mpp,
        as_is=by_hand and args.sparse_masks is None, sparse_masks=args.sparse_masks, source=name,
        allow_missing_masks=args.allow_missing_masks, patient_pattern=args.patient_pattern)
    plan = scan_folder(args.root, options)
    if missing := sorted(set(args.splits or plan) - set(plan)):
        raise DatasetError(f"{args.root}: has no split '{missing[0]}'; it has {', '.join(sorted(plan))}")
    options = settle_masks(plan, options)
    plan = hold_out({split: plan[split] for split in args.splits or plan}, args.val_fraction)

    def pairs(split: str) -> Pairs:
        read = progress(read_items(plan[split], options), len(plan[split]), split)
        if config is None:
            return read
        return annotated((sample for sample, _ in read), config, args.seed)

    return {"splits": {split: pairs(split) for split in plan}, "class_names": args.class_names, "source": name,
            "licence": args.licence, "annotation": config or {"style": "as-is"}}


def hold_out(plan: dict[str, list[FolderItem]], share: float) -> dict[str, list[FolderItem]]:
    """Move whole patients from train to validation."""
    if share == 0:
        return plan
    if "train" not in plan or "validation" in plan:
        raise DatasetError("--val-fraction needs a train split and no validation split of its own; "
                           f"the splits are {', '.join(plan)}")
    train = plan["train"]
    if unknown := [item.image for item in train if not item.metadata.patient_id]:
        raise DatasetError(f"{unknown[0]}: its patient is unknown, so validation cannot be held out by patient; give "
                           "patient_id in metadata.csv, or --patient-pattern")
    held = split_by_patient([item.metadata.patient_id for item in train], share,
                            grades=[item.metadata.grade for item in train])
    return {"train": [item for item in train if item.metadata.patient_id not in held],
            "validation": [item for item in train if item.metadata.patient_id in held],
            **{split: items for split, items in plan.items() if split != "train"}}


def restained(pairs: Pairs, strength: float) -> Pairs:
    for sample, annotation in pairs:
        yield replace(sample, image=shift_stain(sample.image, strength)), annotation


def draw_sheet(args: argparse.Namespace, config: SparsifyConfig | None) -> None:
    rows = next(iter(load_local(args.out).values()))
    chosen = [rows[i * len(rows) // SHEET_IMAGES] for i in range(SHEET_IMAGES)] if len(rows) > SHEET_IMAGES else list(rows)
    style_sheet(chosen, config, args.seed).save(args.contact_sheet)
    print(f"contact sheet written to {args.contact_sheet}")


def report(provenance: dict[str, Any]) -> None:
    print(f"{'split':14}{'images':>7}{'patients':>10}{'glands drawn / all':>20}{'labelled %':>12}")
    for split, s in provenance["splits"].items():
        glands = f"{s['annotated_glands']} / {'?' if s['total_glands'] is None else s['total_glands']}"
        print(f"{split:14}{s['images']:7}{s['patients'] or '?':>10}{glands:>20}{100 * s['labelled_fraction']:12.2f}")
    for pair, patients in provenance["shared_patients"].items():
        print(f"note: {pair.replace('+', ' and ')} share {len(patients)} patients")
    print(f"data sha256 {provenance['data_sha256']}")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_arguments(argv)
    builders: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "glas": glas, "synthetic": synthetic, "folder": folder}
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"note: {message}", file=sys.stderr)
            if args.contact_sheet is not None and not args.contact_sheet.absolute().parent.is_dir():
                raise DatasetError(f"{args.contact_sheet}: there is no such folder to draw the contact sheet in")
            recipe = builders[args.command](args)
            if args.stain_shift:
                recipe["splits"] = {split: restained(pairs, args.stain_shift) for split, pairs in recipe["splits"].items()}
                recipe["sources"] = {**recipe.get("sources", {}), "stain_shift": args.stain_shift}
            provenance = build_dataset(out=args.out, seed=args.seed, overwrite=args.overwrite, **recipe)
            report(provenance)
            print(f"written to {args.out}")
            if args.contact_sheet is not None:
                annotation = recipe["annotation"]
                draw_sheet(args, annotation if isinstance(annotation, SparsifyConfig) else None)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; --out holds the whole dataset or is as it was", file=sys.stderr)
        return 130
    return 0
