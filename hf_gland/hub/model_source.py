"""What a model repository is made of: the folder that training wrote, its notes, and the records measured on it."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_gland.evaluation.records import ResultError, ResultRecord, read_result
from hf_gland.evaluation.split import training_notes
from hf_gland.hub.errors import HubError
from hf_gland.hub.metadata import is_repo_id
from hf_gland.model.backbones import RANDOM_PREFIX
from hf_gland.model.identity import TEMPERATURE_KEY
from hf_gland.model.loading import load_config

MODEL_FILES = ("config.json", "model.safetensors", "preprocessor_config.json", "training_config.json",
               "training_metrics.json", "training_log.jsonl")
STUDENT_FILES = ("config.json", "model.safetensors", "preprocessor_config.json")
RECORD_EXTRAS = ("weights", "steps", "mpp", "train_images", "annotated_glands", "total_glands", "labelled_fraction",
                 "annotation_seed")
RECORD_PATTERN = "*_seed*.json"


@dataclass(frozen=True)
class ModelSource:
    """A trained model: `settings` of its training, `notes` training left, `records` measured on it (at least one)."""

    folder: Path
    settings: dict[str, Any]
    notes: dict[str, Any]
    records: tuple[ResultRecord, ...]

    @property
    def files(self) -> dict[str, Path]:
        """Path in the repository: local file."""
        names = [*MODEL_FILES, *(f"student/{name}" for name in STUDENT_FILES)]
        return {name: self.folder / name for name in names}

    @property
    def trainings(self) -> list[dict[str, Any]]:
        """The trainings before this one, the first one first; see `train.setup.earlier_trainings`."""
        return self.notes.get("continued_from", [])

    def data_used(self, key: str) -> list[str]:
        """The `key` (source, licence) of all data that went into the weights, each once; the last training's first."""
        used = [self.notes["data"], *(training["data"] for training in reversed(self.trainings))]
        used += [data["adapted_to"] for data in used if "adapted_to" in data]
        return list(dict.fromkeys(data.get(key) or "unknown" for data in used))

    def base_model(self, given: str = "") -> str:
        """Hub id of the network the weights started from, "" for random numbers. Raises HubError."""
        backbone = str(self.notes.get("backbone", self.settings["backbone"]))  # what the first of its trainings began with
        if backbone.startswith(RANDOM_PREFIX):
            return ""
        base = given or backbone
        if Path(base).exists() or not is_repo_id(base) or "/" not in base:
            raise HubError(f"{self.folder}: was trained from the folder {backbone}; say which Hub model that is with "
                           "--base-model, such as --base-model nvidia/mit-b0")
        return base


def read_model(path: Path, results: Sequence[Path] = (), shared_results: Path | None = None) -> ModelSource:
    """The model in `path` (RUN, or RUN/model) with its result records.

    `results`: files, or folders of files, that must all be of this model; without them, those of this model are looked
    for in the folders beside it and in `shared_results`. Raises HubError naming what is missing and how to make it.
    """
    folder = path / "model" if (path / "model" / "config.json").is_file() else path
    names = [*MODEL_FILES, *(f"student/{name}" for name in STUDENT_FILES)]
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise HubError(f"{path}: not a trained model ({missing[0]} is missing); give a folder that scripts/train.py "
                       "finished (RUN, or RUN/model)")
    settings, notes = training_notes(folder)
    temperatures = {student: getattr(load_config(str(folder), subfolder="student" if student else ""), TEMPERATURE_KEY, None)
                    or 1.0 for student in (False, True)}
    if results:
        files = [f for given in results for f in _records_in(given, must_exist=True)]
        records = [_read(file) for file in files]
        for file, record in zip(files, records, strict=True):
            if differing := _differences(record, temperatures, settings, notes):
                raise HubError(f"{file}: was measured on another model than {folder} ({'; '.join(differing)}); measure this "
                               "one with scripts/evaluate.py")
    else:
        records = _found(folder, shared_results, lambda record: _differences(record, temperatures, settings, notes))
    if twice := sorted(name for name, n in Counter(map(record_file_name, records)).items() if n > 1):
        raise HubError(f"{folder}: two of the results given are of the same measurement ({twice[0]}); name one of them")
    records.sort(key=lambda r: (r.is_of_student, r.elsewhere, len(r.unusual), r.test_split))
    if records[0].is_of_student:
        raise HubError(f"{folder}: its results are those of the student alone, but the repository's model is the teacher; "
                       "run scripts/evaluate.py without --student as well")
    return ModelSource(folder, settings, notes, tuple(records))


def _found(folder: Path, shared_results: Path | None,
           differences: Callable[[ResultRecord], list[str]]) -> list[ResultRecord]:
    """The records of this model, one of each measurement, in the folders beside it and in `shared_results`; HubError where
    there is none. `differences`: between a record's model and this one."""
    beside = [file for where in sorted(folder.parent.iterdir()) if where.is_dir() for file in _records_in(where)]
    read = {file: _read(file) for file in [*beside, *(_records_in(shared_results) if shared_results else [])]}
    records = {record_file_name(record): record for record in read.values() if not differences(record)}
    if records:
        return list(records.values())
    measure = f"python scripts/evaluate.py {folder} DATASET --out"
    if not beside:
        raise HubError(f"{folder}: has no results, and a card without figures is not published. Measure it with `{measure} "
                       f"{folder.parent}/evaluation`, or name its result records with --results")
    others = "; ".join(f"{file}: {', '.join(differences(read[file]))}" for file in beside)
    raise HubError(f"{folder}: has no results of its own: those beside it are of another model, or of this one before "
                   f"calibration ({others}). Measure it again with `{measure} {beside[0].parent} --overwrite`")


def record_file_name(record: ResultRecord) -> str:
    """The record's own file name, and how the measurement was made where that was not in the usual way."""
    return "_".join([record.name.removesuffix(".json"), *record.unusual]) + ".json"


def _records_in(path: Path, must_exist: bool = False) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(path.glob(RECORD_PATTERN))
    if must_exist and not found:
        raise HubError(f"{path}: holds no result record ({RECORD_PATTERN}); scripts/evaluate.py writes them")
    return found


def _read(path: Path) -> ResultRecord:
    try:
        record = read_result(path)
    except (ResultError, OSError) as error:
        raise HubError(f"{error}; measure the model again with scripts/evaluate.py") from error
    if missing := [key for key in RECORD_EXTRAS if key not in record.extra]:
        raise HubError(f"{path}: lacks {', '.join(missing)}, which the card shows; measure the model again with "
                       "scripts/evaluate.py")
    return record


def _differences(record: ResultRecord, temperatures: dict[bool, float], settings: dict[str, Any],
                 notes: dict[str, Any]) -> list[str]:
    """How a record's account of the training, and of the temperature that was fitted since, differs from the model's own.
    `temperatures`: by whether it is the student's."""
    own = {"seed": settings["seed"], "data_sha256": notes["data"]["data_sha256"], "commit": notes["commit"],
           "command": notes["command"], "train_seconds": notes["train_seconds"]}
    own["temperature"] = temperatures[record.is_of_student]
    there = {"temperature": 1.0} | record.as_dict()
    return [f"{key} {there[key]} there, {value} here" for key, value in own.items() if there[key] != value]
