"""What a user can get wrong, and what the Hub can refuse: a message with the remedy, and nothing half done."""

import json

import pytest

from hf_gland.hub.errors import HubError
from hf_gland.hub.repository import check_place

METRIC = ["metric", "--repo"]


def refused(outcome) -> str:
    """The message of a command that failed as it should."""
    assert outcome.status == 2
    assert outcome.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in outcome.stderr
    assert "hf_local" not in outcome.stdout + outcome.stderr
    return outcome.stderr.splitlines()[-1]


@pytest.mark.parametrize(("environment", "said", "remedy"), [
    ({"HF_TOKEN": ""}, "no Hugging Face token", "run `hf auth login`, or set HF_TOKEN"),
    ({"HF_TOKEN": "hf_mistyped"}, "the token was refused", "set HF_TOKEN to a token from"),
    ({"HF_TOKEN": "hf_local_reader"}, "no permission to write", "Use a token with write access from"),
])
def test_tokens(hub, client, environment, said, remedy):
    message = refused(client.publish(*METRIC, "me/nothing", environment=environment))
    assert said in message
    assert remedy in message
    assert "spaces/me/nothing" not in hub.repositories()


def test_the_name_of_another_user(hub, client):
    message = refused(client.publish(*METRIC, "you/metric"))
    assert "no permission to write" in message
    assert "under your own name instead of 'you'" in message


@pytest.mark.parametrize("repo", ["metric", "me/a b", "me/what?", "a/b/c"])
def test_names_that_are_none(client, repo):
    assert "owner/name" in refused(client.publish(*METRIC, repo))


def test_a_repository_of_another_type(hub, client):
    hub.ask("/api/repos/create", {"name": "shared", "organization": "me", "type": "dataset"})
    message = refused(client.publish(*METRIC, "me/shared"))
    assert "is a dataset repository" in message
    assert "`hf repos create me/shared --type space`" in message
    # As the message says, an empty repository of the right type says that it is meant.
    hub.ask("/api/repos/create", {"name": "shared", "organization": "me", "type": "space"})
    assert client.publish(*METRIC, "me/shared").status == 0


def test_a_name_that_is_taken(hub, client):
    assert client.publish(*METRIC, "me/taken").status == 0
    message = refused(client.publish("space", "--repo", "me/taken"))
    assert "taken by a metric, and a web demo is to be published" in message
    assert hub.commits("spaces", "me/taken") == ["Publish the metric", "initial commit"]

    assert client.run("upload.py", "me/foreign", "weights.bin").status == 0
    message = refused(client.publish(*METRIC, "me/foreign"))
    assert "the name is taken" in message
    assert "--overwrite" in message
    assert set(hub.files("spaces", "me/foreign")) == {"weights.bin"}
    assert client.publish(*METRIC, "me/foreign", "--overwrite").status == 0
    assert "foreign.py" in hub.files("spaces", "me/foreign")
    assert "weights.bin" not in hub.files("spaces", "me/foreign")


def test_private_is_not_quietly_public(hub, client):
    assert client.publish(*METRIC, "me/hidden", "--private").status == 0
    assert hub.ask("/api/spaces/me/hidden")["private"] is True
    assert client.publish(*METRIC, "me/hidden").status == 0
    assert hub.ask("/api/spaces/me/hidden")["private"] is True
    assert client.publish(*METRIC, "me/shown").status == 0
    assert "is public, but --private was asked for" in refused(client.publish(*METRIC, "me/shown", "--private"))


def test_a_commit_is_no_branch(client):
    assert "--revision names the branch" in refused(client.publish(*METRIC, "me/metric", "--revision", "0" * 40))


@pytest.mark.parametrize("option", ["--revision", "--tag"])
@pytest.mark.parametrize("name", ["a b", "a/../b", "-x", "v1.", "a//b", "v1.lock", "v1~2"])
def test_names_that_git_does_not_know(name, option):
    with pytest.raises(HubError, match=f"{option} .*not a name that git knows"):
        check_place("me/metric", "space", **{option[2:]: name})


def test_the_connection_breaks_in_the_middle(hub, client, tiny_dataset):
    command = ["dataset", tiny_dataset, "--repo", "me/broken"]
    hub.faults(die_on="/commit/")
    message = refused(client.publish(*command))
    assert "the connection to" in message
    assert "run the same command again" in message
    hub.process.wait()
    hub.start()
    assert hub.commits("datasets", "me/broken") == ["initial commit"]
    assert hub.files("datasets", "me/broken") == {}
    hub.requests()

    assert "published" in client.publish(*command).stdout
    assert not [r for r in hub.requests() if r.startswith("PUT")]  # what had arrived is not sent again
    assert hub.commits("datasets", "me/broken") == ["Publish the dataset", "initial commit"]
    assert {p: d for p, d in hub.files("datasets", "me/broken").items() if p.startswith("data/")} == {
        f"data/{shard.name}": shard.read_bytes() for shard in (tiny_dataset / "data").iterdir()}


def test_nobody_answers(hub, client):
    hub.kill()
    message = refused(client.publish(*METRIC, "me/metric"))
    assert "the connection to http://127.0.0.1" in message


def test_reading_what_is_not_there(hub, client, tiny_dataset):
    assert client.publish("dataset", f"few={tiny_dataset}", "--repo", "me/readable").status == 0
    hub.ask("/api/repos/create", {"name": "weights", "organization": "me", "type": "model"})
    asked = {"revision": ["me/readable", "", "v9"], "config": ["me/readable", "many"], "name": ["me/nowhere"]}
    seen = client.run("read_errors.py", json.dumps(asked), "me/weights", "v9").result
    assert "has no branch, tag or commit 'v9'" in seen["revision"]
    assert "no configuration is named 'many'" in seen["config"]
    assert "neither a folder nor a dataset on the Hub" in seen["name"]
    assert "v9" in seen["model"]
