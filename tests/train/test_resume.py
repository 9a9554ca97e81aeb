"""Runs in processes of their own, killed and taken up again: a resumed run ends bit-equal to one that never stopped."""

import json
import multiprocessing.connection
import os
import random
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import run_script, settings_as_arguments, start, start_together
from tiny import NO_DROPOUT, tiny_settings, tree
from training import read_records
from transformers import AutoModelForSemanticSegmentation

from hf_gland.model.student import class_probabilities
from hf_gland.train.checkpoint import checkpoint_paths

STEPS, SAVE_EVERY = 14, 2
EVENTFUL = {"steps": STEPS, "save_every": SAVE_EVERY, "keep_last": 2, "validation_split": "validation", "validate_every": 5}


def arguments(run, settings, *more):
    return ["--out", str(run), *settings_as_arguments(settings), *more]


def train_once(run, settings, *more, processes=1):
    """A run to its end in one or more processes; returns its folder."""
    together = start_together(processes, run_script, "train.py", arguments(run, settings, *more))
    for process in together:
        assert process.wait() == 0, process.stderr
    return run


def recorded(run):
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def end_after(processes, run, lines, number):
    """Send a signal to the processes of a run as soon as it has recorded so many lines."""
    sentinels = [p.process.sentinel for p in processes]
    while recorded(run) < lines:
        gone = multiprocessing.connection.wait(sentinels, timeout=0.002)
        assert not gone, processes[0].stderr
    for process in processes:
        os.kill(process.process.pid, number)
    return [process.wait() for process in processes]


def whole_state(run):
    """Every byte that training left, but for the time it took."""
    last = checkpoint_paths(run)[-1]
    files = {name: content for name, content in tree(last).items() if name != "state.json"}
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


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_run_ends_as_if_it_had_never_been_killed(tiny_dataset, tmp_path, processes):
    """Killed without warning at a random record: mid-epoch, mid-bank, between checkpoints. Twice, in one process."""
    settings = tiny_settings(tiny_dataset, **EVENTFUL)
    reference = train_once(tmp_path / "reference", settings, processes=processes)
    run, more, lines = tmp_path / "run", [], SAVE_EVERY + 1
    for _ in range(2 if processes == 1 else 1):
        lines = random.SystemRandom().randint(lines, lines + 4)
        together = start_together(processes, run_script, "train.py", arguments(run, settings, *more))
        statuses = end_after(together, run, lines, signal.SIGKILL)
        assert -signal.SIGKILL in statuses
        assert not (run / "model").exists()
        more = ["--resume"]
        lines += SAVE_EVERY + 1
    train_once(run, settings, "--resume", processes=processes)
    assert_same(run, reference, lines)


def kill_at(module, name, call):
    """Die in the call-th call of a function, as a machine that loses power would."""
    import importlib

    target = importlib.import_module(module)
    original, calls = getattr(target, name), iter(range(1, 10**6))

    def die_or_call(*args, **kwargs):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(target, name, die_or_call)


def run_and_die(run, settings, *where):
    run_script("train.py", arguments(run, settings), prepare=lambda: kill_at(*where))


@pytest.fixture(scope="module")
def uninterrupted(tiny_dataset, tmp_path_factory):
    return train_once(tmp_path_factory.mktemp("whole") / "run", tiny_settings(tiny_dataset, **EVENTFUL))


@pytest.mark.parametrize("where", [
    ("hf_gland.train.checkpoint", "save_file", 3),  # half a checkpoint on disk
    ("hf_gland.train.checkpoint", "checkpoint_paths", 3),  # saved, the old ones not dropped yet
    ("hf_gland.refine.bank", "quantise", 15),  # half a bank on disk
    ("hf_gland.train.loop", "save_model_folder", 1),  # all steps taken, no model yet
    ("hf_gland.train.loop", "validate", 3),  # after the last step, before the last checkpoint
], ids=lambda where: where[1])
def test_a_run_killed_while_it_writes_goes_on(tiny_dataset, uninterrupted, tmp_path, where):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL), tmp_path / "run"
    process = start(run_and_die, run, settings, *where)
    assert process.wait() == -signal.SIGKILL, process.stderr
    train_once(run, settings, "--resume")
    assert_same(run, uninterrupted, where)
    assert not [name for name in tree(run) if ".part" in name]


def test_resuming_a_finished_run_changes_nothing(tiny_dataset, tmp_path):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL | {"steps": 4}), tmp_path / "run"
    train_once(run, settings)
    before = whole_state(run)
    train_once(run, settings, "--resume")
    assert whole_state(run) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_later(tiny_dataset, uninterrupted, tmp_path, number):
    settings, run = tiny_settings(tiny_dataset, **EVENTFUL), tmp_path / "run"
    process = start(run_script, "train.py", arguments(run, settings))
    assert end_after([process], run, 4, number) == [130]
    stopped_at = read_records(run)[-1]["step"]
    assert 4 <= stopped_at < STEPS
    assert f"stopped at step {stopped_at}; continue with --resume" in process.stderr
    assert "Traceback" not in process.stderr
    assert checkpoint_paths(run)[-1].name == f"step-{stopped_at:06d}"
    train_once(run, settings, "--resume")
    assert_same(run, uninterrupted, stopped_at)


def test_ctrl_c_before_the_first_step_ends_without_a_stack_trace(tiny_dataset, tmp_path):
    process = start(run_and_interrupt, tmp_path / "run", tiny_settings(tiny_dataset))
    assert process.wait() == 130
    assert "Traceback" not in process.stderr


def run_and_interrupt(run, settings):
    def interrupt():
        import hf_gland.train.loop as loop

        loop.load_student = lambda *_: os.kill(os.getpid(), signal.SIGINT)

    run_script("train.py", arguments(run, settings), prepare=interrupt)


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
        assert len(banks[0]) == 2 * sum(h * w for h, w in [(64, 80), (72, 80), (80, 80)] * 2)
        assert np.abs(banks[0] - banks[1]).max() <= 1
        assert banks[0].std() > 1

    def test_the_networks_agree(self, runs):
        """In what they say: a bias before a normalisation has no gradient but rounding, which Adam blows up."""
        pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        for name in ("model", "model/student"):
            networks = [AutoModelForSemanticSegmentation.from_pretrained(run / name) for run in runs]
            alone, together = (class_probabilities(network.eval(), pixels) for network in networks)
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
