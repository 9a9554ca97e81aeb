import contextlib
import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from tiny import TWO_LEVELS, tree

from hf_gland.config import make_config
from hf_gland.model.backbones import load_student
from hf_gland.model.teacher import make_teacher
from hf_gland.train import checkpoint
from hf_gland.train.checkpoint import (
    CheckpointError,
    TrainingState,
    check_same_config,
    checkpoint_paths,
    choose_checkpoint,
    damage,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
)

HISTOGRAMS = [[3] * 256, [5] * 256]


def make_state(seed=0, steps=0, bank=None):
    """A student, its teacher and its optimiser after a few steps on noise."""
    torch.manual_seed(seed)
    student = load_student("random:segformer", ("background", "gland"), None, TWO_LEVELS)
    teacher = make_teacher(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        student(pixel_values=torch.randn(2, 3, 32, 32)).logits.square().mean().backward()
        optimizer.step()
    scaler = SimpleNamespace(loaded=None, state_dict=lambda: {"scale": 2.0})
    scaler.load_state_dict = lambda values: vars(scaler).update(loaded=values)
    return TrainingState(student, teacher, optimizer, steps, bank, HISTOGRAMS if bank else None, 12.5, scaler)


def save(run, state, metrics=None, **settings):
    state.latest = metrics or {}
    return save_checkpoint(run, state, make_config(settings))


def without_checksums(path):
    """As earlier versions wrote it."""
    (path / "SHA256SUMS").unlink()
    return path


def take_a_step(state):
    torch.manual_seed(99)
    state.optimizer.zero_grad()
    state.student(pixel_values=torch.randn(2, 3, 32, 32)).logits.square().mean().backward()
    state.optimizer.step()
    return state.student.state_dict()


def test_everything_comes_back_and_training_goes_on_bit_by_bit(tmp_path):
    (tmp_path / "bank.u8").write_bytes(b"teacher")
    state = make_state(steps=3, bank=tmp_path / "bank.u8")
    path = save(tmp_path / "run", state, {"loss": 0.25})
    other = make_state(seed=7)
    load_checkpoint(path, other, make_config({}))
    assert other.scaler.loaded == {"scale": 2.0}
    assert other.latest == {"loss": 0.25}
    assert (other.step, other.histograms, other.seconds) == (3, HISTOGRAMS, 12.5)
    assert other.bank is not None
    assert other.bank.read_bytes() == b"teacher"
    for network in ("student", "teacher"):
        saved, loaded = (getattr(s, network).state_dict() for s in (state, other))
        assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    expected, found = take_a_step(state), take_a_step(other)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_optimisers_state_comes_back_to_the_device_of_its_parameters():
    """The count of steps with it, which a fused AdamW reads on the GPU."""
    network = torch.nn.Linear(2, 1, device="meta")
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    restore_optimizer(optimizer, network, {"step/bias": torch.tensor(3.0), "exp_avg/bias": torch.zeros(1)})
    assert {key: value.device.type for key, value in optimizer.state[network.bias].items()} == {
        "step": "meta", "exp_avg": "meta"}


def test_a_checkpoint_is_safetensors_json_and_the_bank(tmp_path):
    (tmp_path / "bank.u8").write_bytes(b"teacher")
    state = make_state(steps=1, bank=tmp_path / "bank.u8")
    path = save(tmp_path / "run", state, {"loss": 0.5}, seed=4)
    assert set(tree(path)) == {"student.safetensors", "teacher.safetensors", "optimizer.safetensors", "bank.u8",
                               "state.json", "training_config.json", "metrics.json", "SHA256SUMS"}
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1  # safetensors would let the owner alone read it
    assert path.name == "step-000001"
    assert json.loads((path / "metrics.json").read_text()) == {"loss": 0.5}
    assert json.loads((path / "training_config.json").read_text())["optim"]["seed"] == 4
    names = {name for name, _ in state.student.named_parameters()}
    stored = load_file(path / "optimizer.safetensors")
    assert {name.split("/", 1)[0] for name in stored} == {"exp_avg", "exp_avg_sq", "step"}
    assert {name.split("/", 1)[1] for name in stored} <= names


def test_a_run_without_a_bank_saves_none(tmp_path):
    path = save(tmp_path, make_state(steps=1))
    assert not (path / "bank.u8").exists()
    other = make_state(seed=1)
    load_checkpoint(path, other, make_config({}))
    assert other.bank is None
    assert other.histograms is None


def test_the_bank_in_a_checkpoint_outlives_the_one_it_was_taken_from(tmp_path):
    bank = tmp_path / "bank.u8"
    bank.write_bytes(b"old")
    path = save(tmp_path, make_state(steps=1, bank=bank))
    (tmp_path / "new.part").write_bytes(b"new")
    (tmp_path / "new.part").replace(bank)  # as a refresh replaces it
    assert (path / "bank.u8").read_bytes() == b"old"
    bank.unlink()
    assert (path / "bank.u8").read_bytes() == b"old"


def test_where_links_do_not_work_the_bank_is_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(checkpoint.os, "link", refuse)
    bank = tmp_path / "bank.u8"
    bank.write_bytes(b"teacher")
    path = save(tmp_path, make_state(steps=1, bank=bank))
    assert (path / "bank.u8").read_bytes() == b"teacher"


def test_only_the_last_few_are_kept(tmp_path):
    state = make_state(steps=1)
    for step in (1, 2, 10, 100):
        state.step = step
        save(tmp_path, state, keep_last=2)
    assert [p.name for p in checkpoint_paths(tmp_path)] == ["step-000010", "step-000100"]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000010", "step-000100"]


def test_saving_the_same_step_again_replaces_it(tmp_path):
    save(tmp_path, make_state(steps=2), {"loss": 1.0})
    path = save(tmp_path, make_state(seed=5, steps=2), {"loss": 2.0})
    assert checkpoint_paths(tmp_path) == [path]
    assert json.loads((path / "metrics.json").read_text()) == {"loss": 2.0}


def fails(*_):
    raise OSError("No space left on device")


@pytest.mark.parametrize("allowed", [1000, 20_000, 60_000])
def test_a_full_disk_is_an_error_and_leaves_the_earlier_checkpoints_whole(tmp_path, file_size_limit, allowed):
    state = make_state(steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_gland.train.checkpoint.save_file", fails)
        with pytest.raises(CheckpointError, match="then start again, as there is none before it"):
            save(tmp_path, state)
    earlier = save(tmp_path, state)
    before = tree(tmp_path)
    assert max(len(content) for content in before.values()) > 60_000
    state.step = 2
    file_size_limit(allowed)
    with pytest.raises(CheckpointError, match=r"step-000002: .* could not be written .*--resume"):
        save(tmp_path, state)
    assert tree(tmp_path) == before
    assert checkpoint_paths(tmp_path) == [earlier]


def test_what_a_kill_left_half_written_is_no_checkpoint_and_does_not_hinder_the_next(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    state = make_state(steps=1)
    first = save(tmp_path, state)
    state.bank = tmp_path / "bank.u8"
    for name in ("save_model", "save_file", "link_or_copy"):
        with monkeypatch.context() as patch:
            def die(*_):
                raise Killed

            patch.setattr(checkpoint, name, die)
            state.step = 2
            with pytest.raises(Killed):
                save(tmp_path, state)
        assert checkpoint_paths(tmp_path) == [first]
    state.bank = None
    assert checkpoint_paths(tmp_path) == [first]
    second = save(tmp_path, state)
    assert checkpoint_paths(tmp_path) == [first, second]
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == [first.name, second.name]


@pytest.mark.parametrize("name", ["student.safetensors", "optimizer.safetensors", "state.json", "metrics.json"])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(tmp_path, name):
    path = save(tmp_path, make_state(steps=1))
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:len(content) // 2])
    with pytest.raises(CheckpointError, match=r"step-000001: cannot be read .*delete this folder"):
        load_checkpoint(path, make_state(), make_config({}))


def test_a_checkpoint_beyond_the_end_of_the_run_is_refused(tmp_path):
    state = make_state(steps=1)
    state.step = 700
    with pytest.raises(CheckpointError, match=r"step-000700: .*it counts 700 steps, the run has 600"):
        load_checkpoint(save(tmp_path, state, steps=600), make_state(), make_config({"steps": 600}))


class TestTheLastWholeOne:
    """Of three checkpoints; what is wrong with the last is told, and it is out of the way."""

    @pytest.fixture(scope="class")
    def three(self, tmp_path_factory):
        run = tmp_path_factory.mktemp("run")
        (run / "bank.u8").write_bytes(b"teacher")
        state = make_state(steps=1, bank=run / "bank.u8")
        for state.step in (8, 10, 12):
            save(run, state, {"step": state.step}, keep_last=3)
        return run

    @pytest.fixture
    def run(self, three, tmp_path):
        return shutil.copytree(three, tmp_path / "run")

    def chosen(self, run):
        path, damaged = choose_checkpoint(run, make_config({}))
        assert not damage(path)
        return path.name, damaged

    def test_whole_checkpoints_are_found_whole_and_their_checksums_are_those_of_the_files(self, run):
        assert self.chosen(run) == ("step-000012", {})
        lines = (run / "checkpoints" / "step-000010" / "SHA256SUMS").read_text().splitlines()
        files = tree(run / "checkpoints" / "step-000010")
        assert dict(reversed(line.split("  ")) for line in lines) == {
            name: hashlib.sha256(content).hexdigest() for name, content in files.items() if name != "SHA256SUMS"}
        assert len(lines) == 7

    @pytest.mark.parametrize("name", ["student.safetensors", "teacher.safetensors", "optimizer.safetensors", "bank.u8",
                                      "state.json", "training_config.json", "metrics.json", "SHA256SUMS"])
    def test_one_flipped_bit_is_seen(self, run, name):
        file = run / "checkpoints" / "step-000012" / name
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 1
        file.unlink()  # the bank is a link
        file.write_bytes(content)
        chosen, damaged = self.chosen(run)
        assert chosen == "step-000010"
        assert damaged.keys() == {"step-000012"}
        assert name == "SHA256SUMS" or name in damaged["step-000012"]
        names = [p.name for p in sorted((run / "checkpoints").iterdir())]
        assert names == ["damaged-step-000012", "step-000008", "step-000010"]

    @pytest.mark.parametrize("old", [False, True], ids=["checksums", "no checksums"])
    @pytest.mark.parametrize("name", ["student.safetensors", "teacher.safetensors", "optimizer.safetensors", "bank.u8",
                                      "state.json", "training_config.json", "metrics.json"])
    def test_a_missing_file_is_named(self, run, name, old):
        path = run / "checkpoints" / "step-000012"
        (path / name).unlink()
        if old:
            without_checksums(path)
        assert self.chosen(run) == ("step-000010", {"step-000012": f"{name} is missing"})

    @pytest.mark.parametrize("name", ["student.safetensors", "optimizer.safetensors", "state.json", "metrics.json"])
    def test_a_file_cut_short_is_seen_without_checksums_too(self, run, name):
        path = without_checksums(run / "checkpoints" / "step-000012")
        (path / name).write_bytes((path / name).read_bytes()[:-9])
        chosen, damaged = self.chosen(run)
        assert chosen == "step-000010"
        assert damaged["step-000012"].startswith(f"{name} cannot be read")

    def test_old_checkpoints_without_checksums_are_taken(self, run):
        without_checksums(run / "checkpoints" / "step-000012")
        assert self.chosen(run) == ("step-000012", {})

    def test_a_checkpoint_under_the_name_of_another_step_is_none(self, run):
        shutil.copytree(run / "checkpoints" / "step-000010", run / "checkpoints" / "step-000099")
        chosen, damaged = self.chosen(run)
        assert chosen == "step-000012"
        assert "state.json counts 10 steps" in damaged["step-000099"]

    def test_what_only_looks_like_one_is_passed_over(self, run):
        shutil.copytree(run / "checkpoints" / "step-000010", run / "checkpoints" / "step-zzz")
        (run / "checkpoints" / "step-000013").write_text("a file")
        assert self.chosen(run) == ("step-000012", {})
        assert [p.name for p in checkpoint_paths(run)] == ["step-000008", "step-000010", "step-000012"]

    def test_several_damaged_ones_are_told_and_do_not_count_among_the_last(self, run):
        for step in (10, 12):
            (run / "checkpoints" / f"step-{step:06d}" / "bank.u8").unlink()
        assert self.chosen(run) == ("step-000008", dict.fromkeys(["step-000010", "step-000012"], "bank.u8 is missing"))
        state = make_state(steps=1)
        state.step = 9
        save(run, state, keep_last=1)
        assert [p.name for p in checkpoint_paths(run)] == ["step-000009"]

    def test_where_none_is_whole_all_are_told_and_nothing_moves(self, run):
        for path in checkpoint_paths(run):
            (path / "teacher.safetensors").unlink()
        before = tree(run)
        with pytest.raises(CheckpointError, match=r"no checkpoint is whole.*step-000012: teacher.safetensors is missing.*"
                                                  r"step-000008: .*another --out"):
            choose_checkpoint(run, make_config({}))
        assert tree(run) == before

    def test_other_settings_are_an_error_and_nothing_moves(self, run):
        (run / "checkpoints" / "step-000012" / "bank.u8").unlink()
        before = tree(run)
        with pytest.raises(CheckpointError, match=r"step-000010: was made with other settings"):
            choose_checkpoint(run, make_config({"seed": 5}))
        assert tree(run) == before


class TestKilledWhileSaving:
    """At any moment there is a whole checkpoint, even if one is kept and it is written again."""

    @pytest.mark.parametrize("step", [2, 3], ids=["the same step again", "the next step"])
    @pytest.mark.parametrize("where", [("replace", n) for n in (1, 2, 3, 4)] + [("rmtree", 1), ("rmtree", 2)], ids=str)
    def test_one_is_left(self, tmp_path, monkeypatch, step, where):
        class Killed(BaseException):
            pass

        state = make_state(steps=2)
        save(tmp_path, state, {"loss": 1.0}, keep_last=1)
        state.step = step
        name, last_call = where
        owner, calls = (checkpoint.os if name == "replace" else checkpoint.shutil), iter(range(1, 100))
        original = getattr(owner, name)

        def die(*arguments, **options):
            if next(calls) == last_call:
                raise Killed
            return original(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, die)
            with contextlib.suppress(Killed):
                save(tmp_path, state, {"loss": 2.0}, keep_last=1)
        path, damaged = choose_checkpoint(tmp_path, make_config({"keep_last": 1}))
        assert not damaged
        other = make_state(seed=3)
        load_checkpoint(path, other, make_config({}))
        assert other.step in (2, step)
        assert all(torch.equal(a, b) for a, b in zip(state.student.parameters(), other.student.parameters(), strict=True))
        save(tmp_path, state, {"loss": 2.0}, keep_last=1)
        assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == [f"step-{step:06d}"]
        assert json.loads((tmp_path / "checkpoints" / f"step-{step:06d}" / "metrics.json").read_text()) == {"loss": 2.0}


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = save(tmp_path, make_state(steps=1))
    other = make_state()
    other.student = load_student("random:segformer", ("background", "gland"), None, TWO_LEVELS | {"decoder_hidden_size": 24})
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(path, other, make_config({}))


class TestSameConfig:
    def test_settings_that_change_the_result_are_named(self, tmp_path):
        path = save(tmp_path, make_state(steps=1), seed=1, dataset="a")
        changed = make_config({"seed": 2, "dataset": "a", "learning_rate": 0.5})
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path, make_state(), changed)
        message = str(caught.value)
        assert "seed 1 → 2" in message
        assert "→ 0.5" in message
        assert "dataset" not in message
        assert "--out" in message

    def test_where_the_data_lie_may_change_as_their_checksum_and_order_tell(self, tmp_path):
        state, moved = make_state(steps=1), make_config({"dataset": "elsewhere/a"})
        state.origin = {"data_sha256": ["1", None], "images": "x"}
        path = save(tmp_path, state, dataset="a")
        same, other, turned = make_state(), make_state(), make_state()
        same.origin = dict(state.origin)
        assert load_checkpoint(path, same, moved) == ""
        other.origin = state.origin | {"data_sha256": ["2", None]}
        with pytest.raises(CheckpointError, match="other data than elsewhere/a holds now"):
            load_checkpoint(path, other, moved)
        turned.origin = state.origin | {"images": "y"}
        with pytest.raises(CheckpointError, match="same images in another order"):
            load_checkpoint(path, turned, moved)

    def test_settings_that_only_say_how_to_run_may_change(self, tmp_path):
        path = save(tmp_path, make_state(steps=1))
        check_same_config(path, make_config({"num_workers": 2, "save_every": 7, "keep_last": 5, "tracker": "none",
                                             "validate_every": 3, "panels_every": 2}))

    def test_a_setting_that_is_newer_than_the_checkpoint_counts_as_its_default(self, tmp_path):
        path = save(tmp_path, make_state(steps=1))
        saved = json.loads((path / "training_config.json").read_text())
        del saved["augment"]["blur_px"]
        (path / "training_config.json").write_text(json.dumps(saved))
        check_same_config(path, make_config({}))
        with pytest.raises(CheckpointError, match="blur_px"):
            check_same_config(path, make_config({"blur_px": 0.3}))

    def test_settings_of_earlier_versions_that_had_no_effect_do_not_matter(self, tmp_path):
        """They stood flat in the file and were kept whether they had an effect or not."""
        path = without_checksums(save(tmp_path, make_state(steps=1)))
        flat = make_config({}).by_short_name() | {"threshold": "adaptive", "threshold_start": 0.7, "ema_start": 0.5}
        (path / "training_config.json").write_text(json.dumps(flat))
        check_same_config(path, make_config({"ema_start": 0.5}))
        with pytest.raises(CheckpointError, match=r"settings \(ema_start 0.5 → 0.99\)"):
            check_same_config(path, make_config({}))
        before = flat | {"ema": False, "threshold": "cosine", "threshold_start": 0.95}
        (path / "training_config.json").write_text(json.dumps(before))
        now = {"ema": False, "threshold": "cosine", "threshold_start": 0.85}
        with pytest.raises(CheckpointError, match=r"settings \(threshold_start 0.95 → 0.85\)"):
            check_same_config(path, make_config(now))

    @pytest.mark.parametrize("content", ["{", '{"a_setting_of_the_future": 1}', "[1]"])
    def test_settings_that_cannot_be_read_are_an_error_that_names_the_checkpoint(self, tmp_path, content):
        path = save(tmp_path, make_state(steps=1))
        (path / "training_config.json").write_text(content)
        with pytest.raises(CheckpointError, match="step-000001"):
            check_same_config(path, make_config({}))
