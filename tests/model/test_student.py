import json

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import NETWORK, tree
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

from hf_gland.model.student import (
    BackboneError,
    class_probabilities,
    full_size_logits,
    head_parameter_names,
    load_student,
    normalise,
    save_model_folder,
)
from hf_gland.model.teacher import make_teacher

BINARY = ("background", "gland")
THREE = ("background", "benign", "malignant")


def tiny_student(class_names=BINARY, mpp=0.5, **overrides):
    torch.manual_seed(0)
    return load_student("random:segformer", class_names, mpp, NETWORK | overrides)


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory):
    """A folder with safetensors weights of a two-class network."""
    folder = tmp_path_factory.mktemp("weights")
    tiny_student().save_pretrained(folder)
    return folder


def test_the_config_names_classes_pixel_size_and_the_unlabelled_value():
    model = tiny_student(THREE, mpp=1.24)
    assert model.config.id2label == {0: "background", 1: "benign", 2: "malignant"}
    assert model.config.label2id == {"background": 0, "benign": 1, "malignant": 2}
    assert model.config.num_labels == 3
    assert model.config.semantic_loss_ignore_index == 255
    assert model.config.mpp == 1.24
    assert model.config.hidden_sizes == NETWORK["hidden_sizes"]
    assert tiny_student(mpp=None).config.mpp is None


def test_overrides_reach_the_network():
    model = tiny_student(drop_path_rate=0.0, classifier_dropout_prob=0.7)
    assert model.decode_head.dropout.p == 0.7


def test_weights_from_a_folder_keep_the_encoder_and_give_new_classes_a_fresh_classifier(weights_folder):
    original = AutoModelForSemanticSegmentation.from_pretrained(weights_folder)
    torch.manual_seed(9)
    model = load_student(str(weights_folder), THREE, 0.5)
    assert model.decode_head.classifier.weight.shape[0] == 3
    assert model.config.id2label[2] == "malignant"
    expected = original.state_dict()
    kept = {n for n in expected if "classifier" not in n}
    assert {n for n in kept if n.startswith("segformer.")}
    for name in kept:
        assert torch.equal(model.state_dict()[name], expected[name]), name
    assert model.dtype == torch.float32


def test_half_precision_weights_train_in_float32(tmp_path):
    tiny_student().half().save_pretrained(tmp_path)
    assert all(p.dtype == torch.float32 for p in load_student(str(tmp_path), BINARY, None).parameters())


def refuses(backbone, *words, overrides=None):
    with pytest.raises(BackboneError) as caught:
        load_student(str(backbone), BINARY, None, overrides)
    message = str(caught.value)
    assert str(backbone) in message
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_pickled_weights_are_refused(tmp_path, weights_folder):
    model = AutoModelForSemanticSegmentation.from_pretrained(weights_folder)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    refuses(tmp_path, "safetensors")


def test_damaged_weights_are_refused(tmp_path, weights_folder):
    for name, content in tree(weights_folder).items():
        (tmp_path / name).write_bytes(content[:len(content) // 2] if name.endswith(".safetensors") else content)
    refuses(tmp_path)


def test_a_folder_without_weights_or_config_is_refused(tmp_path):
    refuses(tmp_path, "config.json")
    refuses(tmp_path / "missing")


@pytest.mark.parametrize("backbone", ["random:nonsense", "random:bert", "random:"])
def test_families_that_do_not_segment_are_refused(backbone):
    refuses(backbone, "random:segformer")


@pytest.mark.parametrize("overrides", [{"depths": [1]}, {"hidden_sizes": "wide"}, {"num_channels": None}])
def test_overrides_that_make_no_network_are_refused(overrides):
    refuses("random:segformer", overrides=NETWORK | overrides)


def test_overrides_that_the_network_does_not_know_are_refused(weights_folder):
    for backbone in ("random:segformer", weights_folder):
        refuses(backbone, "drop_paths", overrides=NETWORK | {"drop_paths": 0.0})


def test_the_head_is_what_lies_outside_the_encoder():
    model = tiny_student()
    head = head_parameter_names(model)
    encoder = {n for n, _ in model.segformer.named_parameters(prefix="segformer")}
    assert head == {n for n, _ in model.named_parameters()} - encoder
    assert "decode_head.classifier.weight" in head
    assert head.isdisjoint(encoder)
    assert encoder


def test_normalising_is_what_the_image_processor_does(tmp_path):
    model = tiny_student()
    save_model_folder(tmp_path / "model", make_teacher(model), model, (40, 48))
    pixels = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    expected = AutoImageProcessor.from_pretrained(tmp_path / "model")(Image.fromarray(pixels), return_tensors="pt")
    ours = normalise(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
    torch.testing.assert_close(ours[None], expected["pixel_values"], rtol=1e-4, atol=1e-5)


def test_normalising_a_batch_is_normalising_each_image():
    images = torch.randint(0, 256, (3, 3, 5, 6), dtype=torch.uint8)
    assert torch.equal(normalise(images)[1], normalise(images[1]))


@pytest.mark.parametrize("hw", [(32, 32), (33, 47), (64, 40)])
def test_logits_and_probabilities_have_the_size_of_the_input(hw):
    model = tiny_student(THREE).eval()
    pixels = torch.randn(2, 3, *hw)
    logits = full_size_logits(model, pixels)
    assert logits.shape == (2, 3, *hw)
    assert logits.requires_grad
    probabilities = class_probabilities(model, pixels)
    assert not probabilities.requires_grad
    torch.testing.assert_close(probabilities, logits.detach().softmax(1))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, *hw))


@pytest.mark.parametrize("hw", [(33, 47), (64, 40), (5, 70)])
def test_the_network_only_ever_sees_sides_of_whole_strides(hw, monkeypatch):
    """Otherwise the levels of the encoder, each rounded up, would be shifted against one another."""
    model, seen = tiny_student().eval(), []
    forward = model.segformer.forward
    monkeypatch.setattr(model.segformer, "forward", lambda pixels, *a, **k: seen.append(pixels) or forward(pixels, *a, **k))
    pixels = torch.randn(1, 3, *hw)
    logits = full_size_logits(model, pixels)
    whole = tuple(-(-side // 32) * 32 for side in hw)
    assert seen[0].shape[2:] == whole
    assert torch.equal(seen[0][..., :hw[0], :hw[1]], pixels)
    assert torch.equal(logits, full_size_logits(model, seen[0])[..., :hw[0], :hw[1]])
    if hw == (33, 47):
        assert torch.equal(seen[0], torch.nn.functional.pad(pixels, (0, 17, 0, 31), mode="reflect"))


class TestModelFolder:
    @pytest.fixture(scope="class")
    def networks(self):
        student = tiny_student(THREE, mpp=0.62)
        teacher = make_teacher(student)
        with torch.no_grad():
            teacher.decode_head.classifier.bias.add_(1)
        return teacher, student

    @pytest.fixture(scope="class")
    def folder(self, networks, tmp_path_factory):
        folder = tmp_path_factory.mktemp("saved") / "model"
        save_model_folder(folder, *networks, (64, 96))
        return folder

    def test_it_is_a_plain_repository_of_the_teacher_with_the_student_beside_it(self, folder, networks):
        for path, network in zip((folder, folder / "student"), networks, strict=True):
            loaded = AutoModelForSemanticSegmentation.from_pretrained(path, use_safetensors=True)
            for name, value in network.state_dict().items():
                assert torch.equal(loaded.state_dict()[name], value), name
            assert loaded.config.mpp == 0.62
            assert loaded.config.id2label == dict(enumerate(THREE))

    def test_it_holds_json_and_safetensors_alone(self, folder):
        files = tree(folder)
        assert {n.rsplit(".")[-1] for n in files} == {"json", "safetensors"}
        for name, content in files.items():
            if name.endswith(".json"):
                assert "auto_map" not in json.loads(content)
        assert [p.name for p in folder.parent.iterdir()] == [folder.name]

    def test_the_plain_pipeline_gives_the_teachers_classes_at_the_size_of_the_picture(self, folder, networks):
        pixels = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
        segments = pipeline("image-segmentation", model=str(folder))(Image.fromarray(pixels))
        expected = full_size_logits(networks[0], normalise(torch.from_numpy(pixels).movedim(-1, 0))[None])[0].argmax(0)
        assert {s["label"] for s in segments} == {THREE[c] for c in expected.unique().tolist()}
        for segment in segments:
            mask = np.asarray(segment["mask"]) > 0
            assert mask.shape == (64, 96)
            assert (mask == (expected.numpy() == THREE.index(segment["label"]))).mean() > 0.999

    def test_saving_again_replaces_it_whole(self, networks, tmp_path):
        folder = tmp_path / "model"
        save_model_folder(folder, *networks, (48, 64))
        (folder / "stale.txt").write_text("old")
        save_model_folder(folder, *networks, (32, 32))
        assert not (folder / "stale.txt").exists()
        assert AutoImageProcessor.from_pretrained(folder).size["height"] == 32

    def test_a_save_that_fails_leaves_the_old_folder(self, folder, networks, file_size_limit):
        before = tree(folder)
        file_size_limit(2000)
        with pytest.raises(OSError, match=r"model: the model could not be written .*disk space"):
            save_model_folder(folder, *networks, (99, 99))
        assert tree(folder) == before
        assert [p.name for p in folder.parent.iterdir()] == [folder.name]
