"""The image-level baseline: pseudo-masks from the class activation maps of a patch classifier.

  python scripts/cam.py --config bench --dataset data/glas-20 --out data/glas-cam
  python scripts/train.py --config bench --variant cam --dataset data/glas-cam --validation_split "" --out runs/cam
  python scripts/evaluate.py runs/cam/model data/glas-20 --split testA --variant cam --out runs/cam/evaluation

Learns from one tag per patch (gland or none, told from the dense masks), then writes a dataset in which every pixel of
the training images carries the class that the classifier's activation map gives it. Settings are those of train.py.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hf_gland.config import Parser, add_settings, config_from_arguments

PATCH_PX = 64  # small enough that many patches hold no gland


def build_parser() -> Parser:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="recipe or settings file")
    parser.add_argument("--out", type=Path, required=True, help="dataset folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace --out if it is a dataset folder already")
    parser.add_argument("--patch-px", type=int, default=PATCH_PX, help="side of a patch at the training pixel size "
                        f"[{PATCH_PX}]")
    add_settings(parser)
    return parser


def run(arguments: argparse.Namespace) -> None:
    import numpy as np
    from tqdm import tqdm

    from hf_gland.data.build import About, build_dataset
    from hf_gland.data.sample import Sample
    from hf_gland.data.sparsify import SparseAnnotation
    from hf_gland.data.store import build_store
    from hf_gland.data.training_data import open_training_data
    from hf_gland.inference.segmenter import GlandSegmenter
    from hf_gland.model.backbones import backbone_preprocessing
    from hf_gland.model.cpu import make_fast
    from hf_gland.model.student import save_model_folder
    from hf_gland.train.tagger import train_tagger

    make_fast()
    config = config_from_arguments(arguments, arguments.config)
    config = config.changed(crop_px=arguments.patch_px,
                            batch_size=config.optim.batch_size * max(config.augment.crop_px // arguments.patch_px, 1))
    data = open_training_data(config.changed(validation_split=""))
    for note in data.notes:
        print(f"note: {note}", file=sys.stderr)
    config = config.changed(mpp=data.mpp or 0.0)
    with tempfile.TemporaryDirectory() as folder:
        store = build_store(data.train, Path(folder) / "store", len(data.class_names), data.mpp,
                            config.data.missing_mpp or None, truth_as_labels=True)
        model = train_tagger(config, store, data.class_names)
        save_model_folder(Path(folder) / "model", model, model, backbone_preprocessing(config.model.backbone))
        segmenter = GlandSegmenter.from_pretrained(Path(folder) / "model")

    def pairs() -> "Iterator[tuple[Sample, SparseAnnotation]]":
        for row in tqdm(data.train, desc="activation maps", unit="image"):
            image = np.array(row["image"].convert("RGB"))
            class_map = segmenter.probabilities(image, row["mpp"], name=row["image_id"]).argmax(axis=0).astype(np.uint8)
            truth, instances = (None if row[key] is None else np.array(row[key]) for key in ("mask", "instances"))
            about = (row[key] for key in ("image_id", "patient_id", "source", "grade", "mpp"))
            yield Sample(image, truth, instances, *about), SparseAnnotation(class_map, 0, row["total_glands"], 1.0, 0)

    provenance = data.provenance
    about = About(data.class_names, provenance["source"], provenance["licence"],
                  {"style": "cam", "background": "all", "budget": None}, config.optim.seed,
                  {"from_data_sha256": provenance["data_sha256"]})
    built = build_dataset({config.data.train_split: pairs()}, arguments.out, about, overwrite=arguments.overwrite)
    print(f"data sha256 {built['data_sha256']}\nwritten to {arguments.out}")
