"""Build a sparsely annotated dataset folder that `datasets.load_dataset` reads.

examples:
  python scripts/build_dataset.py glas --archive warwick_qu_dataset_released_2016_07_08.zip --out data/glas-20
  python scripts/build_dataset.py glas --archive glas/ --out data/glas-full --style full
"""

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_gland.data.build import build_dataset
from hf_gland.data.glas import GLAS_LICENCE, GLAS_SPLITS, iter_glas, open_glas, read_grades
from hf_gland.data.schema import Sample
from hf_gland.data.sparsify import BACKGROUNDS, STYLES, SparsifyConfig
from hf_gland.data.split import split_by_patient
from hf_gland.labels import BINARY_CLASSES


def budget(text: str) -> float | int:
    """`3` is a number of glands, `0.2` and `1.0` are shares."""
    return int(text) if text.isdigit() else float(text)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sources = top.add_subparsers(dest="source", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--out", required=True, type=Path, help="folder to write")
    common.add_argument("--overwrite", action="store_true", help="replace --out if it exists")
    common.add_argument("--seed", type=int, default=0, help="of the annotation (default 0)")
    drawing = SparsifyConfig()
    common.add_argument("--style", choices=STYLES, default=drawing.style, help="default %(default)s")
    common.add_argument("--budget", type=budget, default=drawing.budget,
                        help="share of each image's glands (0.2, 1.0) or a number of glands (3); default %(default)s")
    common.add_argument("--background", choices=BACKGROUNDS, default=drawing.background, help="default %(default)s")
    glas = sources.add_parser("glas", parents=[common], help="the GlaS challenge, from the official archive")
    glas.add_argument("--archive", required=True, type=Path, help="the official zip, or the folder it extracts to")
    glas.add_argument("--no-verify", action="store_true", help="do not compare files with the official checksums")
    glas.add_argument("--splits", nargs="+", choices=GLAS_SPLITS, help="default: those the archive holds")
    glas.add_argument("--val-fraction", type=float, default=0.175,
                      help="share of the train images held out by patient for validation (0: none; default 0.175)")
    return top


def glas_splits(args: argparse.Namespace) -> tuple[dict[str, Iterable[Sample]], dict[str, Any]]:
    with open_glas(args.archive) as opened:
        grades = read_grades(opened, {})
        present = args.splits or [s for s in GLAS_SPLITS if any(n.startswith(f"{s}_") for n in opened.names)]
        ids = {split: opened.images(split) for split in present}
    held: frozenset[str] = frozenset()
    if "train" in ids and args.val_fraction > 0:
        held = split_by_patient([grades[i][0] for i in ids["train"]], args.val_fraction,
                                grades=[grades[i][1] for i in ids["train"]])

    def samples(split: str, keep: bool | None) -> Iterator[Sample]:
        stream = iter_glas(args.archive, split, verify=not args.no_verify)
        for sample in tqdm(stream, total=len(ids[split]), desc=split, unit="image", disable=None):
            if keep is None or (sample.patient_id in held) == keep:
                yield sample

    splits: dict[str, Iterable[Sample]] = {}
    for split in present:
        if split == "train" and held:
            splits["train"], splits["validation"] = samples("train", False), samples("train", True)
        else:
            splits[split] = samples(split, None)
    sources: dict[str, Any] = {"validation_patients": sorted(held)}
    if args.archive.is_file():
        with args.archive.open("rb") as stream:
            sources["archive_sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
    return splits, sources


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        config = SparsifyConfig(style=args.style, budget=args.budget, background=args.background)
        splits, sources = glas_splits(args)
        provenance = build_dataset(splits, args.out, config=config, seed=args.seed, class_names=BINARY_CLASSES,
                                   source="GlaS", licence=GLAS_LICENCE, sources=sources, overwrite=args.overwrite)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{'split':12}{'images':>8}{'patients':>10}{'glands':>14}{'labelled %':>12}")
    for split, s in provenance["splits"].items():
        glands = f"{s['annotated_glands']}/{s['total_glands']}"
        print(f"{split:12}{s['images']:8}{s['patients']:10}{glands:>14}{100 * s['labelled_fraction']:12.2f}")
    print(f"data sha256 {provenance['data_sha256']}\nwritten to {args.out}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
