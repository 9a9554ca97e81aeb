"""Write all tables of results from the committed records, and nothing else.

  python scripts/report.py            rewrites what lies between the headline and results markers of README.md (recipes as
                                      they train now) and the results markers of hub_cards/RESULTS.md (all else), and the
                                      figures
  python scripts/report.py --check    exits 1 if README.md or RESULTS.md differs from what the records say
"""

import argparse
import json
import sys
from pathlib import Path

from hf_gland.evaluation.figures import draw_budget_curves, draw_curves, draw_risk_coverage
from hf_gland.evaluation.records import ResultError, read_results
from hf_gland.evaluation.report import (
    annotation_section,
    headline,
    published_section,
    results_section,
    timings_section,
    trains_now,
    trials_section,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("hub_cards/results"), help="folder of result records")
    parser.add_argument("--benchmarks", type=Path, default=Path("hub_cards/benchmarks"), help="folder of timings")
    parser.add_argument("--references", type=Path, default=Path("hub_cards/references.json"), help="published figures")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    parser.add_argument("--others", type=Path, default=Path("hub_cards/RESULTS.md"), help="page of all else")
    parser.add_argument("--figures", type=Path, default=Path("hub_cards/figures"), help="folder for pictures")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is out of date")
    arguments = parser.parse_args()
    try:
        records = read_results(arguments.results)
        references = json.loads(arguments.references.read_text("utf-8"))
        benchmarks = [json.loads(p.read_text("utf-8")) for p in sorted(arguments.benchmarks.glob("*.json"))]
        now, others = ([r for r in records if trains_now(r) is current] for current in (True, False))
        before = {path: path.read_text("utf-8") for path in (arguments.readme, arguments.others)}
        readme = between(before[arguments.readme], "headline", headline(records, references), arguments.readme)
        pages = {arguments.readme: (readme, [results_section(now, references), published_section(references)]),
                 arguments.others: (before[arguments.others], [
                     results_section(others, references), trials_section(benchmarks), annotation_section(benchmarks),
                     timings_section(benchmarks)])}
        updated = {path: between(text, "results", "\n".join(filter(None, sections)), path)
                   for path, (text, sections) in pages.items()}
    except (ResultError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        return int(updated != before)
    draw_curves(records, arguments.figures / "self_training.png")
    draw_risk_coverage(records, arguments.figures / "risk_coverage.png")
    for benchmark in (b for b in benchmarks if "budgets" in b):
        draw_budget_curves(benchmark, arguments.figures / "suggestions.png")
    for path, text in updated.items():
        path.write_text(text, "utf-8")
    print(f"{arguments.readme}: {len(now)} records; {arguments.others}: {len(others)}")
    return 0


def between(text: str, name: str, content: str, page: Path) -> str:
    """The text of a page with `content` between the markers of that name; ValueError where they are not there once."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{page}: the markers {start} and {end} have to be there once each")
    before, rest = text.split(start)
    return f"{before}{start}\n{content}{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    sys.exit(main())
