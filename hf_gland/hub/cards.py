"""Cards from the templates in `hub_cards/`: the templates hold words, every figure comes in as a value."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import jinja2
import jinja2.meta
from huggingface_hub import CardData, DatasetCard, ModelCard, RepoCard, SpaceCard

from hf_gland.evaluation.records import UNITS, UNUSUAL, ResultRecord
from hf_gland.evaluation.result_table import DECIMALS, HEADINGS
from hf_gland.hub.errors import HubError

CODE_LICENCE = "Apache-2.0"
INTERVALS = "95 %"  # what the *_ci95 of a result record are
SHOWN_METRICS = ("mIoU", "mDice", "gland_iou", "gland_dice", "image_dice", "object_f1", "object_dice", "object_hausdorff",
                 "ece", "brier")
CARDS: dict[str, type[RepoCard]] = {"model": ModelCard, "dataset": DatasetCard, "metric": SpaceCard, "space": SpaceCard}


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


def table(header: Sequence[str], rows: Iterable[Sequence[object]], numeric_from: int) -> str:
    """A Markdown table; columns from `numeric_from` on are set flush right."""
    rule = ["---"] * numeric_from + ["---:"] * (len(header) - numeric_from)
    lines = [header, rule, *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def metric_heading(key: str) -> str:
    """`object Hausdorff (px)`."""
    name = HEADINGS.get(key, key.replace("_", " "))
    return f"{name} ({UNITS[key]})" if key in UNITS else name


def metric_text(record: ResultRecord, key: str) -> str:
    """`81.2 [79.0, 83.1]`, or `–` where the record says that there is no such figure."""
    value, interval = record.metrics.get(key), record.metrics.get(f"{key}_ci95")
    if value is None:
        return "–"
    decimals = DECIMALS.get(key, 1)
    return f"{value:.{decimals}f}" + ("" if not interval else f" [{interval[0]:.{decimals}f}, {interval[1]:.{decimals}f}]")


def measurement_name(record: ResultRecord) -> str:
    """The split a record is about, and what is unusual about the measurement."""
    unusual = ", ".join(UNUSUAL[mark] for mark in record.unusual)
    return record.test_split + (f" ({unusual})" if unusual else "")


def results_table(records: Sequence[ResultRecord]) -> str:
    """One column per record, one row per metric that any of them has."""
    keys = [key for key in SHOWN_METRICS if any(r.metrics.get(key) is not None for r in records)]
    rows = [[metric_heading(key), *(metric_text(r, key) for r in records)] for key in keys]
    return table(["", *(measurement_name(r) for r in records)], rows, 1)


def duration(seconds: float) -> str:
    """`53 s`, `7.5 min`, `3.2 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
