"""A run in progress: what its steps work with, and what happens between them: refresh, validation, checkpoint."""

import copy
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from hf_gland.config import TrainConfig
from hf_gland.data.loading import CropDataset, ShardedDraws, crop_loader
from hf_gland.data.store import TrainingStore
from hf_gland.data.training_data import TrainingData
from hf_gland.method.pseudo_labels import PseudoLabels
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.segformer_head import keep_channels_last
from hf_gland.options import Tiling
from hf_gland.train.checkpoint import CheckpointError, TrainingState, link_or_copy, load_checkpoint, save_checkpoint
from hf_gland.train.refresh import image_predictor, validate

MODEL = "model"  # in the folder of a run: what it ends with
WORKING = ".working"  # and what goes when it is done: decoded images and pseudo-labels


@dataclass(frozen=True)
class Step:
    """One step: what it used and gave, as it is recorded; and its last micro-batch."""

    record: dict[str, Any]
    batch: dict[str, Tensor]  # see CropDataset
    taught: Tensor  # what the student learned from, int64 [B, H, W]
    logits: Tensor  # the student's, float [B, C, H, W]


class Callback:
    """Is told of a run, on the main process alone, and changes nothing of what is computed. Here it does nothing."""

    def on_start(self, run: "TrainingRun") -> None:
        """All is set up, a checkpoint is taken up; the steps begin. An error here ends the run."""

    def on_step(self, run: "TrainingRun", step: Step) -> None:
        """A step was taken; `run.state.step` counts it."""

    def on_validation(self, run: "TrainingRun", record: dict[str, Any]) -> None:
        """The teacher was measured on the validation split."""

    def on_checkpoint(self, run: "TrainingRun", checkpoint: Path) -> None:
        """A checkpoint is whole; it may be dropped when this returns."""

    def on_stop(self, run: "TrainingRun") -> None:
        """The run was asked to stop and its state is saved."""

    def on_end(self, run: "TrainingRun", model: Path) -> None:
        """The model folder is written."""

    def on_exit(self, run: "TrainingRun") -> None:
        """Whatever happened: let go of what is held."""


@dataclass
class TrainingRun:
    """A run in progress. `student` and `optimizer` are accelerate's wrappings of those in `state`."""

    config: TrainConfig
    folder: Path
    accelerator: Accelerator
    data: TrainingData
    store: TrainingStore
    pseudo_labels: PseudoLabels
    class_weights: Tensor  # float [C], see `losses.class_weights`
    preprocessing: Preprocessing
    student: nn.Module
    optimizer: Optimizer
    state: TrainingState
    loaders: int  # processes that make its crops
    note: Mapping[str, Any]  # how it came about, for the model's training_metrics.json
    callbacks: Sequence[Callback] = ()

    def __post_init__(self) -> None:
        self.started = time.perf_counter() - self.state.seconds
        self.log = self.folder / "metrics.jsonl"

    def tell(self, hook: str, *about: Any) -> None:
        """Call this hook of all callbacks, on the main process."""
        if self.accelerator.is_main_process:
            for callback in self.callbacks:
                getattr(callback, hook)(self, *about)

    def total(self, count: Tensor) -> Tensor:
        """The sum of a number over all processes."""
        return count if self.accelerator.num_processes == 1 else self.accelerator.reduce(count.clone())

    def batches(self, end: int) -> Iterator[dict[str, Tensor]]:
        """The crops that this process trains on until step `end` is reached, one batch per micro-batch, with the
        pseudo-labels of the last refresh."""
        config, state = self.config, self.state
        bank, method = self.pseudo_labels.lookup(), config.method
        labels_alone = bank is None and not method.asks_teacher_each_step and not method.assumes_background
        crops = CropDataset(self.store, config.augment, config.optim.seed, bank=bank, weak=method.asks_teacher_each_step,
                            labelled_only=labels_alone)
        draws = ShardedDraws(config.optim.seed, len(crops), config.optim.batch_size, end, state.step,
                             self.accelerator.process_index, self.accelerator.num_processes,
                             config.optim.gradient_accumulation)
        return iter(crop_loader(crops, draws, self.loaders, self.accelerator.device.type == "cuda"))

    def teacher_for_pictures(self) -> PreTrainedModel:
        """A copy of the teacher as it is now, laid out for pictures one at a time."""
        teacher = copy.deepcopy(self.state.teacher)
        keep_channels_last(teacher)
        return teacher

    def refresh(self) -> None:
        """Make the pseudo-labels anew from the teacher as it is now."""
        wanted = self.config.method.refresh
        predict = image_predictor(self.teacher_for_pictures(), self.preprocessing, self.accelerator,
                                  Tiling(wanted.tile_px, views=wanted.views))
        self.pseudo_labels.refresh(self.state.step, lambda index: predict(self.store.images[index]), self.accelerator)

    def validate(self) -> None:
        """Measure the teacher on the validation split, if there is one."""
        if self.data.validation is None:
            return
        scores = validate(self.data.validation, self.teacher_for_pictures(), self.preprocessing, len(self.data.class_names),
                          self.accelerator, self.data.mpp, self.config.data.missing_mpp or None)
        record = {"step": self.state.step, **{f"validation_{k}": v for k, v in scores.items()}}
        self.state.latest.update(record, validation_step=self.state.step)
        self.tell("on_validation", record)

    def measure_start(self) -> None:
        """Measure the model that the run goes on from, so that its end can say which of the two is better."""
        self.validate()
        latest = self.state.latest
        latest.update({f"start_{key}": latest[key] for key in list(latest) if key.startswith("validation_") and
                       key != "validation_step"})

    @property
    def seconds(self) -> float:
        """Wall-clock time so far, over interruptions."""
        return time.perf_counter() - self.started

    def save(self) -> None:
        """Write a checkpoint."""
        state, taught = self.state, self.pseudo_labels
        state.seconds, state.bank = self.seconds, taught.path
        state.histograms = None if taught.histograms is None else taught.histograms.tolist()
        if self.accelerator.is_main_process:
            self.tell("on_checkpoint", save_checkpoint(self.folder, state, self.config))
        self.accelerator.wait_for_everyone()

    def take_up(self, checkpoint: Path) -> None:
        """Go on from a checkpoint. Its bank is linked into the run, as the checkpoint is dropped in time."""
        warning = load_checkpoint(checkpoint, self.state, self.config)
        if warning and self.accelerator.is_main_process:
            print(f"warning: {warning}", file=sys.stderr)
        self.started = time.perf_counter() - self.state.seconds
        if self.state.bank is None:
            return
        size, expected = self.state.bank.stat().st_size, self.pseudo_labels.num_bytes
        if size != expected:
            raise CheckpointError(f"{self.state.bank}: is not the bank of this dataset ({size} bytes instead of "
                                  f"{expected}); is {self.config.data.dataset} as it was?")
        path = self.pseudo_labels.folder / "resumed.u8"
        if self.accelerator.is_main_process:
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            link_or_copy(self.state.bank, path)
        self.accelerator.wait_for_everyone()
        self.pseudo_labels.path, self.pseudo_labels.histograms = path, np.array(self.state.histograms)
