"""The web demo as a Space: the app, the package it needs, pinned requirements, and a card with the Space's settings."""

import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import SpaceCard

import hf_gland
from hf_gland.evaluation.records import ResultRecord
from hf_gland.hub.cards import PAPER_BIBTEX, render_card, results_table
from hf_gland.hub.errors import HubError
from hf_gland.hub.metadata import check_card
from hf_gland.hub.repository import OWN_TAG
from hf_gland.hub.staging import place
from hf_gland.markdown import escaped

PACKAGE_SUFFIXES = {".py", ".toml", ".txt", ".typed"}
NOT_PUBLISHED = {"__pycache__", ".DS_Store", ".gradio"}


def stage_space(app: Path, out: Path, repo: str, *, templates: Path, model_repo: str = "",
                records: Sequence[ResultRecord] = ()) -> str:
    """Write the Space `repo` into the empty folder `out`; returns its card, which has been checked.

    `app`: the folder with app.py, requirements.txt and a README.md with the Space's settings; `model_repo`: the model that
    it is to show, which it finds in the card's metadata; `records`: that model's evaluation, for the card. Raises HubError.
    """
    for name in ("app.py", "requirements.txt", "README.md"):
        if not (app / name).is_file():
            raise HubError(f"{app}: not a web demo ({name} is missing); give the folder space_app of the release")
    for file in sorted(app.rglob("*")):
        if file.is_file() and not NOT_PUBLISHED & set(file.relative_to(app).parts):
            place(file, out / file.relative_to(app))
    package = Path(hf_gland.__file__).parent
    for file in sorted(package.rglob("*")):
        if file.is_file() and file.suffix in PACKAGE_SUFFIXES and "shipped" not in file.relative_to(package).parts:
            place(file, out / "hf_gland" / file.relative_to(package))
    gradio = check_pinned((app / "requirements.txt").read_text("utf-8"))
    title = repo.split("/")[-1]
    card_data = SpaceCard.load(app / "README.md").data
    card_data.title, card_data.sdk_version, card_data.tags = title, gradio, [OWN_TAG, *card_data.tags]
    card_data.models = [model_repo] if model_repo else None
    card = render_card("space", card_data, {
        "title": title, "model": model_repo, "model_url": f"https://huggingface.co/{model_repo}",
        "results_table": results_table(escaped(list(records))) if records else "", "paper_bibtex": PAPER_BIBTEX}, templates)
    (out / "README.md").unlink(missing_ok=True)
    (out / "README.md").write_text(card, "utf-8")
    check_card(card, "space", out)
    return card


def check_pinned(requirements: str) -> str:
    """The version of gradio in a requirements file whose every line states one version. Raises HubError."""
    lines = [line.split("#")[0].strip() for line in requirements.splitlines()]
    if loose := [line for line in lines if line and not line.startswith("-") and "==" not in line]:
        raise HubError(f"requirements.txt: {loose[0]} states no version, so that the Space would change by itself; write "
                       f"{re.split('[<>~!; ]', loose[0])[0]}==VERSION")
    gradio = re.search(r"^gradio(?:\[[^\]]*\])?==(\S+)", requirements, re.MULTILINE)
    if gradio is None:
        raise HubError("requirements.txt: does not name gradio, whose version a Space must state")
    return gradio[1]
