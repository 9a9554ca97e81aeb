import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import NETWORK, tree

from hf_gland.config import make_config
from hf_gland.model.student import load_student
from hf_gland.model.teacher import make_teacher
from hf_gland.train import checkpoint
from hf_gland.train.checkpoint import (
    CheckpointError,
    TrainingState,
    check_same_config,
    checkpoint_paths,
    load_checkpoint,
    save_checkpoint,
)

HISTOGRAMS = [[3] * 256, [5] * 256]


def make_state(seed=0, steps=0, bank=None):
    """A student, its teacher and its optimiser after a few steps on noise."""
    torch.manual_seed(seed)
    student = load_student("random:segformer", ("background", "gland"), None, NETWORK)
    teacher = make_teacher(student)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        student(pixel_values=torch.randn(2, 3, 32, 32)).logits.square().mean().backward()
        optimizer.step()
    return TrainingState(student, teacher, optimizer, steps, bank, HISTOGRAMS if bank else None, 12.5)


def save(run, state, metrics=None, **settings):
    return save_checkpoint(run, state, make_config(settings), {"scale": 2.0}, metrics or {})


def take_a_step(state):
    torch.manual_seed(99)
    state.optimizer.zero_grad()
    state.student(pixel_values=torch.randn(2, 3, 32, 32)).logits.square().mean().backward()
    state.optimizer.step()
    return state.student.state_dict()


def test_everything_comes_back_and_training_goes_on_bit_by_bit(tmp_path):
    (tmp_path / "bank.u8").write_bytes(b"teacher")
    state = make_state(steps=3, bank=tmp_path / "bank.u8")
    path = save(tmp_path / "run", state)
    other = make_state(seed=7)
    assert load_checkpoint(path, other, make_config({})) == {"scale": 2.0}
    assert (other.step, other.histograms, other.seconds) == (3, HISTOGRAMS, 12.5)
    assert other.bank is not None
    assert other.bank.read_bytes() == b"teacher"
    for network in ("student", "teacher"):
        saved, loaded = (getattr(s, network).state_dict() for s in (state, other))
        assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    expected, found = take_a_step(state), take_a_step(other)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_checkpoint_is_safetensors_json_and_the_bank(tmp_path):
    (tmp_path / "bank.u8").write_bytes(b"teacher")
    state = make_state(steps=1, bank=tmp_path / "bank.u8")
    path = save(tmp_path / "run", state, {"loss": 0.5}, seed=4)
    assert set(tree(path)) == {"student.safetensors", "teacher.safetensors", "optimizer.safetensors", "bank.u8",
                               "state.json", "training_config.json", "metrics.json"}
    assert path.name == "step-000001"
    assert json.loads((path / "metrics.json").read_text()) == {"loss": 0.5}
    assert json.loads((path / "training_config.json").read_text())["seed"] == 4
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


@pytest.mark.parametrize("allowed", [1000, 20_000, 60_000])
def test_a_full_disk_is_an_error_and_leaves_the_earlier_checkpoints_whole(tmp_path, file_size_limit, allowed):
    state = make_state(steps=1)
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


@pytest.mark.parametrize("name", ["student.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_an_error_that_says_what_to_do(tmp_path, name):
    path = save(tmp_path, make_state(steps=1))
    content = (path / name).read_bytes()
    (path / name).write_bytes(content[:len(content) // 2])
    with pytest.raises(CheckpointError, match=r"step-000001: cannot be read .*delete this folder"):
        load_checkpoint(path, make_state(), make_config({}))


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    path = save(tmp_path, make_state(steps=1))
    other = make_state()
    other.student = load_student("random:segformer", ("background", "gland"), None, NETWORK | {"decoder_hidden_size": 24})
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

    def test_settings_that_only_say_how_to_run_may_change(self, tmp_path):
        path = save(tmp_path, make_state(steps=1))
        check_same_config(path, make_config({"num_workers": 2, "save_every": 7, "keep_last": 5, "tracker": "none",
                                             "validate_every": 3, "panels_every": 2}))

    def test_a_setting_that_is_newer_than_the_checkpoint_counts_as_its_default(self, tmp_path):
        path = save(tmp_path, make_state(steps=1))
        saved = json.loads((path / "training_config.json").read_text())
        del saved["blur_px"]
        (path / "training_config.json").write_text(json.dumps(saved))
        check_same_config(path, make_config({}))
        with pytest.raises(CheckpointError, match="blur_px"):
            check_same_config(path, make_config({"blur_px": 0.3}))

    @pytest.mark.parametrize("content", ["{", '{"a_setting_of_the_future": 1}', "[1]"])
    def test_settings_that_cannot_be_read_are_an_error_that_names_the_checkpoint(self, tmp_path, content):
        path = save(tmp_path, make_state(steps=1))
        (path / "training_config.json").write_text(content)
        with pytest.raises(CheckpointError, match="step-000001"):
            check_same_config(path, make_config({}))
