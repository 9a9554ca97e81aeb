"""Card metadata that the Hub would refuse or misread is found before anything is sent."""

from collections.abc import Callable

import pytest
import yaml
from publications import TEMPLATES

from hf_gland.hub.cards import Links
from hf_gland.hub.dataset_repo import stage_dataset
from hf_gland.hub.dataset_source import read_configurations
from hf_gland.hub.errors import HubError
from hf_gland.hub.metadata import check_card, is_repo_id
from hf_gland.hub.metric_repo import stage_metric
from hf_gland.hub.model_repo import stage_model
from hf_gland.hub.model_source import read_model


@pytest.fixture(scope="module")
def staged(run, tiny_dataset, tmp_path_factory):
    """The three kinds of repository and their folders."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in ("model", "dataset", "space")}
    stage_model(read_model(run), folders["model"], "me/glands", templates=TEMPLATES,
                links=Links(dataset_repo="me/tiny"))
    stage_dataset(read_configurations([f"a={tiny_dataset}", f"b={tiny_dataset}"]), folders["dataset"], "me/tiny",
                  templates=TEMPLATES)
    stage_metric(folders["space"], "me/metric", templates=TEMPLATES)
    return folders


def changed(folder, change: Callable[[dict], object]) -> str:
    """The card in `folder` with its metadata changed."""
    _, front, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    data = yaml.safe_load(front)
    change(data)
    return f"---\n{yaml.safe_dump(data)}---\n{text}"


def test_what_is_staged_passes(staged):
    for kind, folder in staged.items():
        assert check_card(changed(folder, lambda data: None), kind, folder)["tags"][0] == "hf_gland"


@pytest.mark.parametrize(("kind", "change", "said"), [
    ("model", lambda d: d.update(license="mine"), "license 'mine' is not one that the Hub knows"),
    ("model", lambda d: d.update(license="other"), "needs license_name and license_link"),
    ("model", lambda d: d.update(license_name="My Licence"), "may hold only a-z"),
    ("model", lambda d: d.pop("tags"), "tags must be a list of words with 'hf_gland'"),
    ("model", lambda d: d.update(tags=["glands"]), "tags must be a list of words with 'hf_gland'"),
    ("model", lambda d: d.pop("pipeline_tag"), "pipeline_tag must be image-segmentation"),
    ("model", lambda d: d.update(library_name="timm"), "library_name must be transformers"),
    ("model", lambda d: d.update(datasets=["not a name"]), "datasets: 'not a name' is not the name"),
    ("model", lambda d: d.update(base_model="/weights/mit-b0"), "base_model: '/weights/mit-b0' is not the name"),
    ("model", lambda d: d.update(metrics="mean_iou"), "metrics must be a list of words"),
    ("model", lambda d: d.pop("model-index"), "model-index is missing or malformed"),
    ("model", lambda d: d["model-index"][0].update(results=[]), "holds no result"),
    ("model", lambda d: d["model-index"][0]["results"][0]["metrics"][0].update(value="high"), "is 'high', not a number"),
    ("model", lambda d: d["model-index"][0]["results"][0]["task"].update(type="other"), "task 'other' must be"),
    ("model", lambda d: d["model-index"][0]["results"][0].pop("dataset"), "model-index is missing or malformed"),
    ("dataset", lambda d: d.update(task_categories=["segmentation"]), "task_categories must be [image-segmentation]"),
    ("dataset", lambda d: d.pop("configs"), "configs names no data files"),
    ("dataset", lambda d: d["configs"][0]["data_files"][0].update(path="c/train-*"), "no file matches c/train-*"),
    ("dataset", lambda d: d["configs"][0].pop("default"), "one configuration, and only one, must be the default"),
    ("dataset", lambda d: d["dataset_info"].pop(0), "dataset_info does not describe the configuration a"),
    ("space", lambda d: d.pop("title"), "title is missing"),
    ("space", lambda d: d.update(sdk="flask"), "sdk 'flask' must be gradio or static"),
    ("space", lambda d: d.update(sdk="gradio"), "sdk_version must be a version of gradio"),
    ("space", lambda d: d.update(app_file="main.py"), "app_file main.py is not in the repository"),
    ("space", lambda d: d.update(colorFrom="mauve"), "colorFrom 'mauve' must be one of"),
    ("space", lambda d: d.update(short_description="x" * 61), "must not be longer than 60"),
    ("space", lambda d: d.update(models=["a/b/c"]), "models: 'a/b/c' is not the name"),
])
def test_each_fault_is_named(staged, kind, change, said):
    with pytest.raises(HubError) as error:
        check_card(changed(staged[kind], change), kind, staged[kind])
    assert said in str(error.value)


def test_all_faults_are_named_at_once(staged):
    card = changed(staged["model"], lambda d: d.update(license="mine", pipeline_tag="other"))
    with pytest.raises(HubError, match=r"license 'mine'.*pipeline_tag"):
        check_card(card, "model", staged["model"])


@pytest.mark.parametrize(("added", "said"), [
    ("![picture](media/gone.png)", "the picture media/gone.png is not in the repository"),
    ("{{ accuracy }}", "a placeholder is left: {{ accuracy }}"),
    ("[More Information Needed]", "a placeholder is left"),
])
def test_the_body_is_checked_too(staged, added, said):
    card = changed(staged["model"], lambda d: None)
    with pytest.raises(HubError) as error:
        check_card(card + added, "model", staged["model"])
    assert said in str(error.value)
    assert check_card(card + "![elsewhere](https://example.org/a.png)", "model", staged["model"])


def test_metadata_that_are_none(staged):
    with pytest.raises(HubError, match=r"README\.md"):
        check_card("---\n- a list\n---\ntext", "model", staged["model"])


@pytest.mark.parametrize(("name", "valid"), [("me/glands", True), ("gpt2", True), ("a/b/c", False), ("a b", False),
                                             (3, False), ("-a/b", False)])
def test_repository_names(name, valid):
    assert is_repo_id(name) is valid
