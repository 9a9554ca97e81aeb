"""`hf-gland` itself: finding the command, and errors as one line."""

import subprocess
import sys
import types

import pytest
from PIL import Image
from tiny_model import save_tiny_model

from hf_gland.cli import main as cli
from hf_gland.errors import HfGlandError


@pytest.fixture
def command(monkeypatch):
    """A command `demo` that does what its only argument says."""
    import argparse

    def build_parser():
        parser = argparse.ArgumentParser()
        parser.add_argument("what")
        return parser

    def run(arguments):
        if arguments.what == "fail":
            raise HfGlandError("x.png: no such file")
        if arguments.what == "stop":
            raise KeyboardInterrupt
        return {"three": 3}.get(arguments.what)

    module = types.SimpleNamespace(build_parser=build_parser, run=run, INTERRUPTED="stopped; go on with --resume")
    monkeypatch.setitem(sys.modules, "hf_gland.cli.demo", module)


@pytest.mark.parametrize(("word", "status"), [("nothing", 0), ("three", 3), ("fail", 2), ("stop", 130)])
def test_a_command_ends_with_its_own_status_or_that_of_what_went_wrong(command, word, status):
    assert cli.main(["demo", word]) == status


def test_an_error_is_one_line_that_names_the_file(command, capsys):
    cli.main(["demo", "fail"])
    assert capsys.readouterr().err == "error: x.png: no such file\n"
    cli.main(["demo", "fail", "--traceback"])
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("error: x.png: no such file\n")


def test_an_installation_with_parts_missing_is_said_in_one_line_too(monkeypatch, capsys):
    def broken(name):
        raise HfGlandError("hub_cards: missing from this installation")

    monkeypatch.setattr(cli.importlib, "import_module", broken)
    assert cli.main(["publish", "--help"]) == 2
    assert capsys.readouterr().err == "error: hub_cards: missing from this installation\n"


def test_an_interrupted_command_says_how_to_go_on(command, capsys):
    cli.main(["demo", "stop"])
    assert capsys.readouterr().err == "stopped; go on with --resume\n"


def test_the_list_of_commands_is_the_help(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    for name in ("demo", "build", "train", "predict", "evaluate", "calibrate", "publish", "serve", "doctor"):
        assert f"\n  {name} " in shown
    with pytest.raises(SystemExit) as stop:
        cli.main(["pretrain"])
    assert stop.value.code == 2


@pytest.mark.parametrize("name", ["demo", "calibrate", "cam", "publish", "serve", "doctor"])
def test_help_needs_no_torch(name):
    """Measured in time this would depend on the machine; torch and transformers are what takes the seconds."""
    code = ("import sys; from hf_gland.cli.main import COMMANDS, main\n"
            "try: main([sys.argv[1], '--help'])\n"
            "except SystemExit as stop: assert stop.code == 0\n"
            "assert not {'torch', 'transformers', 'datasets', 'gradio'} & set(sys.modules), 'slow imports'")
    subprocess.run([sys.executable, "-c", code, name], check=True, capture_output=True)


def test_the_demo_does_not_remove_a_folder_that_is_not_its_own(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert "something else than a training" in capsys.readouterr().err
    assert (tmp_path / "run" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(("program", "words"), [("/usr/bin/hf-gland", "hf-gland train --out a"),
                                                ("/lib/hf_gland/__main__.py", "python -m hf_gland train --out a")])
def test_the_command_is_recorded_as_it_can_be_given_again(monkeypatch, program, words):
    for name in ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", [program, "train", "--out", "a"])
    assert cli.own_command() == words


@pytest.mark.parametrize("name", ["predict", "suggest", "evaluate", "calibrate"])
def test_a_device_that_is_none_is_told_by_each_command_that_takes_one(name, tiny_dataset, tmp_path, capsys):
    model = str(save_tiny_model(tmp_path / "model"))
    (tmp_path / "model" / "training_config.json").write_text('{"train_split": "train"}')
    (tmp_path / "model" / "training_metrics.json").write_text("{}")
    pictures, out = tmp_path / "pictures", ["--out", str(tmp_path / "out")]
    pictures.mkdir()
    Image.new("RGB", (64, 64)).save(pictures / "a.png")
    words = {"predict": [str(pictures), "--model", model, *out], "suggest": [str(pictures), "--model", model, *out],
             "evaluate": [model, str(tiny_dataset), "--split", "validation", *out],
             "calibrate": [model, str(tiny_dataset)]}[name]
    assert cli.run_command(name, [*words, "--device", "gpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: device 'gpu' cannot be used here: ")


@pytest.mark.parametrize(("environment", "words"), [
    ({}, "python scripts/train.py --out a"),
    ({"ACCELERATE_MIXED_PRECISION": "no"}, "accelerate launch scripts/train.py --out a"),
    ({"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "3"}, "torchrun --nproc-per-node 3 scripts/train.py --out a")])
def test_the_command_is_recorded_with_its_launcher(monkeypatch, environment, words):
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "--out", "a"])
    for name in ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert cli.own_command() == words
