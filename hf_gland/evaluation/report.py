"""The tables of results: every record in the table it belongs to, with the published figures beside.

Records of recipes as they train now stand in the README, all others in hub_cards/RESULTS.md."""

import math
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hf_gland import markdown
from hf_gland.config import all_variants, read_config_file, recipe_names
from hf_gland.evaluation.records import HELD_OUT, ResultRecord
from hf_gland.evaluation.result_table import check_row, markdown_table, mean_sd, with_spread
from hf_gland.metrics import keys


@dataclass(frozen=True)
class Table:
    """One table: which records belong in it, and how it is laid out."""

    title: str
    about: str
    wants: Callable[[ResultRecord], bool]
    rows: tuple[str, ...]
    columns: tuple[str, ...] = keys.FEW
    recovered: bool = False  # say how far ours comes from sparse-only towards full
    over: str = "seed"  # what a row is the mean of: seeds, or folds


Group = tuple[str, str, float, int, str, str]  # recipe, backbone, µm per pixel, steps, dataset, what it was measured on
PUBLISHED = ("mIoU", "mDice", "object_f1", "object_dice", "object_hausdorff")


def _usual_backbone(record: ResultRecord) -> bool:
    """Whether it started from the default encoder, or from the pretrained one that its recipe names."""
    if record.backbone == "mit-b0" or record.recipe not in recipe_names():
        return record.backbone == "mit-b0"
    return record.backbone == Path(read_config_file(record.recipe).get("backbone", "")).name  # "random:…" is "random-…" here


def _usual(record: ResultRecord) -> bool:
    """20 % of the glands outlined, stroma by ring and strokes (or all of it), from the usual encoder, as it came."""
    return (_usual_backbone(record) and record.on_usual_images and HELD_OUT not in record.variant
            and ((record.on_usual_budget and record.background == "rim+scribble") or record.style in ("full", "cam")))


def _in(group: str, record: ResultRecord) -> bool:
    """Whether the record's variant is shown in this table, as its file says."""
    variant = all_variants().get(record.variant)
    return variant is not None and group in variant.groups


def _annotation(record: ResultRecord) -> bool:
    return (_in("annotation", record) and _usual_backbone(record) and record.on_usual_images and record.style != "images"
            and (not _usual(record) or _in("main", record)))


TABLES: tuple[Table, ...] = (
    Table("The method beside its baselines", "20 % of the glands outlined, stroma labelled by a ring around them and a few "
          "strokes.", lambda r: _usual(r) and _in("main", r),
          ("variant", "paper"), keys.MAIN, recovered=True),
    Table("Patients that were never seen", "Each patient of `train` is held out once: one training per fold, measured on "
          "the patients of that fold (`build_dataset --fold`). testA shares patients with `train`; these figures do not.",
          lambda r: r.fold is not None, ("variant", "annotation", "backbone"), keys.COMPARED, over="fold"),
    Table("Ablations", "One thing taken away or added at a time.", lambda r: _usual(r) and _in("ablations", r),
          ("variant", "paper")),
    Table("What the annotator draws", "Styles and budgets, with what they cost: outlined glands of all in the training "
          "images, and the share of pixels labelled.", _annotation,
          ("style", "background", "asked for", "glands outlined", "pixels labelled", "variant"),
          recovered=True),
    Table("A share of the images", "Some images outlined wholly, spread over the patients, and nothing of the others "
          "(`build_dataset --style images`), as semi-supervised learning is measured. CoDiR with a UNI encoder reports "
          "gland IoU 79.4 and Dice 88.1 at 10 % of GlaS, 81.1 and 89.2 at 20 %: on a random test split of its own at "
          "256×256 px, so the protocols differ.",
          lambda r: r.style == "images" and r.on_usual_images and _usual_backbone(r),
          ("asked for", "glands outlined", "variant"),
          ("mIoU", "gland_iou", "gland_dice", "object_f1", "object_dice", "object_hausdorff", "ece"), recovered=True),
    Table("Schedules", "Threshold, refreshes and warm-up.", lambda r: _usual(r) and _in("schedules", r),
          ("variant",)),
    Table("Other networks", "The same code, with the settings of the recipe; those named random-… from random weights.",
          lambda r: not _usual_backbone(r) and r.fold is None, ("backbone", "variant")),
    Table("A foreign stain", "The test images as another laboratory might stain them (`build_dataset --stain-shift`). "
          "All were trained without three patients. `adapted` is `ours-held-out`, taught their 14 images, restained with "
          "strength 3, without a label (`train --config adapt`); `continued` went on for as many steps without them.",
          lambda r: r.fold is None and ("@stain" in r.test_split or _in("stain", r) or r.variant == f"ours{HELD_OUT}"),
          ("test split", "variant")),
    Table("Calibration", "Trained without three patients; temperature fitted on their sparse labels (`-dense`: on their "
          "dense masks).",
          lambda r: HELD_OUT in r.variant and r.on_usual_images, ("variant", "temperature"),
          keys.CALIBRATION),
    Table("Other runs", "What no table above shows.", lambda r: not any(table.wants(r) for table in TABLES[:-1]),
          ("variant", "annotation", "backbone", "test_split")),
)


def trains_now(record: ResultRecord) -> bool:
    """Whether the record's recipe still trains as it did then: at that pixel size, for that many steps."""
    if record.recipe not in recipe_names():
        return False
    recipe = read_config_file(record.recipe)
    return (recipe["mpp"], recipe["steps"]) == (record.mpp, record.extra.get("steps"))


HEADLINE, HEADLINE_SPLIT = "full", "testA"  # recipe and split of the first figures that a reader meets


def headline(records: Sequence[ResultRecord], references: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: sparse outlines, with and without self-training, and full supervision by recipe HEADLINE as it trains
    now, with the published figures of the same; "" without a record of it."""
    rows = []
    outlined = "20 % of the glands outlined"
    for variant, labels in (("ours", outlined), ("sparse-only", f"{outlined}, without the teacher"),
                            ("full", "every pixel labelled")):
        runs = [r for r in records if (r.variant, r.recipe, r.test_split) == (variant, HEADLINE, HEADLINE_SPLIT)
                and trains_now(r) and _usual(r)]
        if runs:
            rows.append([labels, f"`--config {HEADLINE}`", len(runs),
                         *(mean_sd(key, [r.metrics.get(key) for r in runs]) for key in PUBLISHED)])
            rows += [[labels, r["source"], "", *_published(r)] for r in references
                     if r["name"] == all_variants()[variant].paper]
    header = [f"GlaS, {HEADLINE_SPLIT}", "method", "seeds", *map(keys.heading, PUBLISHED)]
    return markdown.table(header, rows, 2) if rows else ""


def _published(reference: Mapping[str, Any]) -> list[str]:
    return [keys.figure(key, reference[key]) if key in reference else "–" for key in PUBLISHED]


def results_section(records: Sequence[ResultRecord], references: Sequence[Mapping[str, Any]]) -> str:
    """Markdown of all tables that have a record, each split by dataset, recipe, pixel size, steps and test split. A part
    whose figures all stand in tables above is left out.

    `references`: published figures, {name, supervision, source} and some of PUBLISHED; a variant's file names the one to
    compare it with. Raises ResultError as `markdown_table` does.
    """
    parts: list[str] = []
    shown: dict[str, set[str]] = {}  # the figures of each record
    explained: set[str] = set()
    for table in TABLES:
        groups: dict[Group, list[ResultRecord]] = {}
        for record in filter(table.wants, records):
            groups.setdefault(_group(table, record), []).append(_with_row_headings(record, references))
        groups = {key: members for key, members in groups.items()
                  if not all(set(table.columns) <= shown.get(r.name, set()) for r in members)}
        for record in (r for members in groups.values() for r in members):
            shown.setdefault(record.name, set()).update(table.columns)
        if groups:
            variants = {r.variant for members in groups.values() for r in members} - explained
            legend = _legend(variants)
            parts.append(f"### {table.title}\n\n{table.about}\n" + (f"\n{legend}" if legend else ""))
            explained |= variants
        for group, members in sorted(groups.items()):
            members.sort(key=lambda r: (*_place(table, r), r.seed))
            parts.append(_heading(group, members, table.over))
            if table.over == "fold":
                members = _means_over_seeds(members)
            cleaned = [key for key in keys.CLEANED[:1] if any(key in r.metrics for r in members)]  # not in records of before
            parts[-1] += markdown_table(members, (*table.columns, *cleaned), table.rows, table.over).replace("| – |", "| |")
            if table.over == "fold":
                parts.append(_gained(members))
            if table.recovered:
                parts.append(_recovered(members, [
                    r for r in records if r.variant == "full" and _group(table, r) == group]))
    return "\n".join(filter(None, parts))


def _legend(variants: Collection[str]) -> str:
    """A line for each of `variants` that a file describes; "" without any."""
    lines = [f"- `{name}`: {variant.title}\n" for name, variant in all_variants().items() if name in variants]
    return "".join(lines)


def published_section(references: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the published figures, a row each."""
    return ("### Published figures on GlaS\n\nBy the same definition of mIoU and mDice; figures of glands are those of the "
            "challenge, on testA.\n\n" + markdown.table(
                ["method", "supervision", "source", *map(keys.heading, PUBLISHED)],
                [[r["name"], r["supervision"], r["source"], *_published(r)] for r in references], 3))


def timings_section(benchmarks: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: a row per ratio of the benchmark files, each with its spread, and where the time goes by stage. ""
    without any."""
    rows = [[label, b.get("precision", "not recorded"), b["hardware"], f"{r['median']:.2f}",
             f"{r['lowest']:.2f} – {r['highest']:.2f}"]
            for b in benchmarks for label, r in b.get("ratios", {}).items()]
    if not rows:
        return ""
    agreement = "".join(
        f"\nThe class maps of both agree in {100 * a['median']:.0f} % of the pixels (median of the images; "
        f"{100 * a['lowest']:.0f} to {100 * a['highest']:.0f} %): {b['benchmark']}.\n"
        for b in benchmarks if (a := b.get("pixels_that_agree")))
    stages = [[stage, b["benchmark"], f"{took:.1f}"] for b in benchmarks for stage, took in b.get("stages_ms", {}).items()]
    slides = [[f"{run['side_px']:,}", f"{run['tissue_mm2']:g}", run["tiles"], f"{run['seconds']['planning']:.0f}",
               f"{run['seconds']['prediction in all']:.0f}", f"{100 * run['postprocessing_share']:.0f}",
               f"{run['peak_memory_mib'] / 1024:.1f}"]
              for b in benchmarks if "postprocessing_share" in b for run in b["runs"]]
    return ("### Timings\n\nEach ratio from blocks of both that took turns in one run (`scripts/benchmark*.py`).\n\n"
            + markdown.table(["ratio", "precision", "hardware", "median", "range"], rows, 3) + agreement
            + ("\nWhere the time of a refined step and of an image goes:\n\n"
               + markdown.table(["stage", "benchmark", "ms"], stages, 2) if stages else "")
            + ("\nWhole slides, one after the other; the share is that of all processor time of the prediction:\n\n"
               + markdown.table(["side (px)", "tissue (mm²)", "tiles", "finding tissue (s)", "prediction (s)",
                                 "finding and writing glands (%)", "peak memory (GiB)"], slides, 0) if slides else "")
            + "\n")


def trials_section(benchmarks: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: what was tried on held-out patients before a setting was chosen, a table per benchmark file with `trials`;
    "" without any. Its `columns` name what heads a row; the figures are those that its trials have."""
    parts = []
    for b in (b for b in benchmarks if "trials" in b):
        columns, figures = b["columns"], [key for key in keys.METRICS if key in b["trials"][0]]
        rows = [[*(t[key] for key in columns), *(keys.figure(key, t[key]) for key in figures)] for t in b["trials"]]
        parts.append(f"### Choices: {b['benchmark']}\n\n{b['about']} ({b['hardware']})\n\n"
                     + markdown.table([*columns.values(), *map(keys.heading, figures)], rows, len(columns)))
    return "\n".join(parts)


def annotation_section(benchmarks: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: each way of choosing the next outlines by budget, mean ± standard deviation over seeds, of the benchmark
    files that have `budgets` (scripts/annotation_curve.py); "" without any."""
    parts = []
    for b in (b for b in benchmarks if "budgets" in b):
        areas = {choice: with_spread("mIoU", area["mean"], area["sd"]) for choice, area in b["area_under_the_curve"].items()}
        rows = [[choice, keys.heading(name), *(mean_sd(name, scores) for scores in zip(*seeds, strict=True)),
                 areas.get(choice) if name == "mIoU" else None]
                for name in ("mIoU", "object_f1") for choice, seeds in b[name].items()]
        header = ["glands chosen", "figure", *(f"{100 * budget:g} % outlined" for budget in b["budgets"]), "area"]
        parts.append(
            f"### Choices: {b['benchmark']}\n\n{b['about']} ({'; '.join(b['hardware'])}, {', '.join(b['precision'])}; "
            f"recipe `{b['recipe']}`, `{b['train_options']}`; measured on `{b['split']}`; mean ± standard deviation over "
            f"{markdown.count(len(b['seeds']), 'seed')}; the area is that under the curve over the logarithm of the budget.)"
            f"\n\n{markdown.table(header, rows, 2)}\n![mIoU over the share of the glands outlined, by the way they were "
            "chosen](figures/suggestions.png)\n")
    return "\n".join(parts)


def _with_row_headings(record: ResultRecord, references: Iterable[Mapping[str, Any]]) -> ResultRecord:
    """The record with what tables head their rows by, beyond its own fields."""
    variant = all_variants().get(record.variant)
    paper = [f"{r['mIoU']:.1f} / {r['mDice']:.1f}" for r in references if variant and r["name"] == variant.paper]
    outlined, total = record.extra.get("annotated_glands"), record.extra.get("total_glands")
    whole_glands = outlined is not None and record.style in ("glands", "images")
    fraction = record.extra.get("labelled_fraction")
    return replace(record, background=record.stroma, extra=record.extra | {
        "fold": record.fold, "annotation": ", ".join(filter(None, (record.style, record.stroma, record.asked_for))),
        "paper": paper[0] if paper else None, "test split": record.test_split, "asked for": record.asked_for,
        "temperature": f"{record.extra.get('temperature', 1.0):.2f}",
        "glands outlined": f"{outlined} of {total}" if whole_glands else None,
        "pixels labelled": None if fraction is None else f"{100 * fraction:.1f} %"})


def _place(table: Table, record: ResultRecord) -> tuple:
    """Where a record's row stands in its table."""
    known = all_variants().get(record.variant)
    variant = known.place if known else math.inf
    if table.rows[0] in ("style", "asked for"):
        return record.style, record.background, isinstance(record.budget, float), record.budget or 0, variant
    return (record.test_split, variant, record.backbone) if "test split" in table.rows else (record.backbone, variant)


def _group(table: Table, record: ResultRecord) -> Group:
    """Which part of the table a record belongs to. Where rows are test splits, recipes with their steps stand side by side
    ("", 0); where they are backbones, these do (""), and the default one is not named."""
    alike = "test split" not in table.rows
    backbone = "" if "backbone" in table.rows or record.backbone == "mit-b0" else record.backbone
    recipe, steps = (record.recipe, record.extra.get("steps", 0)) if alike else ("", 0)
    return recipe, backbone, record.mpp or 0.0, steps, record.dataset, _measured_on(record)


def _measured_on(record: ResultRecord) -> str:
    """Where a record belongs in a table's heading: the test split however it was stained, or all folds."""
    if record.fold is not None:
        return f"the patients held out of `{record.train_split}` in {record.fold[1]} folds"
    return f"`{record.test_split.split('@')[0]}`"


def _means_over_seeds(members: Sequence[ResultRecord]) -> list[ResultRecord]:
    """One record per row and test split, its figures the means over the seeds that were run. Raises ResultError as
    `markdown_table` does."""
    runs: dict[tuple[Any, ...], list[ResultRecord]] = {}
    for r in members:
        runs.setdefault((r.variant, r.backbone, r.extra["annotation"], r.test_split), []).append(r)
    means = []
    for row, same in runs.items():
        check_row(row, same, "seed")
        there = [key for key in (*keys.MEASURED, *keys.CLEANED) if any(key in r.metrics for r in same)]
        known = {key: [value for r in same if isinstance(value := r.metrics.get(key), int | float)] for key in there}
        means.append(replace(same[0], seed=0, metrics={
            key: statistics.fmean(values) if values else None for key, values in known.items()}))
    return means


def _gained(members: Sequence[ResultRecord]) -> str:
    """How far ours is above sparse-only, fold by fold, for each annotation that has both."""
    found: dict[tuple[str, str], dict[str, dict[str, ResultRecord]]] = {}
    for r in members:
        found.setdefault((r.extra["annotation"], r.backbone), {}).setdefault(r.variant, {})[r.test_split] = r
    lines = []
    for (annotation, backbone), variants in found.items():
        ours, sparse = (variants.get(name, {}) for name in ("ours", "sparse-only"))
        if common := sorted(ours.keys() & sparse.keys()):
            gains = []
            for key in ("mIoU", "object_f1"):
                both = [(ours[fold].metrics[key], sparse[fold].metrics[key]) for fold in common]
                points = [a - b for a, b in both if a is not None and b is not None]
                spread = f" ± {statistics.stdev(points):.1f}" if len(points) > 1 else ""
                if points:
                    gains.append(f"{keys.METRICS[key].name} {statistics.fmean(points):+.1f}{spread}")
            lines.append(f"- {annotation}, {backbone}: {', '.join(gains)} ({markdown.count(len(common), 'fold')})\n")
    return "Ours above sparse-only on the same patients, in points:\n\n" + "".join(lines) if lines else ""


def _heading(group: Group, members: list[ResultRecord], over: str) -> str:
    recipe, backbone, mpp, steps, dataset, where = group
    seconds = sorted(r.train_seconds for r in members)
    took = " to ".join(dict.fromkeys(f"{one:.0f}" for one in (seconds[0], seconds[-1])))
    names = f"recipe `{recipe}`" if recipe else "recipes " + ", ".join(f"`{r}`" for r in sorted({r.recipe for r in members}))
    names += f", encoder {backbone}" if backbone else ""
    names += (f", {steps} steps" if steps else "") + (f" at {mpp:g} µm per pixel" if mpp else "")
    return (f"{dataset}, {names}, measured on {where} ({', '.join(sorted({r.machine for r in members}))}; training took "
            f"{took} s; mean ± standard deviation over {over}s):\n\n")


def _recovered(members: list[ResultRecord], full: list[ResultRecord]) -> str:
    """How far ours comes from sparse-only towards full, for each annotation that has both, over the seeds that all three
    have."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for r in members:
        annotation = f"{r.style}, {r.background}, {r.asked_for}"
        found.setdefault(annotation, {}).setdefault(r.variant, {})[r.seed] = r.metrics["mIoU"]
    all_labels, lines = {r.seed: r.metrics["mIoU"] for r in full}, []
    for annotation, variants in found.items():
        compared = [all_labels, *(variants.get(name, {}) for name in ("ours", "sparse-only"))]
        seeds = set.intersection(*map(set, compared))
        top, ours, sparse = (statistics.fmean([by_seed[seed] for seed in seeds] or [0.0]) for by_seed in compared)
        if top > sparse:
            share = f"{100 * (ours - sparse) / (top - sparse):.0f} % of {top - sparse:.1f} points"
            some = any(len(by_seed) > len(seeds) for by_seed in compared)
            lines.append(f"- {annotation}: {share}" + (f" ({markdown.count(len(seeds), 'seed')})\n" if some else "\n"))
    return "Of the distance in mIoU from sparse-only to full, ours recovers:\n\n" + "".join(lines) if lines else ""
