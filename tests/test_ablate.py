"""The grid of methods: which commands it runs, and that it resumes."""

import contextlib
import importlib.util
import io
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hf_gland.config import read_config_file
from hf_gland.evaluation.records import read_result

SCRIPT = Path(__file__).parents[1] / "scripts" / "ablate.py"


specification = importlib.util.spec_from_file_location("ablate", SCRIPT)
ablate = importlib.util.module_from_spec(specification)
sys.modules["ablate"] = ablate  # dataclasses look there
specification.loader.exec_module(ablate)


def dry_run(*arguments: str) -> list[list[str]]:
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(told):
        patch.setattr(sys, "argv", ["ablate.py", "--archive", "GLAS.zip", "--out", "runs/grid", "--dry-run", *arguments])
        assert ablate.main() == 0
    return [shlex.split(line) for line in told.getvalue().splitlines() if ".py" in line]


def script(command: list[str]) -> str:
    return Path(command[1]).name


def test_a_cell_is_a_dataset_a_training_and_an_evaluation():
    commands = dry_run("--variants", "ours", "full", "--seeds", "0", "1")
    assert [script(c) for c in commands] == ["build_dataset.py", "train.py", "evaluate.py"] * 4
    runs = [c[c.index("--out") + 1] for c in commands if script(c) == "train.py"]
    assert len(set(runs)) == 4


def test_the_main_table_on_a_gpu_is_one_command():
    commands = dry_run("--config", "gpu", "--seeds", "0", "1", "2")
    trainings = [c for c in commands if script(c) == "train.py"]
    told = [tuple(c[c.index(f"--{name}") + 1] for name in ("config", "variant", "seed")) for c in trainings]
    assert told == [("gpu", name, seed) for name in ("ours", "sparse-only", "full") for seed in "012"]
    assert all("--backbone" not in c for c in trainings)  # the recipe's
    assert {c[c.index("--results") + 1] for c in commands if script(c) == "evaluate.py"} == {"runs/grid/results"}


def test_a_training_is_that_of_the_variant_it_is_named_for():
    for name in ("ours", "naive", "no-ema", "cam"):
        training = next(c for c in dry_run("--variants", name) if script(c) == "train.py")
        assert training[training.index("--variant") + 1] == name


def test_what_is_not_a_training_of_its_own_is_not_in_the_grid():
    with pytest.raises(SystemExit):
        dry_run("--variants", "joined")


def test_where_no_stroma_is_labelled_unlabelled_pixels_are_assumed_background():
    def assumes(variant: str, background: str) -> bool:
        return "assume" in next(c for c in dry_run("--variants", variant, "--backgrounds", background)
                                if script(c) == "train.py")

    assert assumes("ours", "none")
    assert not assumes("ours", "rim")
    assert assumes("sparse-only", "none")
    assert not assumes("sparse-only", "rim")
    assert not assumes("ours", "rim+scribble")
    assert not assumes("full", "none")
    images = dry_run("--variants", "ours", "--styles", "images", "--budgets", "0.1", "--backgrounds", "none")
    build, train, _ = images
    assert build[build.index("--style") + 1:][:1] + build[build.index("--budget") + 1:][:1] == ["images", "0.1"]
    assert "assume" not in train


def test_each_fold_is_a_dataset_a_training_and_a_measurement_of_its_own():
    commands = dry_run("--variants", "ours", "full", "--folds", "3", "--budgets", "0.2", "1", "--seeds", "0", "1")
    steps = ("build_dataset.py", "train.py", "evaluate.py")
    by_script = {name: [command for command in commands if script(command) == name] for name in steps}
    assert {name: len(found) for name, found in by_script.items()} == dict.fromkeys(by_script, 3 * 2 * (2 + 1))  # full once
    for build, train, evaluate in zip(*by_script.values(), strict=True):
        fold = build[build.index("--fold") + 1]
        assert build[build.index("--folds") + 1] == "3"
        assert train[train.index("--dataset") + 1] == evaluate[3] == build[build.index("--out") + 1]
        assert evaluate[evaluate.index("--split") + 1:][:2] == [f"test_fold{fold}of3", "--out"]
    assert len({c[c.index("--out") + 1] for c in by_script["train.py"]}) == 18
    assert len({c[c.index("--out") + 1] for c in by_script["build_dataset.py"]}) == 6
    with pytest.raises(SystemExit):
        dry_run("--folds", "1")


def test_cam_trains_on_activation_maps_and_is_measured_on_the_same_test_images():
    build, maps, train, evaluate = dry_run("--variants", "cam", "--backbone", "encoder")
    assert script(maps) == "cam.py"
    assert maps[maps.index("--dataset") + 1] == build[build.index("--out") + 1] == evaluate[3]
    assert train[train.index("--dataset") + 1] == maps[maps.index("--out") + 1]
    assert "encoder" in maps


def test_what_learns_from_dense_masks_runs_once_whatever_is_annotated():
    commands = dry_run("--variants", "cam", "full", "ours", "--budgets", "0.2", "1", "--seeds", "0", "1")
    trained = [Path(c[c.index("--out") + 1]).name for c in commands if script(c) == "train.py"]
    once = [f"{variant}_glands-rim+scribble-0.2_seed{seed}" for variant in ("cam", "full") for seed in (0, 1)]
    each = [f"ours_glands-rim+scribble-{budget}_seed{seed}" for budget in ("0.2", "1") for seed in (0, 1)]
    assert trained == once + each
    maps = [c[c.index("--out") + 1] for c in commands if script(c) == "cam.py"]
    assert len(maps) == len(set(maps)) == 2


def test_only_a_checkpoint_is_resumed(tmp_path):
    assert not ablate.has_checkpoint(tmp_path)
    (tmp_path / "checkpoints" / "step-zzz").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-000001").write_text("a file")
    assert not ablate.has_checkpoint(tmp_path)
    (tmp_path / "checkpoints" / "step-000002").mkdir()
    assert ablate.has_checkpoint(tmp_path)


def test_records_go_beside_the_runs_unless_told_otherwise_and_replace_no_others_unless_told():
    def evaluation(*arguments: str) -> list[str]:
        return next(c for c in dry_run(*arguments) if script(c) == "evaluate.py")

    command = evaluation("--variants", "ours")
    assert command[command.index("--results") + 1] == "runs/grid/results"
    assert "--overwrite" not in command
    command = evaluation("--variants", "ours", "--results", "kept", "--overwrite")
    assert command[command.index("--results") + 1] == "kept"
    assert "--overwrite" in command


def test_a_measured_cell_is_not_run_again(tmp_path, monkeypatch):
    cell = "ours_glands-rim+scribble-0.2_seed0"
    (tmp_path / "datasets" / "glands-rim+scribble-0.2").mkdir(parents=True)
    for done in ("model", "evaluation"):
        (tmp_path / "runs" / cell / done).mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["ablate.py", "--archive", "missing.zip", "--out", str(tmp_path), "--variants", "ours"])
    monkeypatch.setattr(subprocess, "run", lambda command, **_: pytest.fail(f"runs {command}"))
    assert ablate.main() == 0


def test_other_splits_are_measured_and_other_results_are_filled(tmp_path, monkeypatch):
    (tmp_path / "datasets" / "glands-rim+scribble-0.2").mkdir(parents=True)
    run = tmp_path / "runs" / "ours_glands-rim+scribble-0.2_seed0"
    (run / "model").mkdir(parents=True)
    shipped = next((Path(__file__).parents[1] / "hub_cards" / "results").glob("glas_train_testA_ours_bench_*_seed0.json"))
    (run / "evaluation").mkdir()
    shutil.copy(shipped, run / "evaluation")
    grid, seen = ["ablate.py", "--archive", "missing.zip", "--out", str(tmp_path), "--variants", "ours"], []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: seen.append(command))
    monkeypatch.setattr(sys, "argv", [*grid, "--results", str(tmp_path / "other")])
    assert (ablate.main(), seen) == (0, [])
    assert [path.name for path in (tmp_path / "other").iterdir()] == [shipped.name]
    monkeypatch.setattr(sys, "argv", [*grid, "--splits", "testB"])
    assert ablate.main() == 0
    assert [(script(command), command[command.index("--split") + 1]) for command in seen] == [("evaluate.py", "testB")]


def test_the_record_of_another_run_fails_a_measured_cell_unless_it_may_be_replaced(tmp_path, monkeypatch, capsys):
    (tmp_path / "datasets" / "glands-rim+scribble-0.2").mkdir(parents=True)
    run = tmp_path / "runs" / "ours_glands-rim+scribble-0.2_seed0"
    (run / "model").mkdir(parents=True)
    shipped = next((Path(__file__).parents[1] / "hub_cards" / "results").glob("glas_train_testA_ours_bench_*_seed0.json"))
    there = read_result(shipped)
    own = replace(there, commit="of this grid")
    own.write(run / "evaluation")
    there.write(tmp_path / "results")
    grid = ["ablate.py", "--archive", "missing.zip", "--out", str(tmp_path), "--variants", "ours"]
    monkeypatch.setattr(subprocess, "run", lambda command, **_: pytest.fail(f"runs {command}"))
    monkeypatch.setattr(sys, "argv", grid)
    assert ablate.main() == 2
    assert "is the record of another run (commit" in capsys.readouterr().err
    assert read_result(tmp_path / "results" / there.name) == there
    monkeypatch.setattr(sys, "argv", [*grid, "--overwrite"])
    assert ablate.main() == 0
    assert read_result(tmp_path / "results" / there.name) == own
    monkeypatch.setattr(sys, "argv", grid)
    assert ablate.main() == 0  # its own by now


@pytest.mark.parametrize("other", [("--config", "full"), ("--backbone", "encoder"), ("--val-fraction", "0.2"),
                                   ("--archive", "other.zip")])
def test_one_folder_is_for_one_grid(tmp_path, monkeypatch, capsys, other):
    (tmp_path / "datasets" / "glands-rim+scribble-0.2").mkdir(parents=True)
    grid = ["ablate.py", "--archive", "missing.zip", "--out", str(tmp_path), "--variants", "ours"]
    monkeypatch.setattr(subprocess, "run", lambda command, **_: None)
    monkeypatch.setattr(sys, "argv", grid)
    assert (ablate.main(), ablate.main()) == (0, 0)
    monkeypatch.setattr(sys, "argv", [*grid, "--archive", str(tmp_path / "missing.zip")])
    assert ablate.main() == 0
    monkeypatch.setattr(sys, "argv", [*grid, *other])
    assert ablate.main() == 2
    assert f"holds another grid ({other[0]} " in capsys.readouterr().err


@pytest.mark.parametrize(("said", "jobs", "threads"), [(None, 1, "4"), (None, 2, "2"), (None, 8, "1"), ("3", 2, "3")])
def test_cells_share_the_cores_unless_told_otherwise(tmp_path, monkeypatch, said, jobs, threads):
    (tmp_path / "datasets" / "glands-rim+scribble-0.2").mkdir(parents=True)
    seen = []
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.delenv("HF_GLAND_THREADS", raising=False)
    if said:
        monkeypatch.setenv("HF_GLAND_THREADS", said)
    monkeypatch.setattr(sys, "argv", ["ablate.py", "--archive", "missing.zip", "--out", str(tmp_path), "--variants", "ours",
                                      "--jobs", str(jobs)])
    monkeypatch.setattr(subprocess, "run", lambda command, env, **_: seen.append(env["HF_GLAND_THREADS"]))
    assert ablate.main() == 0
    assert seen == [threads] * 2  # training and evaluation


def test_a_cell_that_fails_is_named_with_its_log(tmp_path, monkeypatch, capsys):
    (tmp_path / "datasets" / "glands-rim+scribble-0.2").mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["ablate.py", "--archive", "missing.zip", "--out", str(tmp_path), "--variants", "ours",
                                      "--config", "missing.toml"])
    assert ablate.main() == 2
    said = capsys.readouterr().err
    assert "ours_glands-rim+scribble-0.2_seed0" in said
    log = next((tmp_path / "logs").glob("ours*.log"))
    assert str(log) in said
    assert "missing.toml: cannot be read" in said


def test_a_dataset_that_cannot_be_built_ends_the_grid_with_the_reason(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ablate.py", "--archive", "GLAS.zip", "--out", str(tmp_path), "--budgets", "one"])
    assert ablate.main() == 2
    said = capsys.readouterr().err
    assert "invalid budget value: 'one'" in said
    assert str(next((tmp_path / "logs").glob("dataset*.log"))) in said


def test_the_default_recipe_exists():
    assert read_config_file("bench")["steps"] > 0
