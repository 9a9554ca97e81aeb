"""What every run tells of itself while it goes on: records, trackers, pictures, a progress bar."""

from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_gland.config.files import SAVED_CONFIG
from hf_gland.train.run import Callback, Step, TrainingRun
from hf_gland.train.tracking import append_metrics, cut_metrics, panel, save_panel


class Log(Callback):
    """The settings; and every step and every validation as a line of RUN/metrics.jsonl."""

    def on_start(self, run: TrainingRun) -> None:
        (run.folder / SAVED_CONFIG).write_text(run.config.to_json())
        cut_metrics(run.log, run.state.step)

    def on_step(self, run: TrainingRun, step: Step) -> None:
        append_metrics(run.log, step.record)

    def on_validation(self, run: TrainingRun, record: dict[str, Any]) -> None:
        append_metrics(run.log, record)


class Trackers(Callback):
    """The same for the tracker of the settings, under RUN/tracking."""

    def on_start(self, run: TrainingRun) -> None:
        if run.config.run.tracker != "none":
            run.accelerator.init_trackers("hf_gland", config=run.config.by_short_name())

    def on_step(self, run: TrainingRun, step: Step) -> None:
        thresholds = zip(run.data.class_names, step.record["thresholds"], strict=True)
        self._log(run, {**step.record, **{f"threshold_{name}": value for name, value in thresholds}})

    def on_validation(self, run: TrainingRun, record: dict[str, Any]) -> None:
        self._log(run, record)

    def on_exit(self, run: TrainingRun) -> None:
        for tracker in run.accelerator.trackers:
            tracker.finish()

    def _log(self, run: TrainingRun, record: dict[str, Any]) -> None:
        run.accelerator.log({k: v for k, v in record.items() if isinstance(v, float)}, step=record["step"])


class Panels(Callback):
    """Pictures of a batch, in RUN/panels: one row per crop, the image, its labels, what was taught, the prediction."""

    def on_step(self, run: TrainingRun, step: Step) -> None:
        taken, every, name = run.state.step - 1, run.config.run.panels_every, f"step-{run.state.step - 1:06d}"
        bank = run.pseudo_labels.path
        fresh = bank is not None and bank.stem == name  # its first step with these pseudo-labels
        if taken % every if every else not fresh and taken not in (0, run.config.optim.steps - 1):
            return
        labels = (step.batch["sparse"], step.taught, step.logits.argmax(dim=1))
        picture = panel(step.batch["strong"].movedim(1, -1).cpu().numpy(), [maps.cpu().numpy() for maps in labels])
        save_panel(run.accelerator, picture, run.folder / "panels" / f"{name}.png", taken)


class ProgressBar(Callback):
    """Steps taken, with loss, threshold τ, teacher decay α and share of the crops' pixels with a pseudo-label."""

    def __init__(self) -> None:
        self.bar = tqdm(disable=True)

    def on_start(self, run: TrainingRun) -> None:
        self.bar = tqdm(total=run.config.optim.steps, initial=run.state.step, desc="training", unit="step")

    def on_step(self, run: TrainingRun, step: Step) -> None:
        record = step.record
        self.bar.update()
        self.bar.set_postfix_str(f"loss {record['loss']:.3f} τ {min(record['thresholds']):.2f} "
                                 f"α {record['ema_decay']:.4f} coverage {record['coverage']:.2f}", refresh=False)

    def on_stop(self, run: TrainingRun) -> None:
        self.bar.close()

    def on_end(self, run: TrainingRun, model: Path) -> None:
        self.bar.close()

    def on_exit(self, run: TrainingRun) -> None:
        self.bar.close()
