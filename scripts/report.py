"""Write the README's results from the committed records, and nothing else.

  python scripts/report.py            rewrites the part of README.md between the results markers
  python scripts/report.py --check    exits 1 if README.md differs from what the records say
"""

import argparse
import json
import sys
from pathlib import Path

from hf_gland.metrics.result_table import markdown_table
from hf_gland.metrics.results import ResultError, ResultRecord, read_result

COLUMNS = ("mIoU", "mDice", "gland_iou", "image_dice", "object_f1", "object_dice", "object_hausdorff", "ece")
START, END = "<!-- results -->", "<!-- /results -->"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("hub_cards/results"), help="folder of result records")
    parser.add_argument("--references", type=Path, default=Path("hub_cards/references.json"), help="published figures")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
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


if __name__ == "__main__":
    sys.exit(main())
