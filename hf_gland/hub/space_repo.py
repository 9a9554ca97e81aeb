"""The web demo as a Space: the app, the package it needs, pinned requirements, and a card with the Space's settings."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import SpaceCardData

import hf_gland
from hf_gland.hub.cards import render_card, results_table
from hf_gland.hub.citations import PAPER_BIBTEX
from hf_gland.hub.errors import HubError
from hf_gland.hub.metadata import check_card
from hf_gland.hub.repository import OWN_TAG
from hf_gland.hub.staging import place
from hf_gland.metrics.results import ResultRecord

PACKAGE_SUFFIXES = {".py", ".toml", ".txt", ".typed"}
NOT_PUBLISHED = {"__pycache__", ".DS_Store", ".gradio"}
SHORT_DESCRIPTION = "Outline glands in H&E images; GeoJSON for QuPath"


def stage_space(app: Path, out: Path, repo: str, *, templates: Path, constraints: Path, model_repo: str = "",
                records: Sequence[ResultRecord] = ()) -> str:
    """Write the Space `repo` into the empty folder `out`; returns its card, which has been checked.

    `app`: the folder with app.py and requirements.txt; requirements without a version are pinned to that of the
    `constraints` file. `records`: the model's evaluation, for the card. Raises HubError.
    """
    for name in ("app.py", "requirements.txt"):
        if not (app / name).is_file():
            raise HubError(f"{app}: not a web demo ({name} is missing); give the folder space_app of the release")
    for file in sorted(app.rglob("*")):
        if file.is_file() and not NOT_PUBLISHED & set(file.relative_to(app).parts):
            place(file, out / file.relative_to(app))
    package = Path(hf_gland.__file__).parent
    for file in sorted(package.rglob("*")):
        if file.is_file() and file.suffix in PACKAGE_SUFFIXES:
            place(file, out / "hf_gland" / file.relative_to(package))
    pinned = pin_requirements((app / "requirements.txt").read_text("utf-8"), constraints.read_text("utf-8"))
    (out / "requirements.txt").unlink()
    (out / "requirements.txt").write_text(pinned, "utf-8")
    gradio = re.search(r"^gradio(?:\[[^\]]*\])?==(\S+)$", pinned, re.MULTILINE)
    if gradio is None:
        raise HubError(f"{app / 'requirements.txt'}: does not name gradio, whose version a Space must state")
    title = repo.split("/")[-1]
    card_data = SpaceCardData(
        title=title, emoji="🔬", colorFrom="green", colorTo="pink", sdk="gradio", sdk_version=gradio[1], app_file="app.py",
        python_version="3.11", pinned=False, license="apache-2.0", short_description=SHORT_DESCRIPTION,
        models=[model_repo] if model_repo else None, tags=[OWN_TAG, "histopathology", "image-segmentation"])
    card = render_card("space", card_data, {
        "title": title, "model": model_repo, "model_url": f"https://huggingface.co/{model_repo}",
        "results_table": results_table(records) if records else "", "paper_bibtex": PAPER_BIBTEX}, templates)
    (out / "README.md").unlink(missing_ok=True)
    (out / "README.md").write_text(card, "utf-8")
    check_card(card, "space", out)
    return card


def pin_requirements(requirements: str, constraints: str) -> str:
    """Requirements with a version each, from the constraints where a line states none. Raises HubError."""
    versions = {name.lower().replace("_", "-"): version for name, version in
                re.findall(r"^([\w.-]+)==(\S+)", constraints, re.MULTILINE)}
    lines = []
    for line in requirements.splitlines():
        text = line.split("#")[0].strip()
        if not text or text.startswith("-") or "==" in text or "@" in text:
            lines.append(line)
            continue
        name = re.split(r"[\s\[<>=!~;]", text, maxsplit=1)[0]
        key = name.lower().replace("_", "-")
        if key not in versions:
            raise HubError(f"requirements.txt: {name} has no version, and the constraints name none; write {name}==VERSION")
        extras = re.search(r"\[[^\]]*\]", text)
        lines.append(f"{name}{extras[0] if extras else ''}=={versions[key]}")
    return "\n".join(lines) + "\n"
