"""Things to publish: a finished run with measured results, datasets, and a little GlaS archive."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tiny import NETWORK, tiny_settings
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from hf_gland.config import make_config
from hf_gland.data.build import About, annotated, build_dataset, load_local, load_provenance
from hf_gland.data.sources.glas import plan_glas, read_glas
from hf_gland.data.sparsify import SparsifyConfig
from hf_gland.evaluation.split import Measurement, evaluate_rows, result_record
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import save_model_folder

TEMPLATES = Path(__file__).resolve().parents[2] / "hub_cards"


def write_run(run: Path, dataset: Path, *, seed: int = 0, measured: bool = True, **settings: Any) -> Path:
    """What scripts/train.py and scripts/evaluate.py leave behind, without the training."""
    torch.manual_seed(seed)
    labels = {"id2label": {0: "background", 1: "gland"}, "label2id": {"background": 0, "gland": 1}}
    teacher, student = (SegformerForSemanticSegmentation(SegformerConfig(**NETWORK, **labels)) for _ in range(2))
    for network in (teacher, student):
        network.config.mpp = 0.5
    model = run / "model"
    run.mkdir(parents=True)
    save_model_folder(model, teacher, student, Preprocessing())
    config = make_config(tiny_settings(dataset, seed=seed, mpp=0.5) | settings)
    (model / "training_config.json").write_text(config.to_json())
    step = {"step": 1, "loss": 0.7, "thresholds": [0.8, 0.8], "ema_decay": 0.5, "coverage": 0.1, "pseudo_accuracy": None}
    (model / "training_log.jsonl").write_text(json.dumps(step) + "\n")
    (model / "training_metrics.json").write_text(json.dumps({
        "step": config.optim.steps, "train_seconds": 431.5, "command": "accelerate launch scripts/train.py --config tiny",
        "recipe": "tiny", "variant": config.variant, "data": load_provenance(dataset), "commit": "5ca1ab1e" * 5,
        "hardware": "a test machine, 2 cores"}))
    if measured:
        measure(run, dataset)
    return run


def measure(run: Path, dataset: Path, *, weights: str = "teacher", folder: str = "",
            **options: Any) -> Path:
    """The record that scripts/evaluate.py writes of the validation split, in RUN/evaluation, RUN/student or `folder`.

    `options`: tiling and post, as in `evaluate_rows`.
    """
    segmenter = GlandSegmenter.from_pretrained(run / "model", subfolder="student" if weights == "student" else None)
    evaluator = evaluate_rows(segmenter, load_local(dataset)["validation"], bootstrap=20, **options)
    measured = Measurement("validation", load_provenance(dataset)["data_sha256"], "ours", "python scripts/evaluate.py",
                           weights, **options)
    record = result_record(run / "model", measured, evaluator.compute())
    return record.write(run / (folder or ("evaluation" if weights == "teacher" else "student")))


def write_glas_archive(path: Path) -> Path:
    """Four training images of two patients and two test images, in the layout of the official archive."""
    rng, lines = np.random.default_rng(0), ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    with zipfile.ZipFile(path, "w") as bundle:
        for name in ("train_1", "train_2", "train_3", "train_4", "testA_1", "testA_2"):
            ids = np.zeros((40, 60), np.uint8)
            ids[4:18, 4:20], ids[22:38, 30:56] = 1, 4
            image = rng.integers(0, 256, (40, 60, 3), np.uint8)
            for suffix, pixels in (("", image), ("_anno", ids)):
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "BMP")
                bundle.writestr(f"GlaS/{name}{suffix}.bmp", buffer.getvalue())
            lines.append(f"{name},{1 + int(name[-1]) % 2}, {'benign' if name[-1] in '12' else 'malignant'}, adenomatous")
        bundle.writestr("GlaS/Grade.csv", "\r\n".join(lines))
    return path


def write_glas_dataset(archive: Path, out: Path, style: str = "glands") -> Path:
    """The archive as scripts/build_dataset.py glas builds it (its files are not the official ones)."""
    plan = {split: [item.image_id for item in items] for split, items in plan_glas(archive, verify=False).items()}
    config = SparsifyConfig(style=style)
    build_dataset({split: annotated(read_glas(archive, ids, verify=False), config, 0) for split, ids in plan.items()}, out,
                  About(("background", "gland"), "GlaS", "GlaS (Warwick-QU): research only, no commercial use", config))
    return out
