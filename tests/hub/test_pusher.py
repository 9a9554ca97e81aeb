"""Checkpoints on their way to a Hub that is slow, dies, or is not there."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tiny import tree

from hf_gland.hub.errors import HubError
from hf_gland.hub.pusher import CheckpointPusher


@pytest.fixture
def copied_run(run, tmp_path):
    """A run of its own."""
    shutil.copytree(run, tmp_path / "run")
    return tmp_path / "run"


def push(client, hub, plan, run, repo, **environment):
    return client.run("push.py", plan, run, repo, hub.folder, hub.process.pid, environment=environment)


def test_a_slow_hub_does_not_hold_up_training(hub, client, copied_run):
    seen = push(client, hub, "slow_hub", copied_run, "me/slow").result
    assert seen == {"arrived": True, "left": False, "said": [
        "commits while it holds: 1", "sending what is left to me/slow, for 600 s at most …", "pushed to me/slow"]}
    # The newest waits while one is sent; those between are skipped.
    assert hub.commits("models", "me/slow") == ["Trained model", "Training, step 2", "initial commit"]
    files = hub.files("models", "me/slow")
    readme = files.pop("README.md").decode()
    assert files == tree(copied_run / "model")
    assert "not measured yet" in readme
    assert "- hf_gland" in readme


def test_a_hub_that_dies_costs_nothing_and_publishing_completes_it(hub, client, copied_run):
    seen = push(client, hub, "hub_that_dies", copied_run, "me/dying").result
    assert seen["arrived"] is seen["left"] is False
    assert any("Training goes on" in line for line in seen["said"])
    assert not any("run the same command again" in line for line in seen["said"])
    assert seen["said"][-1].endswith(f"send it with: hf upload me/dying {copied_run / 'model'} .")
    hub.process.wait()
    hub.start()
    files = hub.files("models", "me/dying")
    assert files["last-checkpoint/student.safetensors"] == b"weights after step 2"
    assert json.loads(files["last-checkpoint/state.json"]) == {"step": 2}
    assert files["training_log.jsonl"] == b'{"step": 2}\n'

    assert client.publish("model", copied_run, "--repo", "me/dying").status == 0
    files = hub.files("models", "me/dying")
    model, results = tree(copied_run / "model"), {f"results/{p.name}" for p in (copied_run / "evaluation").iterdir()}
    assert {path: files[path] for path in model} == model
    assert set(files) == set(model) | results | {"README.md", "media/predictions.png"}
    assert hub.commits("models", "me/dying") == ["Publish the model", "Training, step 2", "initial commit"]


def test_a_hub_that_comes_late_gets_the_last_checkpoint(hub, client, copied_run):
    seen = push(client, hub, "hub_that_comes_late", copied_run, "me/late").result
    assert seen["arrived"] is True
    assert "Training starts all the same" in seen["said"][0]
    assert seen["said"][-1] == "pushed to me/late"
    hub.process.wait()
    hub.start()
    assert hub.commits("models", "me/late") == ["Training, step 2", "initial commit"]
    assert "last-checkpoint/student.safetensors" in hub.files("models", "me/late")


def test_an_interrupted_run_does_not_put_an_older_checkpoint_over_its_last(tmp_path, monkeypatch):
    sent, failed, under_way, answer = [], threading.Event(), threading.Event(), threading.Event()

    def send(pusher, parcel):
        if not failed.is_set():
            raise HubError("me/x: the Hub does not answer")
        under_way.set()
        assert answer.wait(30)
        sent.append(parcel.message)

    def say(line):
        if "missing is tried again" in line:
            failed.set()
        if "sending what is left" in line:
            answer.set()

    monkeypatch.setattr(CheckpointPusher, "_send", send)
    for at_the_start in ("check_place", "open_repository"):
        monkeypatch.setattr(f"hf_gland.hub.pusher.{at_the_start}", lambda *_, **__: "head")
    pusher = CheckpointPusher("me/x", tmp_path, say=say)
    pusher.start()
    for step in (1, 2):
        checkpoint = tmp_path / f"step-{step:06d}"
        checkpoint.mkdir()
        (checkpoint / "state.json").write_text("{}")
        pusher.on_checkpoint(checkpoint)
        assert (failed if step == 1 else under_way).wait(30)
    assert pusher.on_interrupt()
    assert sent == ["Training, step 2"]


@pytest.mark.parametrize(("token", "said"), [("", "no Hugging Face token"), ("hf_local_reader", "no permission to write")])
def test_what_waiting_would_not_mend_is_said_before_training(hub, client, copied_run, token, said):
    outcome = push(client, hub, "start", copied_run, "me/nowhere", HF_TOKEN=token)
    assert outcome.status == 2
    assert said in outcome.stderr


@pytest.mark.parametrize(("plan", "repo"), [("busy", "me/busy"), ("overtaken", "me/overtaken")])
def test_the_model_arrives_though_its_first_commits_are_refused(hub, client, copied_run, plan, repo):
    seen = push(client, hub, plan, copied_run, repo).result
    assert seen["arrived"] is True
    assert seen["said"][-1] == f"pushed to {repo}"
    files = hub.files("models", repo)
    assert files["model.safetensors"] == (copied_run / "model" / "model.safetensors").read_bytes()
    assert hub.commits("models", repo) == ["Trained model", "initial commit"]


def test_a_hub_that_is_busy_at_the_start_does_not_stop_training(hub, client, copied_run):
    seen = push(client, hub, "busy_at_start", copied_run, "me/busy-at-start").result
    assert seen["arrived"] is True
    assert "answered 429" in seen["said"][0]
    assert "Training starts all the same" in seen["said"][0]


def test_what_others_put_into_the_repository_stays(hub, client, copied_run):
    """A checkpoint takes the place of the one before; the model that of what this package published; all else stays."""
    seen = push(client, hub, "shared_repository", copied_run, "me/with-others").result
    assert "last-checkpoint/state.json,last-checkpoint/student.safetensors,notes.txt,results/old.json" in seen["said"]
    assert "left as they are in me/with-others, not from this run: notes.txt" in seen["said"]
    files = hub.files("models", "me/with-others")
    assert files.pop("notes.txt") == b"by hand"
    files.pop("README.md")
    assert files == tree(copied_run / "model")


def test_the_printed_remedy_sends_the_model(hub, client, copied_run):
    """`hf upload`, as the last line says when a model did not arrive: it needs no result records."""
    seen = push(client, hub, "hub_that_dies", copied_run, "me/remedy").result
    hub.process.wait()
    hub.start()
    command = shlex.split(seen["said"][-1].rpartition("send it with: ")[2])
    done = subprocess.run([str(Path(sys.executable).with_name(command[0])), *command[1:]], capture_output=True, text=True,
                          env=os.environ | hub.environment)
    assert done.returncode == 0, done.stderr
    assert hub.files("models", "me/remedy")["model.safetensors"] == (copied_run / "model/model.safetensors").read_bytes()
