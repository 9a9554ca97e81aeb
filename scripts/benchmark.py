"""Time one thing against another, side by side in one run, because timings on a shared machine drift.

  python scripts/benchmark.py step --config bench --dataset DATASET --out refined_step.json
  python scripts/benchmark.py training --config bench --dataset DATASET --out training.json
  python scripts/benchmark.py inference --model RUN/model --images FOLDER --mpp 0.62 --out inference.json

step: a refined training step (fusion with the bank of pseudo-labels, teacher update) against a supervised step of the same
loop: alone, with the recipe's bank refreshes shared out over the refined steps, and over a whole run, warm-up included.
training: a supervised step of this project's loop, its data included, against the loop of transformers' example for
semantic segmentation (run_semantic_segmentation_no_trainer.py) on the same crops' size, network and precision.
inference: a folder of images through GlandSegmenter.predict_many (glands found and measured, confidence and all) against
transformers' pipeline("image-segmentation"), from files to class maps at full size, and how far the class maps agree; and
against the bare network, from pixels in memory to probabilities, one picture after the other. All sides see the same pixels,
at the model's pixel size and cut to whole strides of its encoder, in the same precision, which is written down.
Blocks of both alternate; each ratio is the median over pairs of blocks, with the lowest and the highest beside it.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from unittest.mock import patch

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch loads: busy-waiting threads starve each other

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_scheduler, pipeline

from hf_gland.config import Parser, TrainConfig, add_settings, config_from_arguments
from hf_gland.data.training_data import open_training_data
from hf_gland.evaluation.benchmarks import spread, write_benchmark
from hf_gland.imaging.opening import SUFFIXES
from hf_gland.imaging.pictures import read_picture, read_rgb
from hf_gland.imaging.pixel_size import working_hw
from hf_gland.imaging.resample import resample_image, resample_probabilities
from hf_gland.inference.glands import glands_from_probabilities
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.labels import IGNORE_INDEX
from hf_gland.method.schedules import planned_refreshes, warmup_steps
from hf_gland.model.backbones import backbone_preprocessing, load_network, side_multiple_px
from hf_gland.model.cpu import make_fast
from hf_gland.model.precision import PRECISION, autocast, precision_name, resolve_precision
from hf_gland.model.student import full_size_logits
from hf_gland.options import PostProcessing, Tiling
from hf_gland.train.accelerator import make_accelerator
from hf_gland.train.loop import take_step
from hf_gland.train.setup import set_up

BLOCKS, BLOCK_STEPS, REFRESH_REPEATS, STAGE_REPEATS = 8, 5, 3, 20
INFERENCE_STAGES = {"decoding files": read_picture, "resampling to the model's pixel size": resample_image,
                    "network": full_size_logits, "resampling probabilities": resample_probabilities,
                    "finding and measuring glands": glands_from_probabilities}


def main() -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    step = commands.add_parser("step", help="refined against supervised training step")
    step.add_argument("--config", help="recipe or settings file")
    step.add_argument("--out", type=Path, required=True, help="JSON to write")
    add_settings(step)
    step.set_defaults(measure=lambda a: step_ratio(config_from_arguments(a, a.config)))
    training = commands.add_parser("training", help="supervised step against transformers' example loop")
    training.add_argument("--config", help="recipe or settings file")
    training.add_argument("--out", type=Path, required=True, help="JSON to write")
    add_settings(training)
    training.set_defaults(measure=lambda a: training_ratio(config_from_arguments(a, a.config)))
    inference = commands.add_parser("inference", help="GlandSegmenter against transformers' pipeline")
    inference.add_argument("--model", required=True, help="model folder or Hub id")
    inference.add_argument("--images", type=Path, required=True, help="folder of pictures")
    inference.add_argument("--mpp", type=float, help="µm per pixel of the pictures")
    inference.add_argument("--precision", default="auto", choices=("auto", *PRECISION), help="of both sides [%(default)s]")
    inference.add_argument("--out", type=Path, required=True, help="JSON to write")
    inference.set_defaults(measure=inference_ratio)
    arguments = parser.parse_args()
    make_fast()
    try:
        write_benchmark(arguments.out, arguments.measure(arguments))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def step_ratio(config: TrainConfig) -> dict:
    """Seconds of a supervised and of a refined step, of a refresh, and the amortised ratio with its spread."""
    # All steps after warm-up; the supervised run takes the same crops with the sparse labels alone.
    timed = (BLOCKS + 1) * BLOCK_STEPS + STAGE_REPEATS  # more than a short recipe has
    refined = config.changed(mode="refined", tracker="none", save_every=0, warmup_fraction=0.0,
                             steps=max(config.optim.steps, timed))
    supervised = refined.changed(mode="sparse-only")
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for name, settings in (("supervised", supervised), ("refined", refined)):
            run = Path(folder) / name
            runs[name] = set_up(settings, run, make_accelerator(settings, run), {"recipe": "benchmark"})
        refresh_seconds = [seconds(runs["refined"].refresh) for _ in range(REFRESH_REPEATS + 1)][1:]
        batches = {name: run.batches(refined.optim.steps) for name, run in runs.items()}
        blocks = alternate({name: lambda name=name: take_step(runs[name], batches[name]) for name in runs}, BLOCK_STEPS)
        stages: dict[str, float] = {}
        whole = seconds(lambda: [take_step(runs["refined"], batches["refined"], partial(stage, stages))
                                 for _ in range(STAGE_REPEATS)])
    warmup = warmup_steps(config.optim.steps, config.method.warmup_fraction)
    refreshes = len(planned_refreshes(config.changed(mode="refined", refresh="bank")))
    refreshing = refreshes * statistics.median(refresh_seconds)
    pairs = list(zip(blocks["refined"], blocks["supervised"], strict=True))
    per_run = [(warmup * s + (config.optim.steps - warmup) * r + refreshing) / (config.optim.steps * s) for r, s in pairs]
    per_step = [(r + refreshing / (config.optim.steps - warmup)) / s for r, s in pairs]
    note = runs["refined"].note
    return {"benchmark": "refined step against supervised step", "precision": f"{note['precision']} for both",
            "dataset": note["data"]["source"], "data_sha256": note["data"]["data_sha256"], "steps": config.optim.steps,
            "refined_steps": config.optim.steps - warmup, "refreshes": refreshes,
            "supervised_step_s": blocks["supervised"], "refined_step_s": blocks["refined"],
            "refresh_s": refresh_seconds,
            "stages_ms": per_stage({**stages, "all else": whole - sum(stages.values())}, STAGE_REPEATS),
            "ratios": {"seconds of a refined step / of a supervised step": spread([r / s for r, s in pairs]),
                       "the same, with the recipe's refreshes shared out over its refined steps": spread(per_step),
                       "seconds of a refined run / of a supervised run": spread(per_run)}}


def training_ratio(config: TrainConfig) -> dict:
    """Images per second of a supervised step and of transformers' example loop."""
    settings = config.changed(mode="full", tracker="none", save_every=0,
                              steps=max(config.optim.steps, (BLOCKS + 1) * BLOCK_STEPS))
    with tempfile.TemporaryDirectory() as folder:
        accelerator = make_accelerator(settings, Path(folder) / "ours")
        ours = set_up(settings, Path(folder) / "ours", accelerator, {"recipe": "benchmark"})
        batches = ours.batches(settings.optim.steps)
        example = example_loop(settings, accelerator, ours.loaders)
        blocks = alternate({"ours": lambda: take_step(ours, batches), "example": lambda: next(example)},
                           BLOCK_STEPS)
    rates = {name: [config.optim.batch_size / s for s in took] for name, took in blocks.items()}
    return {"benchmark": "training against transformers' example loop", "precision": f"{ours.note['precision']} for both",
            "dataset": ours.note["data"]["source"],
            "data_sha256": ours.note["data"]["data_sha256"], "images_per_s": rates,
            "ratios": {"supervised training, images per second / those of transformers' example loop": spread(
                [a / b for a, b in zip(rates["ours"], rates["example"], strict=True)])}}


def example_loop(config: TrainConfig, accelerator: Accelerator, loaders: int) -> Iterator[None]:
    """One optimiser step per `next`, as transformers' run_semantic_segmentation_no_trainer.py takes it."""
    data = open_training_data(config)
    model = load_network(config.model.backbone, data.class_names, data.mpp, config.model_overrides())
    preprocessing = backbone_preprocessing(config.model.backbone)
    mean, std = (np.array(v, np.float32) for v in (preprocessing.mean, preprocessing.std))

    def transformed(rows: dict) -> dict:
        """Resampled, cropped at random, mirrored, normalised."""
        rng, pixels, labels = np.random.default_rng(), [], []
        for image, mask, mpp in zip(rows["image"], rows["mask"], rows["mpp"], strict=True):
            hw = working_hw((image.height, image.width), mpp, data.mpp)
            picture = np.asarray(image.convert("RGB").resize(hw[::-1]))
            truth = np.asarray(mask.resize(hw[::-1], Image.Resampling.NEAREST))
            pad = [(0, max(config.augment.crop_px - side, 0)) for side in hw]
            picture, truth = np.pad(picture, (*pad, (0, 0))), np.pad(truth, pad, constant_values=IGNORE_INDEX)
            y, x = (int(rng.integers(side - config.augment.crop_px + 1)) for side in truth.shape)
            window = slice(y, y + config.augment.crop_px), slice(x, x + config.augment.crop_px)
            picture, truth = picture[window], truth[window]
            if rng.random() < 0.5:
                picture, truth = picture[:, ::-1], truth[:, ::-1]
            pixels.append(torch.from_numpy(((picture / np.float32(255) - mean) / std).transpose(2, 0, 1).copy()))
            labels.append(torch.from_numpy(truth.astype(np.int64)))
        return {"pixel_values": pixels, "labels": labels}

    loader = DataLoader(data.train.with_transform(transformed), batch_size=config.optim.batch_size, shuffle=True,
                        num_workers=loaders, drop_last=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.optim.learning_rate)
    scheduler = get_scheduler("polynomial", optimizer, num_warmup_steps=0, num_training_steps=config.optim.steps)
    model, optimizer, loader, scheduler = accelerator.prepare(model, optimizer, loader, scheduler)
    model.train()
    while True:
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            yield


def inference_ratio(arguments: argparse.Namespace) -> dict:
    """Images per second of GlandSegmenter, of the plain pipeline and of the bare network; and how far class maps agree."""
    segmenter = GlandSegmenter.from_pretrained(arguments.model)
    precision = resolve_precision(segmenter.device, arguments.precision)
    plain = pipeline("image-segmentation", arguments.model, device=segmenter.device)
    classes = {name: index for index, name in segmenter.id2label.items()}
    tiling, untouched = Tiling(precision=precision_name(precision)), PostProcessing(min_gland_area_px=0, max_hole_area_px=0)

    def ours() -> list[np.ndarray]:
        return [result.prediction.class_map for result in segmenter.predict_many(paths, segmenter.mpp, tiling, untouched)
                if result.prediction is not None]

    def theirs() -> list[np.ndarray]:
        class_maps = []
        with autocast(segmenter.device, precision):
            answers = plain([str(path) for path in paths])
        for found in answers:
            class_maps.append(np.zeros(np.asarray(found[0]["mask"]).shape, np.uint8))
            for segment in found:
                class_maps[-1][np.asarray(segment["mask"]) > 0] = classes[segment["label"]]
        return class_maps

    def network() -> None:
        forward = segmenter.network(tiling)
        for picture in pictures:
            forward(picture)

    with tempfile.TemporaryDirectory() as folder:
        paths = at_the_models_size(arguments.images, arguments.mpp, segmenter.mpp, side_multiple_px(segmenter.model),
                                   Path(folder))
        agreement = [float((mine == other).mean()) for mine, other in zip(ours(), theirs(), strict=True)]
        pictures = [torch.tensor(read_rgb(path)).permute(2, 0, 1)[None].to(segmenter.device) for path in paths]
        blocks = alternate({"ours": ours, "pipeline": theirs, "network": network}, 1)
        with stage_clock(INFERENCE_STAGES) as stages:
            whole = seconds(ours)
    rates = {name: [len(paths) / s for s in took] for name, took in blocks.items()}
    return {"benchmark": "inference against transformers' pipeline", "precision": f"{tiling.precision} for both",
            "images": len(paths), "images_per_s": rates,
            "stages_ms": per_stage({**stages, "an image, while others are under way": whole}, len(paths)),
            "ratios": {f"a folder of images, images per second / those of {name}": spread(
                [a / b for a, b in zip(rates["ours"], rates[side], strict=True)])
                for side, name in (("pipeline", "transformers' pipeline"), ("network", "the bare network"))},
            "pixels_that_agree": spread(agreement)}


def at_the_models_size(images: Path, mpp: float | None, model_mpp: float | None, multiple_px: int, out: Path) -> list[Path]:
    """The pictures of a folder as PNG in `out`, at the pixel size that the model expects, their sides cut to whole multiples
    of `multiple_px`: the pipeline knows no other."""
    paths = []
    for path in sorted(p for p in images.iterdir() if p.suffix.lower() in SUFFIXES):
        rgb = read_rgb(path)
        paths.append(out / f"{path.stem}.png")
        height, width = working_hw(rgb.shape[:2], mpp, model_mpp, path.name)
        working = resample_image(rgb, (height, width))
        Image.fromarray(working[:height // multiple_px * multiple_px, :width // multiple_px * multiple_px]).save(paths[-1])
    if not paths:
        raise ValueError(f"{images}: holds no pictures ({', '.join(SUFFIXES)})")
    return paths


def alternate(actions: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds per call of each action, by block of `repeats` calls; the actions take turns, the first block warms up."""
    blocks: dict[str, list[float]] = {name: [] for name in actions}
    for block in tqdm(range(BLOCKS + 1), desc="timing", unit="block"):
        for name in sorted(actions, reverse=block % 2 == 0):
            took = seconds(lambda name=name: [actions[name]() for _ in range(repeats)])
            if block:
                blocks[name].append(took / repeats)
    return blocks


@contextmanager
def stage(took: dict[str, float], name: str) -> Iterator[None]:
    """Add up in `took` the seconds spent inside, the device's queue emptied before and after."""
    synchronise()
    start = time.perf_counter()
    yield
    synchronise()
    took[name] = took.get(name, 0.0) + time.perf_counter() - start


@contextmanager
def stage_clock(stages: Mapping[str, Callable]) -> Iterator[dict[str, float]]:
    """Seconds spent in each of `stages` (name: the stage's function or method) meanwhile, whichever module calls it, added
    up over threads."""
    took, lock = dict.fromkeys(stages, 0.0), Lock()

    def timed(name: str, function: Callable) -> Callable:
        def call(*arguments, **options):  # type: ignore[no-untyped-def]
            results: list = []
            spent = seconds(lambda: results.append(function(*arguments, **options)))
            with lock:
                took[name] += spent
            return results[0]
        return call

    with ExitStack() as undo:
        for name, function in stages.items():
            *classes, attribute = function.__qualname__.split(".")
            owners = ([getattr(sys.modules[function.__module__], classes[0])] if classes else
                      [m for n, m in sys.modules.items() if n.startswith("hf_gland") and vars(m).get(attribute) is function])
            for owner in owners:
                undo.enter_context(patch.object(owner, attribute, timed(name, function)))
        yield took


def per_stage(stages: Mapping[str, float], count: int) -> dict[str, float]:
    """Milliseconds of each stage of one of `count` steps or images, from the seconds of all."""
    return {name: round(1000 * s / count, 2) for name, s in stages.items()}


def seconds(action) -> float:  # type: ignore[no-untyped-def]
    """Wall-clock time of a call, the device's queue emptied before and after."""
    took: dict[str, float] = {}
    with stage(took, ""):
        action()
    return took[""]


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    sys.exit(main())
