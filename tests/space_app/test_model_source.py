import sys
import types
from pathlib import Path

import pytest
from gland_space.model_source import DEMO_MODEL, LoadedModel, ModelSource, find_source, parse_source
from space_tools import dark_segmenter, discs

from hf_gland.inference import ModelError, PostProcessing


@pytest.mark.parametrize(("text", "location", "revision"), [
    ("owner/name", "owner/name", None), ("owner/name@v1.0", "owner/name", "v1.0"),
    (" owner/name@0a1b2c ", "owner/name", "0a1b2c")])
def test_a_hub_id_may_name_a_revision(text, location, revision):
    source = parse_source(text)
    assert (source.location, source.revision, source.is_folder) == (location, revision, False)
    assert source.shown == text.strip()


@pytest.mark.parametrize("text", ["owner/name@", "@v1"])
def test_half_a_revision_is_an_error(text):
    with pytest.raises(ModelError, match="owner/name@revision"):
        parse_source(text)


def test_a_folder_with_an_at_sign_is_a_folder_and_its_whole_path_is_not_shown(tmp_path):
    folder = tmp_path / "runs" / "a@b" / "model"
    folder.mkdir(parents=True)
    source = parse_source(str(folder))
    assert (source.location, source.revision) == (str(folder), None)
    assert source.shown == "runs/a@b/model"


def demo_run(root):
    (root / DEMO_MODEL).mkdir(parents=True)
    (root / DEMO_MODEL / "config.json").write_text("{}")
    return root


def test_the_first_that_is_named_wins(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("---\nmodels:\n- card/model\n---\n# x\n")
    folders = (tmp_path / "nothing", demo_run(tmp_path / "here"))
    environment = {"HF_GLAND_MODEL": "environment/model@v2"}
    nowhere = Path("nowhere")
    assert find_source("given/model", environment, card, folders).location == "given/model"
    assert find_source(None, environment, card, folders).revision == "v2"
    assert find_source(None, {"HF_GLAND_MODEL": " "}, card, folders).location == "card/model"
    assert find_source(None, {}, nowhere, folders).location == str(tmp_path / "here" / DEMO_MODEL)
    assert find_source(None, {}, nowhere, folders[:1]) is None


@pytest.mark.parametrize("text", ["no front matter", "---\ntitle: x\n---\n", "---\nmodels: [\n---\n",
                                  "---\nmodels: []\n---\n"])
def test_a_card_that_names_no_model_is_passed_over(tmp_path, text):
    card = tmp_path / "README.md"
    card.write_text(text)
    assert find_source(None, {}, card, ()) is None


def test_on_a_zero_gpu_space_each_call_borrows_a_gpu_and_the_function_is_known_at_the_start(monkeypatch):
    known = []

    def gpu(function):
        known.append(function)
        return lambda *values, **options: ("borrowed", function(*values, **options))

    monkeypatch.setitem(sys.modules, "spaces", types.SimpleNamespace(GPU=gpu))
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    model = LoadedModel(dark_segmenter(), ModelSource("owner/name"))
    assert len(known) == 1
    word, prediction = model.predict(discs(2), 0.5, progress=lambda share: None, name="a.png",
                                     post=PostProcessing(min_gland_area_px=20))
    assert (word, len(prediction.glands), len(known)) == ("borrowed", 2, 1)
