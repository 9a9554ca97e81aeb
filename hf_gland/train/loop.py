"""The training run: warm-up on sparse labels, then a teacher that widens what the student learns from."""

import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from hf_gland.config import TrainConfig, read_saved_config
from hf_gland.config.files import SAVED_CONFIG
from hf_gland.data.loading import CropDataset, ShardedDraws, crop_loader
from hf_gland.data.store import TrainingStore, build_store, check_labels
from hf_gland.data.training_data import TrainingData, open_training_data
from hf_gland.environment import git_commit, hardware, versions
from hf_gland.errors import HfGlandError
from hf_gland.labels import IGNORE_INDEX
from hf_gland.locks import only_writer
from hf_gland.method.losses import class_weights, step_loss
from hf_gland.method.pseudo_labels import PseudoLabels, dequantise
from hf_gland.method.schedules import StepValues, planned_refreshes, step_values
from hf_gland.method.targets import make_targets
from hf_gland.model.backbones import backbone_preprocessing, backbone_sha256, head_parameter_names, load_student
from hf_gland.model.precision import precision_name, resolve_precision
from hf_gland.model.student import (
    class_probabilities,
    full_size_logits,
    save_model_folder,
)
from hf_gland.model.sync_norm import synchronise_norms
from hf_gland.model.teacher import make_teacher, update_teacher
from hf_gland.train.accelerator import on_main_process
from hf_gland.train.checkpoint import (
    CheckpointError,
    TrainingState,
    checkpoint_paths,
    choose_checkpoint,
    link_or_copy,
    load_checkpoint,
    save_checkpoint,
)
from hf_gland.train.refresh import check_rows, image_predictor, validate
from hf_gland.train.stop import StopRequests
from hf_gland.train.tracking import append_metrics, cut_metrics, panel, save_panel


class Interrupted(Exception):
    """The run was asked to stop; its state is saved."""


def train(config: TrainConfig, run: Path, accelerator: Accelerator, *, resume: bool = False,
          note: Mapping[str, Any] | None = None, on_checkpoint: Callable[[Path], None] | None = None) -> Path:
    """Train as `config` says into the folder `run`; returns the model folder `run/model`.

    `note`: what the caller wants written into the model's training_metrics.json (the command, the recipe).
    `on_checkpoint` is called on the main process with each checkpoint folder, which may be dropped when it returns.

    Raises CheckpointError, ValueError with a message for the user, or Interrupted when a signal asked the
    run to stop and a checkpoint was saved.
    """
    with ExitStack() as stack:
        def begin() -> Path | None:
            """Take hold of the folder; the checkpoint to go on from."""
            if not resume:
                run.mkdir(parents=True, exist_ok=True)
            elif not checkpoint_paths(run):
                raise CheckpointError(f"{run}: has no checkpoint to resume from; start without --resume")
            stack.enter_context(only_writer(run))
            if not resume and checkpoint_paths(run):
                raise CheckpointError(f"{run}: already holds a run; continue it with --resume or give another --out")
            return _checkpoint_to_resume(run, config) if resume else None

        checkpoint = on_main_process(accelerator, begin)
        return Training(config, run, accelerator, note or {}, on_checkpoint).fit(checkpoint)


def _checkpoint_to_resume(run: Path, config: TrainConfig) -> Path:
    """The last whole checkpoint; says which were passed over."""
    checkpoint, damaged = choose_checkpoint(run, config)
    for name, wrong in damaged.items():
        tqdm.write(f"warning: {name} is damaged and was set aside as damaged-{name}: {wrong}", file=sys.stderr)
    if damaged:
        tqdm.write(f"resuming from {checkpoint.name}, the last whole checkpoint", file=sys.stderr)
    return checkpoint


class Training:
    """A run in progress."""

    def __init__(self, config: TrainConfig, run: Path, accelerator: Accelerator, note: Mapping[str, Any],
                 on_checkpoint: Callable[[Path], None] | None = None):
        self.config, self.run, self.accelerator = config, run, accelerator
        self.on_checkpoint, self.stop = on_checkpoint, StopRequests()
        data = open_training_data(config)
        self.note = {**note, "variant": config.variant, "data": data.provenance,
                     "backbone": first_backbone(config.model.backbone),
                     "commit": git_commit(), "hardware": hardware(str(accelerator.device)), "versions": versions(),
                     "precision": precision_name(resolve_precision(accelerator.device, accelerator.mixed_precision)),
                     "processes": accelerator.num_processes}
        self.class_names, self.num_classes, self.mpp = data.class_names, len(data.class_names), data.mpp
        for told in data.notes if accelerator.is_main_process else ():
            print(f"note: {told}", file=sys.stderr)
        self.store, self.validation = self._build_store(data), data.validation
        labelled_px = self.store.label_counts()
        check_labels(labelled_px, config.data.dataset, truth_as_labels=config.method.learns_from_truth,
                     assume_background=config.method.assumes_background)
        weights = class_weights(labelled_px[:self.num_classes].tolist())
        self.class_weights = weights.to(accelerator.device)
        self.pseudo_labels = PseudoLabels(config.method, run / "bank", self.store.sizes, weights.numpy(), self.store.sparse)
        optim = config.optim
        torch.manual_seed(optim.seed)
        student = load_student(config.model.backbone, self.class_names, data.mpp, config.model_overrides(),
                               config.data.missing_mpp or None)
        self.preprocessing = backbone_preprocessing(config.model.backbone)
        self.note["encoder"] = backbone_sha256(config.model.backbone)
        synchronise_norms(student)
        head = head_parameter_names(student)
        self.optimizer = torch.optim.AdamW(
            [{"params": [p for n, p in student.named_parameters() if (n in head) == in_head],
              "peak_lr": optim.learning_rate * (optim.head_lr_factor if in_head else 1)} for in_head in (False, True)],
            lr=optim.learning_rate, weight_decay=optim.weight_decay, fused=True)  # one pass over the parameters
        self.teacher = make_teacher(student).to(accelerator.device)
        self.wrapped, self.prepared_optimizer = accelerator.prepare(student, self.optimizer)
        self.state = TrainingState(accelerator.unwrap_model(self.wrapped), self.teacher, self.optimizer, step=0,
                                   scaler=accelerator.scaler)
        self.metrics_path = run / "metrics.jsonl"

    def fit(self, checkpoint: Path | None) -> Path:
        """Run to the end, from `checkpoint` where given."""
        config, accelerator, state = self.config, self.accelerator, self.state
        if checkpoint is not None:
            load_checkpoint(checkpoint, state, config)
            if state.bank is not None:
                self._adopt_bank(state.bank)
        if accelerator.is_main_process:
            cut_metrics(self.metrics_path, state.step)
            (self.run / SAVED_CONFIG).write_text(config.to_json())
        if config.run.tracker != "none":
            accelerator.init_trackers("hf_gland", config=config.by_short_name())
        self.started = time.perf_counter() - state.seconds
        refreshes = planned_refreshes(config)
        bar = tqdm(total=config.optim.steps, initial=state.step, desc="training", unit="step",
                   disable=not accelerator.is_local_main_process)
        with bar, self.stop:
            for end in [*refreshes, config.optim.steps]:
                if state.step > end or state.step == config.optim.steps:
                    continue
                self._run_until(end, bar)
                if end in refreshes and state.step == end:
                    self.refresh()
        return self._finish()

    def _run_until(self, end: int, bar: tqdm) -> None:
        """Steps up to (not including) step `end`, all with the same bank."""
        config, state = self.config, self.state
        batches = self.batches(end)
        while state.step < end:
            record = self.step(batches)
            bar.update()
            bar.set_postfix_str(f"loss {record['loss']:.3f} τ {min(record['thresholds']):.2f} "
                                f"α {record['ema_decay']:.4f} coverage {record['coverage']:.2f}", refresh=False)
            finished = state.step == config.optim.steps
            if config.run.validate_every and state.step % config.run.validate_every == 0 and not finished:
                self._validate()
            if config.run.save_every and state.step % config.run.save_every == 0 and not finished:
                self._save()
            if self._asked_to_stop():
                self._save()
                raise Interrupted(f"stopped at step {state.step}{self.stop.reason}; continue with --resume")

    def batches(self, end: int) -> Iterator[dict[str, Tensor]]:
        """This process's micro-batches from the present step up to (not including) step `end`, from the present bank."""
        config, accelerator, state = self.config, self.accelerator, self.state
        optim = config.optim
        crops = CropDataset(self.store, config.augment, optim.seed, bank=self.pseudo_labels.lookup(),
                            weak=config.method.asks_teacher_each_step)
        draws = ShardedDraws(optim.seed, len(crops), optim.batch_size, end, state.step, accelerator.process_index,
                             accelerator.num_processes, optim.gradient_accumulation)
        return iter(crop_loader(crops, draws, config.run.num_workers, accelerator.device.type == "cuda"))

    def step(self, batches: Iterator[dict[str, Tensor]]) -> dict[str, Any]:
        """One optimiser step: predict, fuse, loss, backward; then the teacher follows."""
        config, accelerator, state = self.config, self.accelerator, self.state
        values = step_values(config, state.step)
        thresholds = self.pseudo_labels.thresholds(values.progress)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * values.learning_rate_factor
        # Dropout's draws depend on (seed, step, process) alone, so a resumed run makes the same ones.
        torch.manual_seed(int(np.random.SeedSequence([config.optim.seed, state.step, accelerator.process_index])
                              .generate_state(1)[0]))
        self.wrapped.train()
        sums: dict[str, Tensor] = {}
        for _ in range(config.optim.gradient_accumulation):
            batch = {k: v.to(accelerator.device, non_blocking=True) for k, v in next(batches).items()}
            with accelerator.accumulate(self.wrapped):
                with accelerator.autocast():
                    logits = full_size_logits(self.wrapped, self.preprocessing(batch["strong"]))
                target = make_targets(batch["sparse"], self._teacher_probabilities(batch, values), thresholds,
                                      fusion=config.method.fusion, annotated=batch["annotated"])
                loss, parts = step_loss(logits, target, values, config.method, self._total, self.class_weights)
                # Gradients are averaged over processes; the loss is a share of the whole batch's, so scale it up.
                accelerator.backward(loss * accelerator.num_processes)
                if accelerator.sync_gradients and config.optim.max_grad_norm:
                    accelerator.clip_grad_norm_(self.wrapped.parameters(), config.optim.max_grad_norm)
                self.prepared_optimizer.step()
                self.prepared_optimizer.zero_grad()
            seen = {"loss": loss.detach(), **parts, **_coverage(target.pseudo, batch)}
            sums = {k: sums.get(k, 0) + v for k, v in seen.items()}
        update_teacher(self.teacher, state.student, values.ema_decay)
        if self._panel_due(values):
            self._save_panel(batch, target.fused, logits)
        state.step += 1
        return self._record(sums, values, thresholds)

    def _teacher_probabilities(self, batch: dict[str, Tensor], values: StepValues) -> Tensor | None:
        """float [B, C, H, W]: from the bank, or from the teacher on the weak view."""
        if not values.refining:
            return None
        if "bank" in batch:
            return dequantise(batch["bank"])
        with self.accelerator.autocast():
            return class_probabilities(self.teacher, self.preprocessing(batch["weak"]))

    def _total(self, count: Tensor) -> Tensor:
        return count if self.accelerator.num_processes == 1 else self.accelerator.reduce(count.clone())

    def _record(self, sums: dict[str, Tensor], values: StepValues, thresholds: Sequence[float]) -> dict[str, Any]:
        """Write down what the step used and gave; every process returns the same record."""
        names = list(sums)
        totals = self._total(torch.stack([sums[n].float() for n in names])).tolist()
        seen = dict(zip(names, totals, strict=True))
        pixels, confident, known, right = (seen.pop(k) for k in ("pixels", "confident", "known", "right"))
        means = {k: v / self.config.optim.gradient_accumulation for k, v in seen.items()}
        if not math.isfinite(means["loss"]):
            raise HfGlandError(f"the loss of step {self.state.step} is {means['loss']}: training has diverged. Start again "
                             f"with a learning_rate below {self.config.optim.learning_rate:g}")
        record = {"step": self.state.step, **means, "thresholds": thresholds, "ema_decay": values.ema_decay,
                  "pseudo_weight": values.pseudo_weight, "unlabelled_weight": values.unlabelled_weight,
                  "class_weighting": values.class_weighting,
                  "learning_rate": self.config.optim.learning_rate * values.learning_rate_factor,
                  "coverage": confident / pixels, "pseudo_accuracy": right / known if known else None}
        self.state.latest.update(record)
        if self.accelerator.is_main_process:
            append_metrics(self.metrics_path, record)
        scalars = {k: v for k, v in record.items() if isinstance(v, float)}
        scalars.update({f"threshold_{name}": t for name, t in zip(self.class_names, thresholds, strict=True)})
        self.accelerator.log(scalars, step=self.state.step)
        return record

    def refresh(self) -> None:
        """Make the pseudo-labels anew from the teacher as it is now."""
        predict = image_predictor(self.teacher, self.preprocessing, self.accelerator, self.config.method.refresh.tile_px)
        self.pseudo_labels.refresh(self.state.step, lambda index: predict(self.store.images[index]), self.accelerator)

    def _adopt_bank(self, checkpointed: Path) -> None:
        """Take the bank out of the checkpoint, which is dropped in time, into the run."""
        expected = self.pseudo_labels.num_bytes
        if checkpointed.stat().st_size != expected:
            raise CheckpointError(f"{checkpointed}: is not the bank of this dataset ({checkpointed.stat().st_size} bytes "
                                  f"instead of {expected}); is {self.config.data.dataset} as it was?")
        path = self.run / "bank" / "resumed.u8"
        if self.accelerator.is_main_process:
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            link_or_copy(checkpointed, path)
        self.accelerator.wait_for_everyone()
        self.pseudo_labels.path = path
        self.pseudo_labels.histograms = np.array(self.state.histograms)

    def _validate(self) -> None:
        if self.validation is None:
            return
        scores = validate(self.validation, self.teacher, self.preprocessing, self.num_classes, self.accelerator, self.mpp,
                          self.config.data.missing_mpp or None)
        record = {"step": self.state.step, **{f"validation_{k}": v for k, v in scores.items()}}
        self.state.latest.update(record, validation_step=self.state.step)
        if self.accelerator.is_main_process:
            append_metrics(self.metrics_path, record)
        self.accelerator.log({k: v for k, v in record.items() if isinstance(v, float)}, step=self.state.step)

    def _save(self) -> None:
        self.state.seconds = time.perf_counter() - self.started
        taught = self.pseudo_labels
        self.state.bank = taught.path
        self.state.histograms = None if taught.histograms is None else taught.histograms.tolist()
        if self.accelerator.is_main_process:
            checkpoint = save_checkpoint(self.run, self.state, self.config)
            if self.on_checkpoint is not None:
                self.on_checkpoint(checkpoint)
        self.accelerator.wait_for_everyone()

    def _finish(self) -> Path:
        """Validate, save the last checkpoint and the model folder."""
        seconds = time.perf_counter() - self.started
        if self.state.latest.get("validation_step") != self.state.step:  # else resumed after the last validation
            self._validate()
        self._save()
        folder = self.run / "model"
        if self.accelerator.is_main_process:
            save_model_folder(folder, self.teacher, self.state.student, self.preprocessing)
            shutil.copy(self.run / SAVED_CONFIG, folder / SAVED_CONFIG)
            shutil.copy(self.metrics_path, folder / "training_log.jsonl")
            (folder / "training_metrics.json").write_text(
                json.dumps({**self.state.latest, "train_seconds": round(seconds, 1), **self.note}, indent=2) + "\n")
            shutil.rmtree(self.run / "store")
            shutil.rmtree(self.run / "bank", ignore_errors=True)
        if self.config.run.tracker != "none":
            self.accelerator.end_training()
        self.accelerator.wait_for_everyone()
        return folder

    def _build_store(self, data: TrainingData) -> TrainingStore:
        """Decode the training split into RUN/store, once for all processes of a machine; check the validation split."""
        config, folder = self.config, self.run / "store" / "train"

        def decode() -> None:
            check_rows(data.validation or (), self.num_classes, data.mpp, config.data.missing_mpp or None)
            build_store(data.train, folder, self.num_classes, data.mpp, config.data.missing_mpp or None,
                        truth_as_labels=config.method.learns_from_truth, unlabelled=data.target or ())

        on_main_process(self.accelerator, decode)
        return TrainingStore(folder)

    def _asked_to_stop(self) -> bool:
        """Whether any of the processes is to stop."""
        return bool(self._total(torch.tensor(float(self.stop.due), device=self.accelerator.device)).item())

    def _panel_due(self, values: StepValues) -> bool:
        every = self.config.run.panels_every
        if not self.accelerator.is_main_process:
            return False
        if every:
            return self.state.step % every == 0
        return self.state.step in (0, self.config.optim.steps - 1) or (
            values.refining and self.pseudo_labels.path is not None
            and self.pseudo_labels.path.stem == f"step-{self.state.step:06d}")

    def _save_panel(self, batch: dict[str, Tensor], fused: Tensor, logits: Tensor) -> None:
        picture = panel(batch["strong"].movedim(1, -1).cpu().numpy(),
                        [batch["sparse"].cpu().numpy(), fused.cpu().numpy(), logits.argmax(dim=1).cpu().numpy()])
        save_panel(self.accelerator, picture, self.run / "panels" / f"step-{self.state.step:06d}.png", self.state.step)


def _coverage(pseudo: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Pixel counts: all, with a pseudo-label, of those with dense truth, and of those right (for the record only)."""
    dense = batch["truth"].long()
    confident, known = pseudo != IGNORE_INDEX, dense != IGNORE_INDEX
    return {"pixels": torch.tensor(float(pseudo.numel()), device=pseudo.device), "confident": confident.sum(),
            "known": (confident & known).sum(), "right": (confident & known & (pseudo == dense)).sum()}


def first_backbone(backbone: str) -> str:
    """The encoder that `backbone` goes back to: itself, or, where it is a model trained here, what that started from."""
    folder = Path(backbone)
    return first_backbone(read_saved_config(folder).model.backbone) if (folder / SAVED_CONFIG).is_file() else backbone
