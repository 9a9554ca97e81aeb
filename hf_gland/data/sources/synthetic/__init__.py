"""The synthetic H&E-like generator, the default data: no download, no licence to ask for."""

import argparse
from collections.abc import Iterator, Sequence

from hf_gland.data.sample import Sample
from hf_gland.data.source import Item, Offer, Source
from hf_gland.data.sources.synthetic.images import SPLITS, draw_sample, iter_synthetic
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.labels import BINARY_CLASSES


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--splits", nargs="+", choices=list(SPLITS), default=list(SPLITS), help="[all]")
    parser.add_argument("--images", type=int, metavar="N", help="images per split "
                        f"[{', '.join(f'{s} {n}' for s, n in SPLITS.items())}]")
    parser.add_argument("--size-px", nargs=2, type=int, default=(384, 512), metavar=("HEIGHT", "WIDTH"), help="[384 512]")
    parser.add_argument("--data-seed", type=int, default=0, help="of the images themselves [0]")
    parser.add_argument("--class-names", nargs="+", default=list(BINARY_CLASSES), metavar="NAME",
                        help="2, or 3 to tell benign and malignant glands apart [%(default)s]")


def _open(arguments: argparse.Namespace) -> Offer:
    seed, size_px, classes = arguments.data_seed, (arguments.size_px[0], arguments.size_px[1]), len(arguments.class_names)
    for split in arguments.splits:  # draws nothing, but says what cannot be drawn
        iter_synthetic(split, seed=seed, images=arguments.images, size_px=size_px, num_classes=classes)
    counts = {split: SPLITS[split] if arguments.images is None else arguments.images for split in arguments.splits}

    def read(items: Sequence[Item]) -> Iterator[tuple[Sample, SparseAnnotation | None]]:
        return ((draw_sample(item.files[0], item.files[1], seed, size_px, classes), None) for item in items)

    return Offer({split: [Item(f"syn-{split}-{i:03d}", files=(split, i)) for i in range(count)]
                  for split, count in counts.items()},
                 read, SOURCE.title, "cc0-1.0", arguments.class_names, record={"data_seed": seed})


SOURCE = Source(
    name="synthetic", title="synthetic", summary="drawn H&E-like images, no download", add_options=_add_options, open=_open,
    shareable=True, limits="The images are drawn by a program. The model shows that the method works, and is of no use on "
    "tissue.")
