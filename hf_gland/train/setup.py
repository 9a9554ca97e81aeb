"""How a run begins: its folder held, its data decoded, its networks and optimiser made."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import datasets
import torch
from accelerate import Accelerator
from tqdm import tqdm

from hf_gland.config import TrainConfig, read_saved_config
from hf_gland.config.files import SAVED_CONFIG
from hf_gland.data.digest import digest_of_names, patient_digests, patients_trained_on
from hf_gland.data.loading import crop_bytes, crops_at_once, free_shared_memory, loading_processes
from hf_gland.data.store import TrainingStore, build_store, check_labels
from hf_gland.data.training_data import TrainingData, open_training_data
from hf_gland.environment import git_commit, hardware, versions
from hf_gland.errors import HfGlandError
from hf_gland.locks import only_writer
from hf_gland.method.losses import class_weights
from hf_gland.method.pseudo_labels import PseudoLabels
from hf_gland.model.backbones import backbone_preprocessing, backbone_sha256, load_student
from hf_gland.model.identity import class_names_of, model_facts
from hf_gland.model.loading import load_config
from hf_gland.model.precision import precision_name, resolve_precision
from hf_gland.model.sync_norm import synchronise_norms
from hf_gland.model.teacher import make_teacher
from hf_gland.train.accelerator import on_main_process
from hf_gland.train.checkpoint import CheckpointError, TrainingState, checkpoint_paths, choose_checkpoint
from hf_gland.train.optim import make_optimizer
from hf_gland.train.refresh import check_rows
from hf_gland.train.run import MODEL, WORKING, Callback, TrainingRun


def set_up(config: TrainConfig, folder: Path, accelerator: Accelerator, note: Mapping[str, Any],
           callbacks: Sequence[Callback] = ()) -> TrainingRun:
    """Data, networks and optimiser of a run that has not taken a step; `note` as in `train`. Raises HfGlandError."""
    data, method = open_training_data(config), config.method
    classes, decoded = len(data.class_names), folder / WORKING / "store"
    loaders, few = choose_loaders(config, classes, accelerator)
    told = (*data.notes, *other_pixel_size(config, data.mpp), *other_classes(config, data.class_names), *few)
    for line in told if accelerator.is_main_process else ():
        print(f"note: {line}", file=sys.stderr)

    torch.manual_seed(config.optim.seed)
    student = load_student(config.model.backbone, data.class_names, data.mpp, config.model_overrides(),
                           config.data.missing_mpp or None, method.has_border)

    def decode() -> None:  # once for all processes of a machine
        check_rows(data.validation or (), classes, data.mpp, config.data.missing_mpp or None)
        build_store(data.train, decoded, classes, data.mpp, config.data.missing_mpp or None,
                    truth_as_labels=method.learns_from_truth, unlabelled=data.target or (), border_px=method.border_px)

    on_main_process(accelerator, decode)
    store = TrainingStore(decoded)
    labelled_px = store.label_counts()
    check_labels(labelled_px, config.data.dataset, truth_as_labels=method.learns_from_truth,
                 assume_background=method.assumes_background)
    never = [name for name, px in zip(data.class_names[1:], labelled_px[1:classes].tolist(), strict=True) if not px]
    if never and accelerator.is_main_process:
        print(f"note: no pixel of '{config.data.train_split}' is labelled as {', '.join(never)}: the model will have the "
              "class and not know it", file=sys.stderr)
    weights = class_weights(labelled_px[:classes].tolist())
    synchronise_norms(student)
    optimizer = make_optimizer(student, config.optim)
    teacher = make_teacher(student).to(accelerator.device)
    wrapped, prepared_optimizer = accelerator.prepare(student, optimizer)
    note = {**note, **origin(config, data, accelerator)}
    if accelerator.is_main_process and (known := patients_not_held_out(note, data.validation)):
        tqdm.write(f"warning: {known}", file=sys.stderr)
    used = [data.provenance.get("data_sha256"), data.provenance.get("adapted_to", {}).get("data_sha256")]
    state = TrainingState(accelerator.unwrap_model(wrapped), teacher, optimizer, step=0, scaler=accelerator.scaler,
                          origin={"data_sha256": used, "images": digest_of_names(store.image_ids),
                                  "precision": note["precision"], "processes": accelerator.num_processes})
    return TrainingRun(
        config, folder, accelerator, data, store,
        PseudoLabels(method, folder / WORKING / "bank", store.sizes, weights.numpy(), store.sparse),
        weights.to(accelerator.device), backbone_preprocessing(config.model.backbone), wrapped, prepared_optimizer, state,
        loaders, note, callbacks)


def choose_loaders(config: TrainConfig, classes: int, accelerator: Accelerator) -> tuple[int, list[str]]:
    """See `loading_processes`: their number for each process that trains, and what there is to say of it. Raises
    HfGlandError where the batch cannot be divided among the processes."""
    processes, room = accelerator.num_processes, free_shared_memory()
    crops = crops_at_once(config.optim.batch_size, processes, config.optim.gradient_accumulation)
    loaders, few = loading_processes(
        config.run.num_workers, accelerator.device.type != "cpu", torch.get_num_threads(),
        crops * crop_bytes(config.augment.crop_px, classes + config.method.has_border),
        None if room is None else room // processes)
    return loaders, [few] if few else []


@contextmanager
def held_folder(folder: Path, config: TrainConfig, accelerator: Accelerator, resume: bool) -> Iterator[Path | None]:
    """Hold the folder of a run against other processes; gives the checkpoint to resume from (None: a new run).

    Raises CheckpointError where there is none, or where a new run would take the place of another; LockedError.
    """
    with ExitStack() as stack:
        def take() -> Path | None:
            if folder.exists() and not folder.is_dir():
                raise CheckpointError(f"{folder}: is a file, and a run needs a folder; give another --out")
            if not resume:
                folder.mkdir(parents=True, exist_ok=True)
            elif not checkpoint_paths(folder):
                raise CheckpointError(f"{folder}: has no checkpoint to resume from; start without --resume")
            stack.enter_context(only_writer(folder))
            if resume:
                return last_whole_checkpoint(folder, config)
            if checkpoint_paths(folder):
                raise CheckpointError(f"{folder}: already holds a run; continue it with --resume or give another --out")
            if (folder / MODEL).exists():
                raise CheckpointError(f"{folder / MODEL}: is there already, and would be replaced; give another --out")
            return None

        yield on_main_process(accelerator, take)


def last_whole_checkpoint(folder: Path, config: TrainConfig) -> Path:
    """See `choose_checkpoint`; says which were passed over."""
    checkpoint, damaged = choose_checkpoint(folder, config)
    for name, wrong in damaged.items():
        tqdm.write(f"warning: {name} is damaged and was set aside as damaged-{name}: {wrong}", file=sys.stderr)
    if damaged:
        tqdm.write(f"resuming from {checkpoint.name}, the last whole checkpoint", file=sys.stderr)
    return checkpoint


def origin(config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> dict[str, Any]:
    """What a result record needs to know of where a run came from."""
    return {"variant": config.variant, "data": data.provenance, "backbone": first_backbone(config.model.backbone),
            "commit": git_commit(), "hardware": hardware(str(accelerator.device)), "versions": versions(),
            "precision": precision_name(resolve_precision(accelerator.device, accelerator.mixed_precision)),
            "patients": sorted(patient_digests(data.train)),
            "processes": accelerator.num_processes, "encoder": backbone_sha256(config.model.backbone),
            "continued_from": earlier_trainings(config.model.backbone)}


def earlier_trainings(backbone: str) -> list[dict[str, Any]]:
    """How the model that a run goes on from came about, the first training first; [] where it starts from an encoder.
    Raises OSError where such a model has lost its notes."""
    if not is_trained_here(backbone):
        return []
    before = read_saved_config(Path(backbone))
    notes = json.loads((Path(backbone) / "training_metrics.json").read_text("utf-8"))
    return [*notes.get("continued_from", []), {
        "steps": before.optim.steps, "train_seconds": notes["train_seconds"], "recipe": notes.get("recipe"),
        "train_split": before.data.train_split, "patients": notes.get("patients", []), "data": notes["data"],
        "commit": notes["commit"]}]


def patients_not_held_out(note: Mapping[str, Any], validation: datasets.Dataset | None) -> str:
    """A sentence where patients of the validation split are trained on, by this run (`note`: its origin) or by those that it
    goes on from; else ""."""
    if validation is None:
        return ""
    remedies = {"here": ([note], "hold some out (build_dataset --val-fraction)"),
                "before": (note["continued_from"], "build the dataset with --held-out-as and the one before")}
    for when, (trainings, remedy) in remedies.items():
        seen, held_out = patients_trained_on(validation, trainings)
        if seen:
            return (f"{seen} of the {held_out} validation patients were trained on {when}, so that their figures flatter; "
                    f"{remedy}")
    return ""


def other_pixel_size(config: TrainConfig, mpp: float | None) -> tuple[str, ...]:
    """A sentence where a model is trained on at another pixel size than it was, which costs it much of what it knows.

    `mpp`: µm per pixel of this training, None: each image's own pixels.
    """
    backbone, after = config.model.backbone, mpp or 0.0
    before = model_facts(load_config(backbone), backbone).mpp or 0.0 if is_trained_here(backbone) else after
    keeps = ("stating that of the images keeps it (build_dataset --mpp, or --missing_mpp here)" if after != config.data.mpp
             else f"--mpp {before:g} keeps it")
    return () if before == after else (
        f"{backbone} was trained at {before:g} µm per pixel, and goes on at {after:g} (0: each image's own); {keeps}",)


def classes_before(backbone: str) -> list[str]:
    """The classes of a model that a run goes on from; [] where it starts from an encoder."""
    return class_names_of(load_config(backbone)) if is_trained_here(backbone) else []


def goes_on(backbone: str, class_names: Sequence[str]) -> bool:
    """Whether a run takes up a model of these classes whole, its last layer too."""
    return len(classes_before(backbone)) == len(class_names)


def other_classes(config: TrainConfig, class_names: Sequence[str]) -> tuple[str, ...]:
    """A sentence where a model goes on with another number of classes than it has. Raises HfGlandError where the teacher
    would label images with a last layer that has learned nothing."""
    method, before = config.method, classes_before(config.model.backbone)
    if len(before) in (0, len(class_names)):
        return ()
    said = (f"{config.model.backbone} has the classes {', '.join(before)}, the dataset {', '.join(class_names)}: its last "
            "layer starts anew")
    if method.has_teacher and method.warmup_fraction == 0:
        raise HfGlandError(f"{said}, and without a warm-up the teacher would label images with it. Give "
                           "--warmup_fraction 0.25 (and more --steps), or a recipe that has one")
    return (said,)


def is_trained_here(backbone: str) -> bool:
    """Whether it is the folder of a model that a run left, and not an encoder."""
    return (Path(backbone) / SAVED_CONFIG).is_file()


def first_backbone(backbone: str) -> str:
    """The encoder that `backbone` goes back to: itself, or, of a model trained here, the one that its notes name."""
    if not is_trained_here(backbone):
        return backbone
    return str(json.loads((Path(backbone) / "training_metrics.json").read_text("utf-8"))["backbone"])
