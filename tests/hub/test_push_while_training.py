"""A whole training that reads its data from the Hub and sends its checkpoints there, until the Hub dies."""

import json

from processes import settings_as_arguments
from publications import measure
from tiny import tiny_settings, tree
from training import run_training, same_weights, weights


def test_training_goes_on_when_the_hub_dies_and_publishing_completes_the_repository(hub, client, tiny_dataset, tmp_path):
    assert client.publish("dataset", f"few={tiny_dataset}", "--repo", "me/training-data").status == 0
    settings = tiny_settings(tiny_dataset, save_every=4)
    remote = settings | {"dataset": "me/training-data", "dataset_config": "few"}
    hub.faults(die_on="/commit/")
    outcome = client.run("impatient_training.py", "--out", tmp_path / "run", "--push-to-hub", "me/trained",
                         *settings_as_arguments(remote), environment={"HF_GLAND_THREADS": "1"})
    assert outcome.status == 0, outcome.stderr
    assert outcome.stderr.count("warning: ") >= 2  # the fault itself, in the middle or at the end of training, and:
    assert "not all was pushed to me/trained" in outcome.stderr
    assert hub.process.wait() == 1

    # Neither where the rows come from nor what becomes of the Hub makes a difference to the model.
    local = run_training(tmp_path / "local", settings)
    assert same_weights(weights(tmp_path / "run"), weights(local))
    assert json.loads((tmp_path / "run/model/training_config.json").read_text())["data"]["dataset"] == "me/training-data"

    hub.start()
    assert hub.files("models", "me/trained") == {}
    measure(tmp_path / "run", tiny_dataset)
    published = client.publish("model", tmp_path / "run", "--repo", "me/trained", "--dataset-repo", "me/training-data")
    assert published.status == 0, published.stderr
    files = hub.files("models", "me/trained")
    assert {path: files[path] for path in tree(tmp_path / "run" / "model")} == tree(tmp_path / "run" / "model")
    assert not any(path.startswith("last-checkpoint/") for path in files)
    assert hub.commits("models", "me/trained") == ["Publish the model", "initial commit"]


def test_the_model_is_on_the_hub_when_training_ends(hub, client, tiny_dataset, tmp_path):
    outcome = client.run("train.py", "--out", tmp_path / "run", "--push-to-hub", "me/quick", "--private",
                         *settings_as_arguments(tiny_settings(tiny_dataset, steps=4, save_every=2)))
    assert outcome.status == 0, outcome.stderr
    assert outcome.stderr.splitlines()[-1] == "pushed to me/quick"
    files = hub.files("models", "me/quick")
    assert {path: data for path, data in files.items() if path != "README.md"} == tree(tmp_path / "run" / "model")
    assert hub.ask("/api/models/me/quick")["private"] is True
