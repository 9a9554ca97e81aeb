"""The model card's metadata and the sentences that carry its figures, all from result records and training notes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_gland.data.card import class_list
from hf_gland.data.sources import source_of
from hf_gland.evaluation.records import UNUSUAL, ResultRecord
from hf_gland.evaluation.result_table import SETTINGS, class_table, markdown_table
from hf_gland.hub.cards import (
    CODE_LICENCE,
    INTERVALS,
    PAPER_BIBTEX,
    Links,
    data_bibtex,
    duration,
    measurement_name,
    render_card,
    results_table,
)
from hf_gland.hub.licences import Licence
from hf_gland.hub.metadata import TASK
from hf_gland.hub.model_source import ModelSource
from hf_gland.hub.repository import OWN_TAG
from hf_gland.markdown import code_block, count, escaped
from hf_gland.metrics.keys import COMPARED, MEASURED, heading
from hf_gland.model.backbones import side_multiple_px
from hf_gland.model.identity import model_facts
from hf_gland.model.loading import load_config

# Identifiers under which the Hub files a metric; for the others our own keys serve.
METRIC_TYPES = {"mIoU": "mean_iou"}
ASKED_FOR = "asked for"  # heading of the budget in words
STYLES = {"glands": "whole glands outlined", "points": "a dot in some glands", "scribbles": "a stroke in some glands",
          "roi": "one rectangle labelled in full", "images": "some images labelled in full, the others not at all",
          "full": "every pixel labelled"}


def model_card(source: ModelSource, repo: str, *, picture: str, licence: Licence, templates: Path, links: Links = Links(),
               comparison: Sequence[ResultRecord] = ()) -> str:
    """README.md of the model's repository. `comparison`: records of this and other ways of training. Raises HubError."""
    # Everything that comes from files is other people's text; only the command and the metadata need it as it is.
    records, first = escaped(source.records), escaped(source.records[0])
    data: dict[str, Any] = escaped(source.notes["data"])
    title = repo.split("/")[-1]
    card_data = ModelCardData(
        license=licence.hub_id, license_name=licence.name or None, license_link="LICENSE.md" if licence.name else None,
        library_name="transformers", pipeline_tag=TASK, base_model=links.base_model or None,
        datasets=[links.dataset_repo] if links.dataset_repo else None,
        metrics=[*METRIC_TYPES.values(), *([links.metric_repo] if links.metric_repo else [])],
        tags=[OWN_TAG, "histopathology", "gland-segmentation", "weak-supervision", "medical-imaging"],
        model_name=title, eval_results=eval_results(source.records, links.dataset_repo))
    config = load_config(str(source.folder))
    mpp = model_facts(config, str(source.folder)).mpp
    values = {
        "title": title, "repo": repo, "picture": picture,
        "annotation_summary": f"{annotation_summary(first)} {method_summary(source.settings)}".strip(),
        "example_mpp": f", mpp={mpp:g}" if mpp else "",
        "stride_px": str(side_multiple_px(config)),
        "training_mpp": f"{mpp:g} µm" if mpp else "that of its training images",
        "classes": class_list(data["class_names"]),
        "metric": f"[`{links.metric_repo}`](https://huggingface.co/spaces/{links.metric_repo})" if links.metric_repo
                  else "the metrics of hf_gland",
        "test_data": _test_data(records, links.dataset_repo), "interval_level": INTERVALS,
        "results_table": "\n".join(filter(None, (results_table(records), class_table(records, data["class_names"])))),
        "calibration": calibration(records),
        "comparison_table": comparison_table(escaped(list(comparison)), first),
        "annotation_budget": annotation_budget(first),
        "training": training(first, data, links.base_model, escaped(source.trainings)),
        "command": code_block(source.records[0].command, "bash"),
        "data_sha256": first.data_sha256,
        "energy": energy(first, source.trainings), "limits": limits(first, data, escaped(source.data_used("source"))),
        "licence_terms": " ".join(licence.terms), "code_licence": CODE_LICENCE, "paper_bibtex": PAPER_BIBTEX,
        "data_bibtex": data_bibtex(data["source"]),
    }
    return render_card("model", card_data, values, templates)


def eval_results(records: Sequence[ResultRecord], dataset_repo: str) -> list[EvalResult]:
    """The model-index: every figure of the repository's own model, the teacher."""
    return [EvalResult(
        task_type=TASK, task_name="Gland segmentation", dataset_type=_dataset_of(record, dataset_repo),
        dataset_name=record.test_split if record.elsewhere else f"{record.dataset}, {record.test_split}",
        dataset_split=record.test_split,
        metric_type=METRIC_TYPES.get(key, key), metric_value=record.metrics[key],
        metric_name=", ".join([heading(key), *(UNUSUAL[mark] for mark in record.unusual)]))
        for record in records if not record.is_of_student
        for key in MEASURED if record.metrics.get(key) is not None]


def _dataset_of(record: ResultRecord, dataset_repo: str) -> str:
    """The name of the dataset that a model was measured on, `dataset_repo` being that of its training."""
    return record.extra["test_dataset"] if record.elsewhere else dataset_repo or record.dataset


def annotation_summary(record: ResultRecord) -> str:
    if record.style == "full":
        return "Trained on images labelled in full, as an upper bound."
    drawn, total = record.extra.get("annotated_glands"), record.extra.get("total_glands")
    share = f": {drawn} of {total} glands" if drawn is not None and total else ""
    return f"Trained from sparse annotations ({STYLES.get(record.style, record.style)}{share})."


def method_summary(settings: dict[str, Any]) -> str:
    """How the rest of the pixels took part in the training."""
    if settings["mode"] == "full":
        return ""
    if settings["mode"] == "sparse-only":
        return "It learned from those pixels alone."
    if not settings["ema"]:
        return "It labelled the other pixels for itself, step by step, as its confidence allowed."
    return ("A teacher, the moving average of the student that it teaches, labelled the other pixels, step by step, as its "
            "confidence allowed.")


def annotation_budget(record: ResultRecord) -> str:
    extra = record.extra
    if record.style == "full":
        return f"All pixels of {count(extra['train_images'], 'image')} of `{record.train_split}`."
    total = f" of {extra['total_glands']}" if extra.get("total_glands") else ""
    budget = f", budget {record.asked_for}" if record.asked_for else ""
    background = "" if record.style == "roi" else f", background `{record.background}`"
    return (f"Style `{record.style}`{background}{budget}: {extra['annotated_glands']}{total} glands "
            f"in {count(extra['train_images'], 'image')} of `{record.train_split}`, "
            f"{100 * extra['labelled_fraction']:.1f} % of their pixels. Pixels nobody labelled are unknown, not background."
            + ("" if record.style == "as-is" else " The annotation was drawn from dense masks by a program, with seed "
               f"{extra['annotation_seed']}."))


def training(record: ResultRecord, data: dict[str, Any], base_model: str, earlier: Sequence[Mapping[str, Any]]) -> str:
    """What was trained on what; `earlier`: the trainings whose model this one went on from, the first one first."""
    own = {"steps": record.extra["steps"], "train_split": record.train_split, "data": data, "recipe": record.recipe}
    start = f"from [{base_model}](https://huggingface.co/{base_model})" if base_model else "from random weights"
    lines = []
    for stage in [*earlier, own]:
        taught = stage["data"]
        unlabelled = f" and the unlabelled images of {taught['adapted_to']['source']}" if "adapted_to" in taught else ""
        lines.append(f"{stage['steps']} steps {start} on `{stage['train_split']}` of {taught['source']}{unlabelled}, recipe "
                     f"`{stage['recipe']}`")
        start = "more"
    last = "; the last took " if earlier else ": "
    return (f"{'; then '.join(lines)}, seed {record.seed}{last}{duration(record.train_seconds)} on {record.machine}. Code "
            f"commit `{record.commit}`.")


def energy(record: ResultRecord, earlier: Sequence[Mapping[str, Any]]) -> str:
    kwh = record.extra.get("energy_kwh")
    measured = (f"It drew {kwh:g} kWh." if kwh is not None else "Its energy was not metered; multiply that time by the "
                "power of the machine and the carbon intensity of its grid for an upper bound.")
    seconds = record.train_seconds + sum(training["train_seconds"] for training in earlier)
    return (f"Training took {duration(seconds)} on {record.machine}, the development of the recipe many times "
            f"that. {measured}")


def calibration(records: Sequence[ResultRecord]) -> str:
    """What the confidence is worth, split by split."""
    lines = []
    for record in records:
        if (ece := record.metrics.get("ece")) is None:
            lines.append(f"- {measurement_name(record)}: not measured ({record.metrics.get('ece_missing')})")
            continue
        line = f"- {measurement_name(record)}: expected calibration error {ece:.1f} %"
        least = record.metrics.get("errors_in_least_confident_10")
        if least is not None:
            line += f"; the tenth of the pixels that it is least sure of holds {least:.0f} % of its errors"
        lines.append(line)
    return "The confidence is the probability of the predicted class.\n\n" + "\n".join(lines)


def comparison_table(records: Sequence[ResultRecord], own: ResultRecord) -> str:
    """Every way of training by the same recipe, as long and at the same pixel size, measured on the same split as this
    model; "" where there is no other."""
    def shared(record: ResultRecord) -> tuple:
        return record.dataset, record.recipe, record.extra.get("steps"), record.mpp, record.test_split

    alike = [replace(r, extra=r.extra | {ASKED_FOR: r.asked_for}) for r in records
             if shared(r) == shared(own) and not r.unusual]
    settings = [ASKED_FOR if key == "budget" else key for key in SETTINGS]  # 1 gland and all of them are equal as numbers
    varying = [key for key in settings if len({r.as_dict()[key] for r in alike}) > 1]
    return markdown_table(alike, COMPARED, list(dict.fromkeys(["variant", *varying]))) if varying else ""


def limits(record: ResultRecord, data: dict[str, Any], sources: Sequence[str]) -> str:
    """What the figures do not tell. `sources`: of all data that went into the weights, the last training's first."""
    split = data["splits"][record.train_split]
    patients = f" of {count(split['patients'], 'patient')}" if split.get("patients") else ""
    origin = f"all from one source, {sources[0]}" if len(sources) == 1 else (
        f"from {sources[0]}, and on images of {', '.join(sources[1:])}")
    lines = [f"Trained on {count(split['images'], 'image')}{patients}, {origin}: other organs, stains, scanners and "
             "magnifications were not tried. Give the true pixel size of an image; a wrong one gives wrong outlines."]
    lines += [source.limits for source in map(source_of, sources) if source is not None and source.limits]
    for pair, shared in data.get("shared_patients", {}).items():
        a, b = pair.split("+")
        lines.append(f"`{a}` and `{b}` share {count(len(shared), 'patient')}, so figures on one flatter a model trained on "
                     "the other.")
    lines.append("Touching glands may be joined and faint ones missed, and confidence does not warn of every error.")
    return "\n".join(f"- {line}" for line in lines)


def _test_data(records: Sequence[ResultRecord], dataset_repo: str) -> str:
    """The splits that were measured, by the dataset that they are of, that of the training first."""
    own: list[str] = []
    others: list[str] = []
    for record in {r.test_split: r for r in records}.values():
        images = f" ({count(record.metrics['images'], 'image')})" if "images" in record.metrics else ""
        (others if record.elsewhere else own).append(f"`{record.test_split}`{images}")
    named = f"[{dataset_repo}](https://huggingface.co/datasets/{dataset_repo})" if dataset_repo else records[0].dataset
    return ", ".join([*([f"{', '.join(own)} of {named}"] if own else []), *others])
