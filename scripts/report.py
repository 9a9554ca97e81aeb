"""Write the README's results from the committed records, and nothing else.

  python scripts/report.py            rewrites the part of README.md between the results markers, and the figures
  python scripts/report.py --check    exits 1 if README.md differs from what the records say
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from hf_gland.metrics.result_table import markdown_table
from hf_gland.metrics.results import ResultError, ResultRecord, read_result

COLUMNS = ("mIoU", "mDice", "gland_iou", "image_dice", "object_f1", "object_dice", "object_hausdorff", "ece")
START, END = "<!-- results -->", "<!-- /results -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("hub_cards/results"), help="folder of result records")
    parser.add_argument("--references", type=Path, default=Path("hub_cards/references.json"), help="published figures")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--figures", type=Path, default=Path("hub_cards/figures"), help="folder for pictures")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the README is out of date")
    arguments = parser.parse_args()
    try:
        records = [read_result(path) for path in sorted(arguments.results.glob("*.json"))]
        text = arguments.readme.read_text("utf-8")
        before, rest = text.split(START)
        _, after = rest.split(END)
        section = results_section(records, json.loads(arguments.references.read_text("utf-8")))
        updated = f"{before}{START}\n{section}{END}{after}"
    except (ResultError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        return int(updated != text)
    draw_curves(records, arguments.figures / "self_training.png")
    arguments.readme.write_text(updated, "utf-8")
    print(f"{arguments.readme}: {len(records)} records")
    return 0


def results_section(records: list[ResultRecord], references: list[dict]) -> str:
    """Markdown: one table per dataset, test split and recipe, then the published figures."""
    parts = []
    groups: dict[tuple[str, str, str], list[ResultRecord]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.recipe, record.test_split), []).append(record)
    for (dataset, recipe, split), members in sorted(groups.items()):
        members.sort(key=lambda r: (r.background, -r.metrics["mIoU"]))
        seconds = sorted(r.train_seconds for r in members)
        parts.append(f"**{dataset}, recipe `{recipe}`, measured on `{split}`** "
                     f"({', '.join(sorted({r.hardware for r in members}))}; training took {seconds[0]:.0f} to "
                     f"{seconds[-1]:.0f} s; mean ± sd where there are several seeds)\n\n"
                     + markdown_table(members, COLUMNS, ("variant", "style", "background", "budget")) + "\n")
    parts.append("Published figures on GlaS, by the same definition of mIoU and mDice:\n\n"
                 "| method | supervision | mIoU (%) | mDice (%) | source |\n|---|---|---|---|---|\n"
                 + "".join(f"| {r['name']} | {r['supervision']} | {r['mIoU']:.1f} | {r['mDice']:.1f} | {r['source']} |\n"
                           for r in references))
    return "\n".join(parts)


def draw_curves(records: list[ResultRecord], path: Path) -> None:
    """Coverage and accuracy of the pseudo-masks over training: ours beside the naive reading, one column a background."""
    runs = {(r.background, r.variant): r for r in reversed(records) if r.variant in ("ours", "naive") and "curve" in r.extra}
    backgrounds = sorted({b for b, _ in runs if {(b, "ours"), (b, "naive")} <= set(runs)})
    if not backgrounds:
        return
    figure = Figure(figsize=(4.5 * len(backgrounds), 5.5), dpi=130, layout="constrained")
    axes = figure.subplots(2, len(backgrounds), sharex=True, squeeze=False)
    for column, background in enumerate(backgrounds):
        top, bottom = axes[:, column]
        for variant, colour in (("ours", "#0072B2"), ("naive", "#D55E00")):
            record = runs[background, variant]
            curve = {k: np.array(v, float) for k, v in record.extra["curve"].items()}
            label = f"{variant}: {record.metrics['mIoU']:.1f} mIoU"
            top.plot(curve["step"], curve["coverage"], color=colour, label=f"{label}, coverage")
            top.plot(curve["step"], curve["threshold"], color=colour, linestyle=":", label="its threshold τ")
            bottom.plot(curve["step"], curve["pseudo_accuracy"], color=colour, label=variant)
        top.set(title=f"stroma labelled by: {background}", ylim=(0, 1), ylabel="share of pixels" if not column else "")
        bottom.set(xlabel="training step", ylabel="pseudo-mask accuracy" if not column else "")
        top.legend(fontsize=7)
        bottom.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
