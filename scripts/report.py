"""Write the README's results from the committed records, and nothing else.

  python scripts/report.py            rewrites the parts of README.md between the headline and results markers, and the
                                      figures
  python scripts/report.py --check    exits 1 if README.md differs from what the records say
"""

import argparse
import json
import sys
from pathlib import Path

from hf_gland.evaluation.figures import draw_budget_curves, draw_curves, draw_risk_coverage
from hf_gland.evaluation.records import ResultError, read_results
from hf_gland.evaluation.report import annotation_section, headline, results_section, timings_section, trials_section


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("hub_cards/results"), help="folder of result records")
    parser.add_argument("--benchmarks", type=Path, default=Path("hub_cards/benchmarks"), help="folder of timings")
    parser.add_argument("--references", type=Path, default=Path("hub_cards/references.json"), help="published figures")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--figures", type=Path, default=Path("hub_cards/figures"), help="folder for pictures")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the README is out of date")
    arguments = parser.parse_args()
    try:
        records = read_results(arguments.results)
        text = arguments.readme.read_text("utf-8")
        references = json.loads(arguments.references.read_text("utf-8"))
        benchmarks = [json.loads(p.read_text("utf-8")) for p in sorted(arguments.benchmarks.glob("*.json"))]
        tables = results_section(records, references)
        section = "\n".join(filter(None, (
            tables, trials_section(benchmarks), annotation_section(benchmarks), timings_section(benchmarks))))
        updated = between(between(text, "headline", headline(records, references)), "results", section)
    except (ResultError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        return int(updated != text)
    draw_curves(records, arguments.figures / "self_training.png")
    draw_risk_coverage(records, arguments.figures / "risk_coverage.png")
    for benchmark in (b for b in benchmarks if "budgets" in b):
        draw_budget_curves(benchmark, arguments.figures / "suggestions.png")
    arguments.readme.write_text(updated, "utf-8")
    print(f"{arguments.readme}: {len(records)} records")
    return 0


def between(text: str, name: str, content: str) -> str:
    """The text with `content` between the markers of that name; ValueError where they are not there once."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"README: the markers {start} and {end} have to be there once each")
    before, rest = text.split(start)
    return f"{before}{start}\n{content}{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    sys.exit(main())
