"""`hf-gland serve`: the options of the demo reach it."""

import sys

import pytest

from hf_gland.cli import serve
from hf_gland.cli.main import main


@pytest.mark.parametrize(("words", "handed_over"), [
    (["--model", "owner/name@v1", "--port", "8000"], ["--model", "owner/name@v1", "--port", "8000"]),
    ([], []), (["--help-app"], ["--help"])])
def test_options_go_to_the_demo(monkeypatch, words, handed_over):
    seen = []
    monkeypatch.setattr(serve, "NEEDED", ())
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(serve.runpy, "run_path", lambda path, run_name: seen.extend(sys.argv[1:]))
    assert main(["serve", *words]) == 0
    assert seen == handed_over
