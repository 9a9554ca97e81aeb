"""Write all tables of results from the committed records, and nothing else.

  python scripts/report.py            rewrites what lies between the headline and results markers of README.md (recipes as
                                      they train now) and the results markers of hub_cards/RESULTS.md (all else), and the
                                      figures
  python scripts/report.py --check    exits 1 if README.md or RESULTS.md differs from what the records say

  python scripts/report.py --results runs/ablation/results
                                      records of your own: all tables go into runs/ablation/report.md, pictures into
                                      runs/ablation/figures; the project's pages stay as they are
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hf_gland.evaluation.figures import draw_budget_curves, draw_curves, draw_risk_coverage
from hf_gland.evaluation.records import ResultError, ResultRecord, read_results
from hf_gland.evaluation.report import (
    annotation_section,
    headline,
    published_section,
    results_section,
    timings_section,
    trains_now,
    trials_section,
)

PROJECT = Path("hub_cards/results")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=PROJECT, help="folder of result records")
    parser.add_argument("--benchmarks", type=Path, default=Path("hub_cards/benchmarks"), help="folder of timings")
    parser.add_argument("--references", type=Path, default=Path("hub_cards/references.json"), help="published figures")
    parser.add_argument("--readme", type=Path, help="page of recipes as they train now [README.md]")
    parser.add_argument("--others", type=Path, help="page of all else [hub_cards/RESULTS.md]")
    parser.add_argument("--figures", type=Path, help="folder for pictures [hub_cards/figures, or beside the page]")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a page is out of date")
    arguments = parser.parse_args()
    given = [page for page in (arguments.readme, arguments.others) if page is not None]
    of_project = arguments.results.resolve() == PROJECT.resolve()
    if len(given) == 1 and not of_project:
        parser.error("give both --readme and --others, or neither for a page beside --results")
    alone = not of_project and not given
    folder = arguments.results.absolute().parent if alone else PROJECT.parent
    figures = arguments.figures or folder / "figures"
    benchmarks: list[dict[str, Any]] = []
    try:
        records = records_of(arguments.results)
        references = json.loads(arguments.references.read_text("utf-8"))
        if alone:
            updated = {folder / "report.md": own_page(records, references)}
        else:
            benchmarks = [json.loads(p.read_text("utf-8")) for p in sorted(arguments.benchmarks.glob("*.json"))]
            updated = project_pages(arguments.readme or Path("README.md"), arguments.others or folder / "RESULTS.md",
                                    records, references, benchmarks)
    except (ResultError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.check:
        return int(any(not path.exists() or path.read_text("utf-8") != text for path, text in updated.items()))
    draw_curves(records, figures / "self_training.png")
    draw_risk_coverage(records, figures / "risk_coverage.png")
    for benchmark in (b for b in benchmarks if "budgets" in b):
        draw_budget_curves(benchmark, figures / "suggestions.png")
    for path, text in updated.items():
        path.write_text(text, "utf-8")
    print(f"{len(records)} records: written to {' and '.join(map(str, updated))}, pictures to {figures}"
          + ("; the project's own pages are left as they are" if alone else ""))
    return 0


def records_of(folder: Path) -> list[ResultRecord]:
    """The records of a folder; ResultError where there is none."""
    if not folder.is_dir():
        raise ResultError(f"{folder}: no such folder")
    records = read_results(folder)
    if not records:
        raise ResultError(f"{folder}: holds no result record; scripts/evaluate.py --results puts them there")
    return records


def own_page(records: Sequence[ResultRecord], references: Sequence[Mapping[str, Any]]) -> str:
    """All tables of records that are not the project's."""
    sections = [headline(records, references), results_section(records, references), published_section(references)]
    return "# Results\n\n" + "\n".join(filter(None, sections))


def project_pages(readme: Path, others: Path, records: Sequence[ResultRecord], references: Sequence[Mapping[str, Any]],
                  benchmarks: Sequence[Mapping[str, Any]]) -> dict[Path, str]:
    """The text of both pages with new tables; raises OSError or ValueError where a page or its markers are not there."""
    now, before = ([r for r in records if trains_now(r) is current] for current in (True, False))
    first = between(readme.read_text("utf-8"), "headline", headline(records, references), readme)
    pages = {readme: (first, [results_section(now, references), published_section(references)]),
             others: (others.read_text("utf-8"), [
                 results_section(before, references), trials_section(benchmarks), annotation_section(benchmarks),
                 timings_section(benchmarks)])}
    return {path: between(text, "results", "\n".join(filter(None, sections)), path)
            for path, (text, sections) in pages.items()}


def between(text: str, name: str, content: str, page: Path) -> str:
    """The text of a page with `content` between the markers of that name; ValueError where they are not there once."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(f"{page}: the markers {start} and {end} have to be there once each")
    before, rest = text.split(start)
    return f"{before}{start}\n{content}{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    sys.exit(main())
