"""What a repository may hold: nothing of it is run, and nothing takes memory before it is checked."""

import builtins
import json
import shutil

import pytest
import torch
from networks import tiny_student
from transformers import AutoModelForSemanticSegmentation, SegformerImageProcessorPil

from hf_gland.errors import HfGlandError, ModelError
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.model.backbones import load_student
from hf_gland.model.loading import load_config, load_network_weights, weights_sha256


@pytest.fixture(scope="module")
def whole_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tiny_student().save_pretrained(folder)
    SegformerImageProcessorPil().save_pretrained(folder)
    return folder


@pytest.fixture
def model(whole_model, tmp_path, monkeypatch):
    """A model folder to damage; no question may be asked, and nothing may be unpickled."""
    def never(*arguments, **options):
        raise AssertionError("a file of the repository was run or unpickled")

    monkeypatch.setattr(builtins, "input", never)
    monkeypatch.setattr(torch, "load", never)
    return shutil.copytree(whole_model, tmp_path / "model")


def change_config(folder, **changes):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | changes))


def refused(folder, *words):
    """Refused at both doors: to predict with, and to start training from."""
    for door in (lambda: GlandSegmenter.from_pretrained(folder, device="cpu"),
                 lambda: load_student(str(folder), ("background", "gland"), None)):
        with pytest.raises(HfGlandError) as caught:
            door()
        for word in (str(folder), *words):
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def shards(folder, name):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    weights = tiny_student().state_dict()
    (folder / "model.safetensors.index.json").write_text(json.dumps(
        {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(weights, name)}))


def test_an_index_may_name_safetensors_beside_it(model):
    whole = weights_sha256(str(model))
    shards(model, "model-00001-of-00001.safetensors")
    assert weights_sha256(str(model)) == whole
    GlandSegmenter.from_pretrained(model, device="cpu")


@pytest.mark.parametrize("name", ["pytorch_model-00001-of-00001.bin", "../elsewhere.safetensors", "/etc/x.safetensors",
                                  "weights.safetensors.bin"])
def test_an_index_that_names_anything_else_is_refused(model, name):
    shards(model, name)
    (model / "pytorch_model-00001-of-00001.bin").write_bytes(b"")
    refused(model, "names", name)


def test_pickled_weights_are_refused(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    refused(model, "no model.safetensors")


def test_code_of_a_repository_is_refused_without_a_question(model):
    (model / "modeling_x.py").write_text("raise SystemExit('run')")
    change_config(model, auto_map={"AutoModelForSemanticSegmentation": "modeling_x.X", "AutoConfig": "modeling_x.C"},
                  model_type="x")
    refused(model, "auto_map", "never done here")


@pytest.mark.parametrize("changes", [
    {"attn_implementation": "someone/kernel"}, {"_attn_implementation": "someone/kernel"},
    {"quantization_config": {"quant_method": "bitsandbytes"}}, {"backbone": "someone/encoder"},
    {"use_timm_backbone": True}, {"backbone_config": {"use_pretrained_backbone": True}}])
def test_a_config_that_reaches_out_is_refused(model, changes):
    change_config(model, **changes)
    refused(model, "never done here")


def test_an_adapter_is_refused(model):
    (model / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    refused(model, "adapter")


@pytest.mark.parametrize(("changes", "words"), [
    ({"depths": [100_000, 1, 1, 1]}, ("100003 layers", "512")), ({"num_hidden_layers": 100_000}, ("100000 layers",)),
    ({"id2label": {str(i): f"c{i}" for i in range(10_000)}}, ("10000 classes", "255")),
    ({"hidden_sizes": [8, 16, 24, 40_000]}, ("million parameters",)),
    ({"hidden_sizes": [8, 16, 24, 10**9]}, ("overflow",)),
    ({"decoder_hidden_size": 10**7}, ("million parameters",)),
    ({"sr_ratios": [1] * 2000}, ("sr_ratios", "2000 entries")),
])
def test_a_config_of_absurd_size_is_refused_before_it_takes_memory(model, monkeypatch, changes, words):
    monkeypatch.setattr(torch.nn.Module, "to_empty", None)
    change_config(model, **changes)
    with pytest.raises(ModelError) as caught:
        load_network_weights(AutoModelForSemanticSegmentation, str(model), load_config(str(model)))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused(model, value):
    network = tiny_student()
    with torch.no_grad():
        network.decode_head.classifier.bias[1] = value
    network.save_pretrained(model)
    refused(model, "NaN or infinite", "decode_head.classifier.bias")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model_type": 3}', '{"model_type": "nonsense"}', "{}"])
def test_a_config_that_is_none_is_refused(model, text):
    (model / "config.json").write_text(text)
    refused(model)


def test_damaged_weights_are_refused(model):
    content = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(content[:len(content) // 2])
    refused(model)
