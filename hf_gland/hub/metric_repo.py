"""The metric as a repository that `evaluate.load("owner/name")` reads: the module, what it imports, and a card."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import SpaceCardData

import hf_gland
from hf_gland.evaluation.records import ResultRecord
from hf_gland.hub.cards import CODE_LICENCE, PAPER_BIBTEX, data_bibtex, render_card, results_table
from hf_gland.hub.metadata import check_card
from hf_gland.hub.repository import METRIC_TAG, OWN_TAG
from hf_gland.markdown import escaped
from hf_gland.metrics import gland_segmentation
from hf_gland.metrics.standalone import write_standalone


def stage_metric(out: Path, repo: str, *, templates: Path, records: Sequence[ResultRecord] = ()) -> str:
    """Write the repository `repo` into the empty folder `out`; returns its card, which has been checked.

    `records`: measurements to show as an example of what the metric gives.
    """
    name = repo.split("/")[-1]
    write_standalone(out, name)
    requirements = (out / "requirements.txt").read_text("utf-8").split()
    card_data = SpaceCardData(title=name, sdk="static", app_file="index.html", pinned=False, license="apache-2.0",
                              tags=[OWN_TAG, "evaluate", METRIC_TAG, "segmentation", "histopathology"])
    card = render_card("metric", card_data, {
        "title": name, "repo": repo, "description": gland_segmentation.DESCRIPTION.strip(),
        "inputs": gland_segmentation.INPUTS.strip(), "requirements": ", ".join(requirements),
        "version": hf_gland.__version__, "code_licence": CODE_LICENCE,
        "example_table": results_table(escaped(list(records))) if records else "",
        "data_bibtex": data_bibtex("GlaS"), "paper_bibtex": PAPER_BIBTEX}, templates)
    (out / "README.md").write_text(card, "utf-8")
    check_card(card, "space", out)
    return card
