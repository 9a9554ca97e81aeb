"""Everything published to a Hub and read back, by real clients over HTTP."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from publications import write_glas_archive, write_glas_dataset
from scored_images import expected, two_images
from tiny import one_gland_and_a_strip, tree, write_dataset
from transformers import AutoModelForSemanticSegmentation

from hf_gland.data.build import load_provenance
from hf_gland.metrics.standalone import write_standalone

APP = Path(__file__).resolve().parents[2] / "space_app"
MODEL_FILES = {"README.md", "model.safetensors", "config.json", "preprocessor_config.json", "student/model.safetensors",
               "student/config.json", "student/preprocessor_config.json", "training_log.jsonl", "training_config.json",
               "training_metrics.json", ".eval_results/validation.yaml", "media/predictions.png"}


@pytest.fixture(scope="module")
def dotted_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `tiny_dataset`, annotated otherwise."""
    def no_strip(mask, instances):
        sparse = one_gland_and_a_strip(mask, instances)
        sparse[:4] = 255
        return sparse

    return write_dataset(tmp_path_factory.mktemp("data") / "dotted", sparse=no_strip)


@pytest.fixture(scope="module")
def commands(run, tiny_dataset, dotted_dataset) -> list[list]:
    """A model, a dataset with two configurations, and the metric."""
    return [["model", run, "--repo", "me/glands", "--tag", "v1", "--dataset-repo", "me/tiny"],
            ["dataset", f"outlines={tiny_dataset}", f"dots={dotted_dataset}", "--repo", "me/tiny"],
            ["metric", "--repo", "me/gland_segmentation"]]


@pytest.fixture(scope="module")
def published(session_hub, client, commands):
    outcomes = [client.publish(*command) for command in commands]
    for outcome in outcomes:
        assert outcome.status == 0, outcome.stderr
        assert "published: http://127.0.0.1:" in outcome.stdout
        assert "hf_local_writer" not in outcome.stdout + outcome.stderr
    return outcomes


def test_each_publication_is_one_commit(published, hub):
    assert hub.commits("models", "me/glands") == ["Publish the model", "initial commit"]
    assert hub.commits("datasets", "me/tiny") == ["Publish the dataset", "initial commit"]
    assert hub.commits("spaces", "me/gland_segmentation") == ["Publish the metric", "initial commit"]


def test_the_repository_is_the_dry_run_byte_for_byte(published, hub, client, commands, run, tmp_path):
    outcome = client.publish(*commands[0], "--dry-run", tmp_path / "out", environment={"HF_TOKEN": ""})
    assert outcome.status == 0, outcome.stderr
    assert hub.requests() == []
    local = tree(tmp_path / "out")
    assert set(local) >= MODEL_FILES
    assert hub.files("models", "me/glands", "v1") == local
    downloaded = client.run("download.py", "me/glands", "model", "v1").result
    assert downloaded == {path: hashlib.sha256(data).hexdigest() for path, data in local.items()}
    for path, data in tree(run / "model").items():
        assert local[path] == data


def test_data_files_are_those_that_were_built(published, hub, tiny_dataset, dotted_dataset):
    files = hub.files("datasets", "me/tiny")
    for name, folder in (("outlines", tiny_dataset), ("dots", dotted_dataset)):
        for shard in (folder / "data").iterdir():
            assert files[f"{name}/{shard.name}"] == shard.read_bytes()
    assert files["provenance.json"] == files["outlines/provenance.json"] != files["dots/provenance.json"]


def test_publishing_again_changes_nothing(published, hub, client, commands):
    for command in commands:
        assert "nothing changed" in client.publish(*command).stdout
    assert not [request for request in hub.requests() if "/commit/" in request or request.startswith("PUT")]


def test_what_is_read_back_is_what_was_published(published, client, run, dotted_dataset):
    seen = client.run("read_back.py", "me/glands", "me/tiny", "dots", "me/gland_segmentation", "v1").result
    assert seen["digest"] == seen["streamed_digest"] == load_provenance(dotted_dataset)["data_sha256"]
    assert seen["default_rows"] == {"train": 6, "validation": 2}
    assert seen["provenance"] == "dots"
    pixels = torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
    for name, folder in (("teacher", run / "model"), ("student", run / "model" / "student")):
        with torch.no_grad():
            logits = AutoModelForSemanticSegmentation.from_pretrained(folder)(pixel_values=pixels).logits
        assert seen[name] == hashlib.sha256(logits.numpy().tobytes()).hexdigest()
    assert seen["pipeline"] == [True] * len(seen["pipeline"]) != []
    assert seen["metric"] == 100

    # After that one download the Hub is no longer needed.
    again = client.run("read_back.py", "me/glands", "me/tiny", "dots", "me/gland_segmentation", "v1",
                       environment={"HF_HUB_OFFLINE": "1"}).result
    assert again == {key: value for key, value in seen.items() if key != "streamed_digest"}


def test_the_metric_needs_no_installed_package(published, client, tmp_path):
    """As a folder, and from its repository."""
    images = two_images()
    probs, predictions, references, instances = ([a.tolist() for a in column] for column in zip(*images, strict=True))
    (tmp_path / "inputs.json").write_text(json.dumps({
        "predictions": predictions, "references": references, "instances": instances, "probabilities": probs,
        "bootstrap": 20}))
    folder = write_standalone(tmp_path / "my_metric", "my_metric").parent
    from_folder, from_repository = client.run("standalone_metric.py", tmp_path / "inputs.json", folder,
                                              "me/gland_segmentation").result
    assert from_folder == from_repository
    full = expected(images, bootstrap=20)
    assert from_folder.keys() == full.keys()
    assert from_folder.pop("reliability")["pixels"] == full.pop("reliability")["pixels"]
    assert from_folder.pop("risk_coverage")["error"] == pytest.approx(full.pop("risk_coverage")["error"])
    for key, value in full.items():
        assert from_folder[key] == pytest.approx(value), key  # as lists, probabilities become float64


def test_changed_content_is_one_more_commit_without_what_is_gone(published, hub, client, commands, dotted_dataset):
    outcome = client.publish("dataset", f"dots={dotted_dataset}", "--repo", "me/tiny", "--message", "Dots alone")
    assert outcome.status == 0, outcome.stderr
    assert hub.commits("datasets", "me/tiny") == ["Dots alone", "Publish the dataset", "initial commit"]
    files = hub.files("datasets", "me/tiny")
    assert not any(path.startswith("outlines/") for path in files)
    assert files["provenance.json"] == files["dots/provenance.json"]
    assert client.publish(*commands[1]).status == 0  # as it was, for the other tests


def test_branches_and_tags(published, hub, client):
    repo = ["metric", "--repo", "me/branched"]
    assert client.publish(*repo, "--tag", "v1").status == 0
    later = client.publish(*repo, "--revision", "wider", "--tag", "v2", "--results", measured(hub), "--message", "Wider")
    assert later.status == 0, later.stderr
    assert hub.commits("spaces", "me/branched", "wider") == ["Wider", "Publish the metric", "initial commit"]
    assert hub.commits("spaces", "me/branched") == ["Publish the metric", "initial commit"]
    assert hub.files("spaces", "me/branched", "v2") == hub.files("spaces", "me/branched", "wider")
    assert b"mIoU (%)" in hub.files("spaces", "me/branched", "v2")["README.md"]

    moved = client.publish(*repo, "--tag", "v1", "--results", measured(hub))
    assert moved.status == 2
    assert "tag 'v1' already marks commit" in moved.stderr
    assert "give another --tag" in moved.stderr
    assert hub.commits("spaces", "me/branched") == ["Publish the metric", "initial commit"]
    branch = client.publish(*repo, "--tag", "wider")
    assert "'wider' is a branch; give another --tag" in branch.stderr


def measured(hub) -> Path:
    """The result record that was published with the model, as a file."""
    path, data = next((p, d) for p, d in hub.files("models", "me/glands").items() if p.startswith("results/"))
    file = hub.folder / Path(path).name
    file.write_bytes(data)
    return file


def test_masks_published_without_images_are_joined_again(hub, client, tmp_path):
    archive = write_glas_archive(tmp_path / "glas.zip")
    built = write_glas_dataset(archive, tmp_path / "built")
    refused = client.publish("dataset", f"some={built}", "--repo", "me/glas")
    assert refused.status == 2
    assert "--i-have-the-right" in refused.stderr
    assert client.publish("dataset", f"some={built}", "--repo", "me/glas", "--masks-only", "--tag", "v1").status == 0
    training = client.run("read_errors.py", json.dumps({"masks": ["me/glas", "some"]})).result
    assert "publish.py join" in training["masks"]
    join = ["join", "--from", "me/glas", "--config", "some", "--revision", "v1", "--archive", archive, "--no-verify",
            "--out"]
    outcome = client.publish(*join, tmp_path / "joined")
    assert outcome.status == 0, outcome.stderr
    assert load_provenance(tmp_path / "joined") == load_provenance(built)
    assert "exists already" in client.publish(*join, tmp_path / "joined").stderr
    unknown = client.publish(*[a if a != "v1" else "v2" for a in join], tmp_path / "other")
    assert "has no branch, tag or commit 'v2'" in unknown.stderr
    unnamed = client.publish(*[a if a != "some" else "most" for a in join], tmp_path / "other")
    assert "me/glas: has no most/provenance.json: no configuration is named 'most'" in unnamed.stderr
    whole = client.publish(*[a if a != "me/glas" else built for a in join[:3] + join[5:]], tmp_path / "other")
    assert "holds its images already, there is nothing to join" in whole.stderr


def test_the_web_demo_becomes_a_space(hub, client, published):
    outcome = client.publish("space", "--repo", "me/demo", "--model-repo", "me/glands", "--results", measured(hub))
    assert outcome.status == 0, outcome.stderr
    files = hub.files("spaces", "me/demo")
    app = {path: data for path, data in tree(APP).items() if "__pycache__" not in path and path != "README.md"}
    assert {path: files[path] for path in app} == app
    assert files["hf_gland/labels.py"] == (APP.parent / "hf_gland" / "labels.py").read_bytes()
    assert b"models:\n- me/glands" in files["README.md"]
