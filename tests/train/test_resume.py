"""Runs in processes of their own, killed and taken up again: a resumed run ends bit-equal to one that never stopped."""

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import SCRIPTS, run_script, settings_as_arguments, start, start_together
from tiny import NO_DROPOUT, tiny_settings, tree
from training import read_records, run_training
from transformers import AutoModelForSemanticSegmentation

from hf_gland.model.student import predicted_maps
from hf_gland.train.checkpoint import CheckpointError, checkpoint_paths

STEPS, SAVE_EVERY = 14, 2
EVENTFUL = {"steps": STEPS, "save_every": SAVE_EVERY, "keep_last": 2, "validation_split": "validation", "validate_every": 5}


def arguments(run, settings, *more):
    return ["--out", str(run), *settings_as_arguments(settings), *more]


def train_once(run, settings, *more, processes=1):
    """A run to its end in one or more processes; returns its folder."""
    stderr_of(run, settings, *more, processes=processes)
    return run


def stderr_of(run, settings, *more, processes=1):
    """A run to its end; returns what its first process said."""
    together = start_together(processes, run_script, "train.py", arguments(run, settings, *more))
    for process in together:
        assert process.wait() == 0, process.stderr
    return together[0].stderr


def signal_at(module, name, call, number):
    """Send this process a signal in the call-th call of a function."""
    target = importlib.import_module(module)
    original, calls = getattr(target, name), iter(range(1, 10**6))

    def signal_or_call(*args, **kwargs):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(target, name, signal_or_call)


def run_until(run, settings, more, where, number=signal.SIGKILL, struck="0"):
    """What a process does that is to be struck by a signal; in a run of several, only one is."""
    def prepare():
        if os.environ.get("RANK", "0") == struck:
            signal_at(*where, number)

    run_script("train.py", arguments(run, settings, *more), prepare)


def kill_somewhere(run, settings, more, where, processes=1):
    """Start a run, let its first process die there, and end the others, as torchrun does."""
    first, *others = start_together(processes, run_until, run, settings, more, where)
    assert first.wait() == -signal.SIGKILL, first.stderr
    for process in others:
        process.process.kill()
        assert process.wait() != 0
    assert not (run / "model").exists()


def whole_state(run):
    """Every byte that training left, but for the time it took."""
    last = checkpoint_paths(run)[-1]
    files = {name: content for name, content in tree(last).items() if name not in ("state.json", "SHA256SUMS")}
    state = json.loads((last / "state.json").read_text())
    del state["seconds"]
    model = {f"model/{name}": content for name, content in tree(run / "model").items() if name.endswith(".safetensors")}
    return files | model | {"state": state, "checkpoint": last.name, "metrics.jsonl": (run / "metrics.jsonl").read_bytes()}


def assert_same(run, reference, killed_at):
    found, expected = whole_state(run), whole_state(reference)
    assert found.keys() == expected.keys()
    different = [name for name in expected if found[name] != expected[name]]
    assert not different, f"killed after {killed_at} records"
    assert {"student.safetensors", "teacher.safetensors", "optimizer.safetensors", "bank.u8"} <= found.keys()


@pytest.fixture(scope="module")
def uninterrupted(tiny_dataset, tmp_path_factory):
    return train_once(tmp_path_factory.mktemp("whole") / "run", tiny_settings(tiny_dataset, **EVENTFUL))


@pytest.fixture(scope="module")
def two_uninterrupted(tiny_dataset, tmp_path_factory):
    return train_once(tmp_path_factory.mktemp("whole") / "run", tiny_settings(tiny_dataset, **EVENTFUL), processes=2)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_ends_as_if_it_had_never_been_killed(tiny_dataset, tmp_path, request, processes):
    """Without warning, at a random call of something that every run does: mid-epoch, mid-bank, mid-checkpoint.

    The calls are the same in every run of the tests; with another HF_GLAND_TEST_SEED they are others.
    """
    threshold = "adaptive" if processes == 1 else "cosine"
    settings = tiny_settings(tiny_dataset, threshold=threshold, **EVENTFUL)
    seed = os.environ.get("HF_GLAND_TEST_SEED", "7")
    run, random_call = tmp_path / "run", random.Random(f"{seed} {processes}")
    reference = (request.getfixturevalue("two_uninterrupted") if processes == 2 else
                 train_once(tmp_path / "reference", settings))
    where = random_call.choice([
        ("hf_gland.train.callbacks", "append_metrics", random_call.randint(4, STEPS)),
        ("hf_gland.train.loop", "step_loss", random_call.randint(SAVE_EVERY + 1, STEPS)),
        ("hf_gland.train.loop", "update_teacher", random_call.randint(SAVE_EVERY + 1, STEPS)),
        ("hf_gland.method.pseudo_labels", "quantise", random_call.randint(1, 6)),
        ("hf_gland.train.checkpoint", "save_model", random_call.randint(3, 8)),
    ])
    kill_somewhere(run, settings, [], where, processes)
    again = ("hf_gland.train.callbacks", "append_metrics", random_call.randint(1, 2))
    kill_somewhere(run, settings, ["--resume"], again, processes)
    train_once(run, settings, "--resume", processes=processes)
    assert_same(run, reference, where)


@pytest.mark.parametrize("where", [
    ("hf_gland.train.checkpoint", "save_file", 3),  # half a checkpoint on disk
    ("hf_gland.train.checkpoint", "checkpoint_paths", 3),  # saved, the old ones not dropped yet
    ("hf_gland.method.pseudo_labels", "quantise", 15),  # half a bank on disk
    ("hf_gland.train.model_folder", "save_model_folder", 1),  # all steps taken, no model yet
    ("hf_gland.train.run", "validate", 3),  # after the last step, before the last checkpoint
], ids=lambda where: where[1])
def test_a_run_killed_while_it_writes_goes_on(tiny_dataset, uninterrupted, tmp_path, where):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL), tmp_path / "run"
    kill_somewhere(run, settings, [], where)
    train_once(run, settings, "--resume")
    assert_same(run, uninterrupted, where)
    assert not [name for name in tree(run) if ".part" in name]


@pytest.mark.parametrize("struck", [0, 1], ids=["the main process first", "the other first"])
def test_two_processes_killed_while_they_refresh_the_bank(tiny_dataset, two_uninterrupted, tmp_path, struck):
    """One dies half-way through its share; the other, at the latest when it waits for that share. The bank gets its name
    only once all shares are in it, so what they leave is no bank, and the run ends as if nothing had been."""
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL), tmp_path / "run"
    where = ("hf_gland.method.pseudo_labels", "quantise", 5)  # of 3 images a refresh: in the second refresh
    together = start_together(2, run_until, run, settings, [], where, signal.SIGKILL, str(struck))
    assert together[struck].wait() == -signal.SIGKILL
    together[1 - struck].process.kill()
    together[1 - struck].wait()
    assert [p.name for p in sorted((run / ".working" / "bank").iterdir())] == ["step-000004.u8", "step-000005.part"]
    train_once(run, settings, "--resume", processes=2)
    assert_same(run, two_uninterrupted, where)
    assert not [name for name in tree(run) if ".part" in name or ".lock" in name]


def flip_a_bit(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.unlink()
    file.write_bytes(content)


def test_a_damaged_checkpoint_is_passed_over_and_the_run_ends_the_same(tiny_dataset, uninterrupted, tmp_path):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL), tmp_path / "run"
    kill_somewhere(run, settings, [], ("hf_gland.train.callbacks", "append_metrics", 12))
    older, newer = checkpoint_paths(run)
    flip_a_bit(newer / "bank.u8")
    (run / "checkpoints" / "step-zzz").mkdir()
    (run / "checkpoints" / "step-zzz" / "state.json").write_text("{")
    said = stderr_of(run, settings, "--resume")
    assert (f"warning: {newer.name} is damaged and was set aside as damaged-{newer.name}: bank.u8 is not as it was "
            "written: its SHA-256 differs") in said
    assert f"resuming from {older.name}, the last whole checkpoint" in said
    assert_same(run, uninterrupted, newer.name)


def test_checkpoints_without_checksums_are_taken_up_and_the_time_goes_on(tiny_dataset, uninterrupted, tmp_path):
    """As versions without them wrote them; and a thousand seconds had been spent."""
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL), tmp_path / "run"
    kill_somewhere(run, settings, [], ("hf_gland.train.callbacks", "append_metrics", 12))
    last = checkpoint_paths(run)[-1]
    (last / "SHA256SUMS").unlink()
    state = json.loads((last / "state.json").read_text())
    assert 0 < state["seconds"] < 500
    (last / "state.json").write_text(json.dumps(state | {"seconds": state["seconds"] + 1000}))
    train_once(run, settings, "--resume")
    assert_same(run, uninterrupted, last.name)
    spent = json.loads((run / "model" / "training_metrics.json").read_text())["train_seconds"]
    assert 1000 + state["seconds"] < spent < 1500


def test_a_second_training_on_the_same_folder_is_refused_and_told_of_the_first(tiny_dataset, tmp_path):
    settings, run = tiny_settings(tiny_dataset, steps=2), tmp_path / "run"
    first = start(run_until, run, settings, [], ("hf_gland.train.loop", "step_loss", 2), signal.SIGSTOP)
    try:
        while not (run / "metrics.jsonl").exists():
            assert first.process.is_alive(), first.stderr
            time.sleep(0.05)
        second = start(run_script, "train.py", arguments(run, settings))
        assert second.wait() == 2
        assert f"error: {run}: process {first.process.pid} on " in second.stderr.splitlines()[-1]
        assert "Traceback" not in second.stderr
        assert len(read_records(run)) == 1
    finally:
        first.process.kill()
        first.wait()
    train_once(run, settings)  # nothing to wait for, nothing to delete
    assert not (run / ".lock").exists()


def test_a_run_takes_nothing_of_its_folder_but_what_it_made_and_never_the_place_of_a_model(tiny_dataset, tmp_path):
    settings, run = tiny_settings(tiny_dataset, steps=3), tmp_path / "run"
    for name in ("store", "bank"):
        (run / name).mkdir(parents=True)
        (run / name / "mine.csv").write_text("mine")
    run_training(run, settings)
    assert [(run / name / "mine.csv").read_text() for name in ("store", "bank")] == ["mine"] * 2
    assert not (run / ".working").exists()
    before = (run / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(CheckpointError, match=r"model: is there already, and would be replaced; give another --out"):
        run_training(run, settings | {"seed": 5})
    assert (run / "model" / "model.safetensors").read_bytes() == before


def launch(words):
    """What `accelerate launch` does: start a process, wait for it."""
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        run_script("train.py", words)


def test_a_run_whose_launcher_is_gone_saves_and_ends(tiny_dataset, tmp_path):
    """As after SIGTERM to `accelerate launch`, which dies and tells nobody."""
    settings, run = tiny_settings(tiny_dataset, steps=3000, save_every=0), tmp_path / "run"
    launcher = start(launch, arguments(run, settings), environment={"ACCELERATE_MIXED_PRECISION": "no"})
    while not (run / "metrics.jsonl").exists():
        assert launcher.process.exitcode is None, launcher.stderr
        time.sleep(0.1)
    launcher.process.kill()
    launcher.wait()
    while (run / ".lock").exists():  # the training itself is no child of ours
        time.sleep(0.1)
    (last,) = checkpoint_paths(run)
    assert f"stopped at step {int(last.name[5:])}, as its launcher is gone; continue with --resume" in launcher.stderr


def test_a_network_with_parameters_that_get_no_gradient_trains_in_two_processes(tiny_dataset, tmp_path):
    vit = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 56}
    network = json.dumps({"backbone_config": vit, "hidden_size": 16, "pool_scales": [1, 2]})
    settings = tiny_settings(tiny_dataset, backbone="random:dinov2", model_kwargs=network, steps=3, mode="sparse-only")
    run = train_once(tmp_path / "run", settings, processes=2)
    assert [record["step"] for record in read_records(run)] == [1, 2, 3]


def test_resuming_a_finished_run_changes_nothing(tiny_dataset, tmp_path):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL | {"steps": 4}), tmp_path / "run"
    train_once(run, settings)
    before = whole_state(run)
    train_once(run, settings, "--resume")
    assert whole_state(run) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later(tiny_dataset, uninterrupted, tmp_path, number):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL), tmp_path / "run"
    process = start(run_until, run, settings, [], ("hf_gland.train.loop", "step_loss", 7), number)
    assert process.wait() == 130
    assert "finishing the step, then saving" in process.stderr
    assert process.stderr.endswith("stopped at step 7; continue with --resume\n")
    assert "Traceback" not in process.stderr
    assert [p.name for p in checkpoint_paths(run)] == ["step-000006", "step-000007"]
    train_once(run, settings, "--resume")
    assert_same(run, uninterrupted, number)


def test_a_signal_to_all_of_a_runs_processes_leaves_the_loading_ones_to_the_run(tiny_dataset, tmp_path):
    """As Ctrl-C in a terminal is, and what torchrun sends when it is to end."""
    settings, run = tiny_settings(tiny_dataset, steps=3000, save_every=0, num_workers=2), tmp_path / "run"
    command = [sys.executable, str(SCRIPTS / "train.py"), *arguments(run, settings)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=600)[1]
    assert process.returncode == 130, said
    assert said.count("finishing the step, then saving") == 1
    assert "Traceback" not in said
    (last,) = checkpoint_paths(run)
    assert said.endswith(f"stopped at step {int(last.name[5:])}; continue with --resume\n")


def test_asking_one_process_to_stop_stops_them_all(tiny_dataset, tmp_path):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL), tmp_path / "run"
    where = ("hf_gland.train.loop", "update_teacher", 3)
    for process in start_together(2, run_until, run, settings, [], where, signal.SIGTERM):
        assert process.wait() == 130, process.stderr
    assert checkpoint_paths(run)[-1].name == "step-000003"


@pytest.mark.parametrize(("module", "name"), [("setup", "build_store"), ("model_folder", "save_model_folder")])
def test_ctrl_c_outside_the_steps_ends_without_a_stack_trace(tiny_dataset, tmp_path, module, name):
    settings, run = tiny_settings(tiny_dataset, steps=2), tmp_path / "run"
    process = start(run_until, run, settings, [], (f"hf_gland.train.{module}", name, 1), signal.SIGINT)
    assert process.wait() == 130
    assert "Traceback" not in process.stderr
    if name == "save_model_folder":
        train_once(run, settings, "--resume")
        assert (run / "model" / "model.safetensors").exists()


class TestTwoProcesses:
    """One process and two that share the same batch train the same network, to rounding."""

    @pytest.fixture(scope="class")
    def runs(self, tiny_dataset, tmp_path_factory):
        folder = tmp_path_factory.mktemp("processes")
        settings = tiny_settings(tiny_dataset, network=NO_DROPOUT, steps=8, learning_rate=1e-3, warmup_fraction=0.5,
                                 refreshes=1, validation_split="validation")
        return [train_once(folder / str(count), settings, processes=count) for count in (1, 2)]

    def test_losses_and_schedules_agree_step_by_step(self, runs):
        for alone, together in zip(*map(read_records, runs), strict=True):
            assert alone.keys() == together.keys()
            for key in ("loss", "ce", "dice"):
                if key in alone:
                    assert together[key] == pytest.approx(alone[key], rel=1e-4, abs=1e-5), (alone["step"], key)
            for key in ("step", "thresholds", "ema_decay", "learning_rate", "pseudo_weight"):
                assert alone.get(key) == together.get(key)

    def test_the_bank_is_the_same_within_its_quantisation(self, runs):
        banks = [np.fromfile(checkpoint_paths(run)[-1] / "bank.u8", np.uint8).astype(int) for run in runs]
        assert len(banks[0]) == 3 * sum(h * w for h, w in [(64, 80), (72, 80), (80, 80)] * 2)  # two classes, the border
        assert np.abs(banks[0] - banks[1]).max() <= 1
        assert banks[0].std() > 1

    def test_the_networks_agree(self, runs):
        """In what they say: a bias before a normalisation has no gradient but rounding, which Adam blows up."""
        pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        for name in ("model", "model/student"):
            networks = [AutoModelForSemanticSegmentation.from_pretrained(run / name) for run in runs]
            alone, together = (predicted_maps(network.eval(), pixels) for network in networks)
            torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)
            assert alone.std() > 0.01
            variances = [network.decode_head.batch_norm.running_var for network in networks]
            torch.testing.assert_close(*variances, rtol=1e-3, atol=1e-6)
            assert not torch.equal(variances[0], torch.ones_like(variances[0]))

    def test_only_the_main_process_writes(self, runs):
        assert tree(runs[0]).keys() == tree(runs[1]).keys()
        assert [r["step"] for r in read_records(runs[1]) if "loss" in r] == list(range(1, 9))
        assert json.loads((runs[1] / "model" / "training_metrics.json").read_text())["processes"] == 2


def fill_the_disk(num_bytes):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def run_on_a_full_disk(run, settings, num_bytes, *more):
    run_script("train.py", arguments(run, settings, *more), prepare=lambda: fill_the_disk(num_bytes))


def test_a_disk_that_fills_up_ends_the_run_with_an_error_and_keeps_what_was_saved(tiny_dataset, tmp_path):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL | {"steps": 4, "keep_last": 9}), tmp_path / "run"
    train_once(run, settings)
    last = checkpoint_paths(run)[-1]
    limit = max(len(content) for name, content in tree(last).items() if name != "optimizer.safetensors")
    assert (last / "optimizer.safetensors").stat().st_size > limit
    saved = tree(checkpoint_paths(run)[0])
    for path in tree(last):
        Path(last / path).unlink()
    last.rmdir()
    process = start(run_on_a_full_disk, run, settings, max(limit, 80 * 80 * 3 * 6), "--resume")
    assert process.wait() == 2
    assert process.stderr.splitlines()[-1].startswith("error: ")
    assert f"{last}: the checkpoint could not be written" in process.stderr
    assert "Traceback" not in process.stderr
    assert [p.name for p in checkpoint_paths(run)] == ["step-000002"]
    assert tree(checkpoint_paths(run)[0]) == saved
    train_once(run, settings, "--resume")
    assert checkpoint_paths(run)[-1] == last
