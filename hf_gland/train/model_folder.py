"""What a finished run hands on: a plain transformers repository, with how it was trained beside it."""

import json
import shutil
from pathlib import Path

from hf_gland.config.files import SAVED_CONFIG
from hf_gland.model.student import save_model_folder
from hf_gland.train.run import TrainingRun


def write_model(run: TrainingRun, folder: Path, seconds: float) -> None:
    """The model folder of a run that has taken all its steps in `seconds`; what only the run needed is removed."""
    save_model_folder(folder, run.state.teacher, run.state.student, run.preprocessing)
    (folder / SAVED_CONFIG).write_text(run.config.to_json())
    shutil.copy(run.log, folder / "training_log.jsonl")
    notes = {**run.state.latest, "train_seconds": round(seconds, 1), **run.note}
    (folder / "training_metrics.json").write_text(json.dumps(notes, indent=2) + "\n")
    for name in ("store", "bank"):
        shutil.rmtree(run.folder / name, ignore_errors=True)
