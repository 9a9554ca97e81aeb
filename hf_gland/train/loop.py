"""The training loop: warm-up on sparse labels, then a teacher that widens what the student learns from."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from hf_gland.config import TrainConfig
from hf_gland.errors import HfGlandError
from hf_gland.labels import IGNORE_INDEX
from hf_gland.method.losses import step_loss
from hf_gland.method.pseudo_labels import dequantise
from hf_gland.method.schedules import StepValues, planned_refreshes, step_values
from hf_gland.method.targets import make_targets
from hf_gland.model.border import split_border
from hf_gland.model.student import full_size_logits, predicted_maps
from hf_gland.model.teacher import update_teacher
from hf_gland.train.accelerator import on_main_process
from hf_gland.train.callbacks import Log, Panels, ProgressBar, Trackers
from hf_gland.train.failures import of_the_machine
from hf_gland.train.model_folder import write_model
from hf_gland.train.optim import set_learning_rates
from hf_gland.train.run import MODEL, Callback, Step, TrainingRun
from hf_gland.train.setup import goes_on, held_folder, set_up
from hf_gland.train.stop import StopRequests


class Interrupted(Exception):
    """The run was asked to stop; its state is saved."""


def train(config: TrainConfig, folder: Path, accelerator: Accelerator, *, resume: bool = False,
          note: Mapping[str, Any] | None = None, callbacks: Sequence[Callback] = ()) -> Path:
    """Train as `config` says into the folder of the run; returns its model folder, `folder/model`.

    `note`: what the caller wants written into the model's training_metrics.json (the command, the recipe). `callbacks`:
    who else is to be told, see `run.Callback`.

    Raises HfGlandError with a message for the user, or Interrupted when the run was asked to stop and a checkpoint was
    saved.
    """
    stop = StopRequests()
    with held_folder(folder, config, accelerator, resume) as checkpoint:
        run = set_up(config, folder, accelerator, note or {}, [Log(), Trackers(), Panels(), ProgressBar(), *callbacks])
        try:
            if checkpoint is not None:
                run.take_up(checkpoint)
            on_main_process(accelerator, lambda: run.tell("on_start"))
            if run.state.step == 0 and goes_on(config.model.backbone, run.data.class_names):
                run.measure_start()
            with stop:
                for end in [*planned_refreshes(config), config.optim.steps]:
                    if run.state.step < end:
                        take_steps(run, end, stop)
                    if run.state.step == end < config.optim.steps:
                        run.refresh()
            return finish(run)
        except (RuntimeError, MemoryError) as error:
            if too_small := of_the_machine(error, config, accelerator.num_processes, run.loaders):
                raise too_small from error
            raise
        finally:
            run.tell("on_exit")


def take_steps(run: TrainingRun, end: int, stop: StopRequests) -> None:
    """Steps up to (not including) step `end`, all with the same bank; validations and checkpoints between them."""
    state, last = run.state, run.config.optim.steps
    batches = run.batches(end)
    while state.step < end:
        run.tell("on_step", take_step(run, batches))
        if is_due(run.config.run.validate_every, state.step) and state.step < last:
            run.validate()
        if is_due(run.config.run.save_every, state.step) and state.step < last:
            run.save()
        if run.total(torch.tensor(float(stop.due), device=run.accelerator.device)).item():  # in any of the processes
            run.save()
            run.tell("on_stop")
            raise Interrupted(f"stopped at step {state.step}{stop.reason}; continue with --resume")


def finish(run: TrainingRun) -> Path:
    """The last validation, the last checkpoint and the model folder."""
    model, seconds = run.folder / MODEL, run.seconds
    if run.state.latest.get("validation_step") != run.state.step:  # else resumed after the last validation
        run.validate()
    run.save()
    on_main_process(run.accelerator, lambda: write_model(run, model, seconds))
    run.tell("on_end", model)  # may take minutes on the main process, longer than others may wait for it
    return model


def is_due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def take_step(run: TrainingRun, batches: Iterator[dict[str, Tensor]],
              stage: Callable[[str], AbstractContextManager[Any]] = nullcontext) -> Step:
    """One optimiser step; then the teacher follows. `stage` is entered with the name of each of its parts."""
    config, accelerator, state = run.config, run.accelerator, run.state
    values = step_values(config, state.step)
    thresholds = run.pseudo_labels.thresholds(values.progress)
    set_learning_rates(state.optimizer, values.learning_rate_factor)
    seed_dropout(config.optim.seed, state.step, accelerator.process_index)
    run.student.train()
    sums: dict[str, Tensor] = {}
    for _ in range(config.optim.gradient_accumulation):
        with stage("crops of images, labels and bank"):
            batch = {k: v.to(accelerator.device, non_blocking=True) for k, v in next(batches).items()}
        with accelerator.accumulate(run.student):
            with stage("student forward"), accelerator.autocast():
                logits, border = split_border(full_size_logits(run.student, run.preprocessing(batch["strong"])),
                                              len(run.data.class_names))
            with stage("threshold and fusion"):
                teacher = teacher_says(run, batch) if values.refining else None
                target = make_targets(batch["sparse"], teacher, thresholds, fusion=config.method.fusion,
                                      annotated=batch["annotated"], border=None if border is None else batch["border"])
            with stage("loss"):
                loss, parts = step_loss(logits, target, values, config.method, run.total, run.class_weights, border)
            with stage("backward"):  # gradients are averaged over processes, the loss is a share of the whole batch's
                accelerator.backward(loss * accelerator.num_processes)
            with stage("gradient clipping"):
                if accelerator.sync_gradients and config.optim.max_grad_norm:
                    accelerator.clip_grad_norm_(run.student.parameters(), config.optim.max_grad_norm)
            with stage("optimiser"):
                run.optimizer.step()
                run.optimizer.zero_grad()
        seen = {"loss": loss.detach(), **parts, **pixel_counts(target.pseudo, batch["truth"])}
        sums = {k: sums.get(k, 0) + v for k, v in seen.items()}
    with stage("teacher update"):
        update_teacher(state.teacher, state.student, values.ema_decay)
    state.step += 1
    return Step(record(run, sums, values, thresholds), batch, target.fused, logits)


def seed_dropout(seed: int, step: int, process: int) -> None:
    """Dropout's draws depend on these alone, so that a resumed run makes the same ones."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1)[0]))


def teacher_says(run: TrainingRun, batch: dict[str, Tensor]) -> Tensor:
    """float [B, outputs, H, W], see `predicted_maps`: from the bank, or from the teacher on the weak view."""
    if "bank" in batch:
        return dequantise(batch["bank"])
    with run.accelerator.autocast():
        return predicted_maps(run.state.teacher, run.preprocessing(batch["weak"]))


def pixel_counts(pseudo: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Pixel counts: all of the crops, beyond pictures too, with a pseudo-label, of those with dense truth, and of those
    right (for the record only)."""
    confident, known = pseudo != IGNORE_INDEX, truth != IGNORE_INDEX
    return {"pixels": torch.tensor(float(pseudo.numel()), device=pseudo.device), "confident": confident.sum(),
            "known": (confident & known).sum(), "right": (confident & known & (pseudo == truth)).sum()}


def record(run: TrainingRun, sums: dict[str, Tensor], values: StepValues, thresholds: Sequence[float]) -> dict[str, Any]:
    """What the step used and gave, over all processes; every process returns the same. Raises HfGlandError where the loss
    is not finite."""
    totals = run.total(torch.stack([value.float() for value in sums.values()])).tolist()
    seen = dict(zip(sums, totals, strict=True))
    pixels, confident, known, right = (seen.pop(k) for k in ("pixels", "confident", "known", "right"))
    optim, means = run.config.optim, {k: v / run.config.optim.gradient_accumulation for k, v in seen.items()}
    if not math.isfinite(means["loss"]):
        raise HfGlandError(f"the loss of step {run.state.step} is {means['loss']}: training has diverged. Start again with "
                           f"a learning_rate below {optim.learning_rate:g}")
    found = {"step": run.state.step, **means, "thresholds": thresholds, "ema_decay": values.ema_decay,
             "pseudo_weight": values.pseudo_weight, "unlabelled_weight": values.unlabelled_weight,
             "class_weighting": values.class_weighting,
             "learning_rate": optim.learning_rate * values.learning_rate_factor,
             "coverage": confident / pixels, "pseudo_accuracy": right / known if known else None}
    run.state.latest.update(found)
    return found
