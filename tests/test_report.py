"""The results of README and RESULTS.md come from the records alone."""

import dataclasses
import json
import runpy
import sys
from pathlib import Path

import pytest

from hf_gland.evaluation.records import ResultRecord
from hf_gland.metrics.keys import MEASURED

SCRIPT = Path(__file__).parents[1] / "scripts" / "report.py"
CURVE = {"step": [1, 2, 3], "threshold": [0.9, 0.8, 0.7], "ema_decay": [0.99] * 3, "coverage": [0.0, 0.5, 0.9],
         "pseudo_accuracy": [None, 0.9, 0.8], "loss": [1.0, 0.5, 0.2]}


@pytest.fixture
def project(tmp_path):
    """Two pages with markers, two records of a recipe as it is and one as it was, and the published figures."""
    record = ResultRecord(
        variant="ours", recipe="bench", style="glands", background="rim", budget=0.2, seed=0, dataset="glas",
        train_split="train", test_split="testA", backbone="mit-b0", command="c", commit="abc", data_sha256="0" * 64,
        hardware="a CPU", train_seconds=321.0, metrics=dict.fromkeys(MEASURED, 76.5) | {"brier": 0.1},
        extra={"curve": CURVE, "mpp": 0.83, "steps": 1200})
    for variant, value in (("ours", 76.5), ("naive", 61.25)):
        dataclasses.replace(record, variant=variant, metrics=record.metrics | {"mIoU": value}).write(tmp_path / "results")
    dataclasses.replace(record, metrics=record.metrics | {"mIoU": 55.5}, extra=record.extra | {"mpp": 1.24}).write(
        tmp_path / "results")
    (tmp_path / "README.md").write_text("<!-- headline -->\n<!-- /headline -->\nbefore\n"
                                        "<!-- results -->\nold\n<!-- /results -->\nafter\n")
    (tmp_path / "RESULTS.md").write_text("<!-- results -->\n<!-- /results -->\n")
    (tmp_path / "references.json").write_text(json.dumps(
        [{"name": "A paper", "supervision": "glands", "mIoU": 80.1, "mDice": 89.1, "source": "arXiv"}]))
    return tmp_path


def run_script(*words: str | Path) -> int:
    """`python scripts/report.py WORDS`; returns the exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(SCRIPT), *map(str, words)])
        with pytest.raises(SystemExit) as leaving:
            runpy.run_path(str(SCRIPT), run_name="__main__")
    return leaving.value.code


def report(folder: Path, *more: str) -> int:
    return run_script("--results", folder / "results", "--benchmarks", folder / "benchmarks", "--references",
                      folder / "references.json", "--readme", folder / "README.md", "--others", folder / "RESULTS.md",
                      "--figures", folder / "figures", *more)


def test_results_replace_what_lies_between_the_markers(project):
    assert report(project) == 0
    text = (project / "README.md").read_text()
    assert text.startswith("<!-- headline -->\n<!-- /headline -->\nbefore\n")  # no record of the headline's recipe
    assert text.endswith("after\n")
    assert "old" not in text
    assert "76.5" in text
    assert "61.2" in text
    assert "A paper" in text
    others = (project / "RESULTS.md").read_text()
    assert ("55.5" in text, "55.5" in others, "61.2" in others, "A paper" in others) == (False, True, False, False)
    assert (project / "figures" / "self_training.png").stat().st_size > 10_000


@pytest.mark.parametrize("changed", ["*naive*", "*1.24um*"])
def test_check_tells_a_page_that_lags_behind_its_records(project, changed):
    assert report(project, "--check") == 1
    report(project)
    assert report(project, "--check") == 0
    path = next((project / "results").glob(changed))
    record = json.loads(path.read_text())
    record["metrics"]["mIoU"] = 62.5
    path.write_text(json.dumps(record))
    assert report(project, "--check") == 1


def test_a_broken_record_is_named_and_nothing_is_written(project, capsys):
    before = (project / "README.md").read_text()
    path = next((project / "results").glob("*ours*0.83um*"))
    path.write_text("{")
    assert report(project) == 2
    assert path.name in capsys.readouterr().err
    assert (project / "README.md").read_text() == before


def test_records_of_your_own_get_a_page_beside_them_and_the_projects_pages_stay(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    before = (project / "README.md").read_text()
    words = ("--results", "results", "--references", "references.json")
    assert run_script(*words, "--check") == 1
    assert not (project / "report.md").exists()
    assert run_script(*words) == 0
    assert str(project / "report.md") in capsys.readouterr().out
    text = (project / "report.md").read_text()
    assert [figure in text for figure in ("76.5", "61.2", "55.5", "A paper")] == [True] * 4
    assert (project / "figures" / "self_training.png").exists()
    assert (project / "README.md").read_text() == before
    assert run_script(*words, "--check") == 0
    assert run_script(*words, "--readme", "README.md") == 2


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_a_folder_without_records_is_named_and_nothing_is_written(project, capsys, folder):
    (project / "empty").mkdir()
    before = (project / "README.md").read_text()
    assert report(project, "--results", str(project / folder)) == 2
    assert f"error: {project / folder}: " in capsys.readouterr().err
    assert (project / "README.md").read_text() == before


def test_the_committed_pages_are_up_to_date(monkeypatch):
    monkeypatch.chdir(SCRIPT.parents[1])
    assert run_script("--check") == 0, "run python scripts/report.py and commit README.md and hub_cards/RESULTS.md"
