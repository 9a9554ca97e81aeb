"""Cards from the templates in `hub_cards/`: the templates hold words, every figure comes in as a value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import jinja2.meta
from huggingface_hub import CardData, DatasetCard, ModelCard, RepoCard, SpaceCard

from hf_gland.data.sources import source_of
from hf_gland.evaluation.records import UNUSUAL, ResultRecord
from hf_gland.hub.errors import HubError
from hf_gland.markdown import table
from hf_gland.metrics.keys import MEASURED, heading, with_interval

CODE_LICENCE = "Apache-2.0"
INTERVALS = "95 %"  # what the *_ci95 of a result record are
CARDS: dict[str, type[RepoCard]] = {"model": ModelCard, "dataset": DatasetCard, "metric": SpaceCard, "space": SpaceCard}
PAPER_BIBTEX = """\
@article{khan2026gland,
  title={Weakly Supervised Teacher-Student Framework with Progressive Pseudo-mask Refinement for Gland Segmentation},
  author={Khan and Chen and Niazi},
  journal={arXiv preprint arXiv:2603.08605}, year={2026}, url={https://arxiv.org/abs/2603.08605}
}"""


@dataclass(frozen=True)
class Links:
    """Hub repositories that a model's card points to ("" for none): what the weights started from, the data, the metric."""

    base_model: str = ""
    dataset_repo: str = ""
    metric_repo: str = ""


def render_card(kind: str, card_data: CardData, values: Mapping[str, str], templates: Path) -> str:
    """The text of a card of `kind` (model, dataset, metric, space), its metadata from `card_data`.

    Raises HubError where the template is missing, or asks for a value that is not in `values`.
    """
    path = templates / f"{kind}.md.jinja"
    try:
        wanted = jinja2.meta.find_undeclared_variables(jinja2.Environment().parse(path.read_text("utf-8")))
    except (OSError, jinja2.TemplateError) as error:
        raise HubError(f"{path}: not a readable template ({error}); restore it from the release") from error
    if unknown := sorted(wanted - set(values) - {"card_data"}):
        raise HubError(f"{path}: asks for {', '.join(unknown)}, which nothing fills; known are {', '.join(sorted(values))}")
    return str(CARDS[kind].from_template(card_data, template_path=str(path), **values)).rstrip("\n") + "\n"


def measurement_name(record: ResultRecord) -> str:
    """The split a record is about, and what is unusual about the measurement."""
    unusual = ", ".join(UNUSUAL[mark] for mark in record.unusual)
    return record.test_split + (f" ({unusual})" if unusual else "")


def results_table(records: Sequence[ResultRecord]) -> str:
    """One column per record, one row per metric that any of them has."""
    shown = [key for key in MEASURED if any(r.metrics.get(key) is not None for r in records)]
    rows = [[heading(key), *(with_interval(key, r.metrics) for r in records)] for key in shown]
    return table(["", *(measurement_name(r) for r in records)], rows, 1)


def duration(seconds: float) -> str:
    """`53 s`, `7.5 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def data_bibtex(source: str) -> str:
    """The papers of a data source by the name its provenance gives it; "" where none is known."""
    known = source_of(source)
    return "" if known is None else known.bibtex
