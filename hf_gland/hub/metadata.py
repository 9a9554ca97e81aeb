"""A card's metadata checked without the Hub, before anything is sent."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import RepoCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id

from hf_gland.data.card import HUB_LICENCES
from hf_gland.hub.errors import HubError
from hf_gland.hub.repository import OWN_TAG, RepoType

TASK = "image-segmentation"
SPACE_COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
LICENCE_NAME = re.compile(r"[a-z0-9.\-]+")


def check_card(text: str, repo_type: RepoType, folder: Path) -> dict[str, Any]:
    """The metadata of the card that is to stand in `folder`; HubError with every fault found.

    `folder` holds the other files of the repository, as data files and pictures that a card names must be there.
    """
    try:
        data = RepoCard(text).data.to_dict()
    except ValueError as error:
        raise HubError(f"README.md: the metadata is not readable ({error})") from error
    faults = _common_faults(data)
    checks: dict[RepoType, Callable[[Mapping[str, Any], Path], list[str]]] = {
        "model": _model_faults, "dataset": _dataset_faults, "space": _space_faults}
    faults += checks[repo_type](data, folder)
    body = text.split("\n---", 1)[-1]
    faults += [f"the picture {path} is not in the repository" for path in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", body)
               if "://" not in path and not (folder / path).is_file()]
    faults += [f"a placeholder is left: {mark}" for mark in re.findall(r"\{\{.*?\}\}|\[More Information Needed\]", body)]
    if faults:
        raise HubError(f"README.md: the Hub would refuse or misread this card: {'; '.join(faults)}")
    return data


def _common_faults(data: Mapping[str, Any]) -> list[str]:
    faults = []
    licence = data.get("license")
    if licence not in HUB_LICENCES:
        faults.append(f"license {licence!r} is not one that the Hub knows")
    if licence == "other" and not (data.get("license_name") and data.get("license_link")):
        faults.append("license 'other' needs license_name and license_link")
    if "license_name" in data and not LICENCE_NAME.fullmatch(str(data["license_name"])):
        faults.append(f"license_name {data['license_name']!r} may hold only a-z, 0-9, '-' and '.'")
    tags = data.get("tags")
    if not _words(tags) or OWN_TAG not in tags:  # type: ignore[operator]
        faults.append(f"tags must be a list of words with '{OWN_TAG}' among them")
    return faults


def _model_faults(data: Mapping[str, Any], folder: Path) -> list[str]:
    faults = []
    if data.get("pipeline_tag") != TASK:
        faults.append(f"pipeline_tag must be {TASK}")
    if data.get("library_name") != "transformers":
        faults.append("library_name must be transformers, whose folder this is")
    for key in ("datasets", "base_model"):
        values = data.get(key, [])
        faults += [f"{key}: {value!r} is not the name of a Hub repository"
                   for value in ([values] if isinstance(values, str) else values) if not is_repo_id(value)]
    if not _words(data.get("metrics")):
        faults.append("metrics must be a list of words")
    try:
        name, results = model_index_to_eval_results(data["model-index"])
    except (KeyError, TypeError, ValueError) as error:
        return [*faults, f"model-index is missing or malformed ({error})"]
    if not results:
        faults.append(f"model-index of {name} holds no result")
    faults += [f"model-index: {r.metric_name} is {r.metric_value!r}, not a number" for r in results
               if isinstance(r.metric_value, bool) or not isinstance(r.metric_value, int | float)]
    faults += [f"model-index: task {r.task_type!r} must be {TASK}" for r in results if r.task_type != TASK]
    faults += [f"{name} is missing" for name in ("config.json", "model.safetensors", "preprocessor_config.json")
               if not (folder / name).is_file()]
    return faults


def _dataset_faults(data: Mapping[str, Any], folder: Path) -> list[str]:
    faults = []
    if data.get("task_categories") != [TASK]:
        faults.append(f"task_categories must be [{TASK}]")
    configs = data.get("configs") or []
    if not configs:
        faults.append("configs names no data files")
    infos = data.get("dataset_info") or []
    described = {info.get("config_name", "default") for info in ([infos] if isinstance(infos, dict) else infos)}
    for config in configs:
        name = config.get("config_name")
        if name not in described:
            faults.append(f"dataset_info does not describe the configuration {name}")
        faults += [f"configuration {name}: no file matches {entry['path']}" for entry in config.get("data_files", [])
                   if not any(folder.glob(entry["path"]))]
    if len(configs) > 1 and sum(bool(config.get("default")) for config in configs) != 1:
        faults.append("one configuration, and only one, must be the default")
    return faults


def _space_faults(data: Mapping[str, Any], folder: Path) -> list[str]:
    faults = [f"{key} is missing" for key in ("title", "sdk", "app_file") if not data.get(key)]
    if data.get("sdk") not in ("gradio", "static"):
        faults.append(f"sdk {data.get('sdk')!r} must be gradio or static")
    if data.get("sdk") == "gradio" and not re.fullmatch(r"\d+\.\d+\.\d+", str(data.get("sdk_version", ""))):
        faults.append("sdk_version must be a version of gradio in full")
    if data.get("app_file") and not (folder / str(data["app_file"])).is_file():
        faults.append(f"app_file {data['app_file']} is not in the repository")
    faults += [f"{key} {data[key]!r} must be one of {', '.join(sorted(SPACE_COLOURS))}" for key in ("colorFrom", "colorTo")
               if key in data and data[key] not in SPACE_COLOURS]
    if len(str(data.get("short_description", ""))) > 60:
        faults.append("short_description must not be longer than 60 characters")
    faults += [f"models: {value!r} is not the name of a Hub repository" for value in data.get("models", [])
               if not is_repo_id(value)]
    return faults


def is_repo_id(value: Any) -> bool:
    """Whether `value` could name a repository on the Hub (`owner/name`; old models have no owner)."""
    try:
        validate_repo_id(value)
    except (HFValidationError, TypeError):
        return False
    return True


def _words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, str) and v.strip() for v in value)
