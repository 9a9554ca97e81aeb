"""What a finished run hands on: a plain transformers repository, with how it was trained beside it."""

import json
import shutil
from pathlib import Path

import numpy as np

from hf_gland.config.files import SAVED_CONFIG
from hf_gland.imaging.appearance import learn_appearance
from hf_gland.model.identity import APPEARANCE_KEY
from hf_gland.model.student import save_model_folder
from hf_gland.train.run import WORKING, TrainingRun


def write_model(run: TrainingRun, folder: Path, seconds: float) -> None:
    """The model folder of a run that has taken all its steps in `seconds`; what only the run needed is removed."""
    images = run.store.images
    appearance = learn_appearance([np.moveaxis(images[index], 0, -1) for index in range(len(run.store))])
    for network in (run.state.teacher, run.state.student):  # not that of the model that the run went on from
        setattr(network.config, APPEARANCE_KEY, None if appearance is None else appearance.to_json())
    save_model_folder(folder, run.state.teacher, run.state.student, run.preprocessing)
    (folder / SAVED_CONFIG).write_text(run.config.to_json())
    shutil.copy(run.log, folder / "training_log.jsonl")
    notes = {**run.state.latest, "train_seconds": round(seconds, 1), **run.note}
    (folder / "training_metrics.json").write_text(json.dumps(notes, indent=2) + "\n")
    shutil.rmtree(run.folder / WORKING, ignore_errors=True)
