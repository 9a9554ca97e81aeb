"""Measured figures and the model's licence, read from result records and the model's card; none is written here."""

from pathlib import Path

import yaml
from huggingface_hub import ModelCard, ModelCardData, snapshot_download

from gland_space.model_source import ModelSource
from hf_gland.evaluation.records import ResultError, read_results
from hf_gland.evaluation.result_table import markdown_table
from hf_gland.metrics.keys import COMPARED

OWN = ("dataset", "test_split")
ALL = ("dataset", "test_split", "variant", "recipe", "backbone", "style", "background", "budget")


def model_figures(source: ModelSource) -> str:
    """A Markdown table of this model's own figures, or an empty text.

    They are those of the records in its folder or repository (`results/`), else of its card's front matter
    (`model-index`), else, for a model that was trained here, of the records that evaluation left beside its run.
    """
    folder = _own_files(source)
    if folder is None:
        return ""
    beside = folder.parent.parent / "evaluation" if source.is_folder and folder.name == "model" else None
    return (results_table(folder / "results", OWN) or _card_figures(folder / "README.md")
            or (results_table(beside, OWN) if beside is not None else ""))


def results_table(folder: Path, group_by: tuple[str, ...] = ALL) -> str:
    """The result records of a folder as a Markdown table; empty where there are none that can be shown as one.

    What all records have in common is said once, above the table.
    """
    try:
        records = read_results(folder) if folder.is_dir() else []
        if not records:
            return ""
        values = {field: {getattr(record, field) for record in records} for field in group_by}
        varying = tuple(field for field in group_by if field == "test_split" or len(values[field]) > 1)
        same = ", ".join(f"{field.replace('_', ' ')} {next(iter(values[field]))}" for field in group_by
                         if field not in varying)
        return (f"All rows: {same}.\n\n" if same else "") + markdown_table(records, COMPARED, varying)
    except ResultError:
        return ""


def model_licence(source: ModelSource) -> str:
    """The licence that the model's card names, or an empty text."""
    folder = _own_files(source)
    card = None if folder is None else _card(folder / "README.md")
    if card is None or not card.license:
        return ""
    return str(card.get("license_name") or card.license) if card.license == "other" else str(card.license)


def _own_files(source: ModelSource) -> Path | None:
    """The folder that holds the model's card and records, downloaded if need be."""
    if source.is_folder:
        return Path(source.location).resolve()
    try:
        return Path(snapshot_download(source.location, revision=source.revision,
                                      allow_patterns=["README.md", "results/*.json"]))
    except (OSError, ValueError):
        return None


def _card(file: Path) -> ModelCardData | None:
    try:
        data = ModelCard.load(file).data if file.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return None
    return data if isinstance(data, ModelCardData) else None


def _card_figures(file: Path) -> str:
    card = _card(file)
    results = [] if card is None else card.eval_results or []
    lines = [f"| {r.dataset_name} | {r.dataset_split or ''} | {r.metric_name or r.metric_type} | {_shown(r.metric_value)} |"
             for r in results]
    return "\n".join(["| dataset | split | figure | value |", "| --- | --- | --- | ---: |", *lines]) if lines else ""


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value)
