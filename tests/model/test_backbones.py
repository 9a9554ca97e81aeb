"""Which networks training starts from, and how they are loaded."""

import dataclasses

import numpy as np
import pytest
import torch
from networks import BINARY, THREE, tiny_student
from PIL import Image
from safetensors.torch import save_file
from tiny import NETWORK, tree
from transformers import (
    AutoModelForSemanticSegmentation,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    MobileViTImageProcessorPil,
    SwinConfig,
    SwinModel,
    pipeline,
)

from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.model.backbones import (
    BackboneError,
    backbone_preprocessing,
    backbone_sha256,
    head_parameter_names,
    load_student,
    side_multiple_px,
)
from hf_gland.model.identity import ClassNamesError
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import full_size_logits, save_model_folder
from hf_gland.model.teacher import make_teacher


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


def test_weights_of_another_encoder_are_refused(tmp_path, weights_folder):
    """transformers would start an encoder at random, with a warning, where the file holds none of its weights."""
    model = tiny_student()
    model.config.save_pretrained(tmp_path)
    others = {f"other.{n}": p.detach().contiguous() for n, p in model.named_parameters()}
    save_file(others, tmp_path / "model.safetensors", metadata={"format": "pt"})
    refuses(tmp_path, "most weights of the encoder are missing")


def test_a_backbone_trained_here_leaves_its_temperature_behind(tmp_path):
    model = tiny_student()
    model.config.confidence_temperature = 2.5
    model.save_pretrained(tmp_path)
    student = load_student(str(tmp_path), BINARY, None)
    assert not hasattr(student.config, "confidence_temperature")
    student.save_pretrained(tmp_path / "again")
    assert "confidence_temperature" not in (tmp_path / "again" / "config.json").read_text()


def test_a_backbone_trained_here_must_have_the_datasets_classes_in_their_order(tmp_path):
    tiny_student(THREE).save_pretrained(tmp_path)
    with pytest.raises(ClassNamesError, match=r"background, benign, malignant.*background, malignant, benign"):
        load_student(str(tmp_path), ("background", "malignant", "benign"), None)
    assert load_student(str(tmp_path), THREE, None).config.id2label[2] == "malignant"
    assert load_student(str(tmp_path), BINARY, None).config.num_labels == 2  # another number of classes: a new head


def test_what_training_assumed_of_pixel_sizes_is_kept_in_the_config(tmp_path):
    load_student("random:segformer", BINARY, 1.0, NETWORK, missing_mpp=0.5).save_pretrained(tmp_path / "model")
    tiny_student(mpp=None).save_pretrained(tmp_path / "unknown")
    for name, expected in (("model", (1.0, 0.5)), ("unknown", (None, None))):
        Preprocessing().image_processor().save_pretrained(tmp_path / name)
        segmenter = GlandSegmenter.from_pretrained(tmp_path / name, device="cpu")
        assert (segmenter.mpp, segmenter.missing_mpp) == expected


def test_a_checksum_tells_weights_apart(weights_folder, tmp_path):
    tiny_student(THREE).save_pretrained(tmp_path)
    found = backbone_sha256(str(weights_folder))
    assert len(found) == 64
    assert found != backbone_sha256(str(tmp_path))
    assert backbone_sha256("random:segformer") is None


def test_a_backbones_own_scaling_is_used(tmp_path, weights_folder):
    tiny_student().save_pretrained(tmp_path)
    assert backbone_preprocessing(str(tmp_path)).mean == (0.485, 0.456, 0.406)
    MobileViTImageProcessorPil().save_pretrained(tmp_path)
    assert backbone_preprocessing(str(tmp_path)).bgr
    assert backbone_preprocessing("random:mobilevit").bgr
    assert backbone_preprocessing("random:mobilenet_v2").std == (0.5, 0.5, 0.5)


VIT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "image_size": 56}
ENCODERS = {
    "dinov2": (Dinov2Model, Dinov2Config(**VIT, patch_size=14), 14),
    "registers": (Dinov2WithRegistersModel, Dinov2WithRegistersConfig(**VIT, patch_size=14, num_register_tokens=2), 14),
    "dinov3": (DINOv3ViTModel, DINOv3ViTConfig(**VIT, patch_size=16), 16),
    "swin": (SwinModel, SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, image_size=64), 32),
    "convnext": (ConvNextModel, ConvNextConfig(hidden_sizes=[8, 8, 16, 16], depths=[1] * 4), 32),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_a_plain_encoder_trains_under_upernet_and_is_saved_as_a_plain_model(tmp_path, name):
    model_class, config, multiple = ENCODERS[name]
    torch.manual_seed(0)
    encoder = model_class(config)
    encoder.save_pretrained(tmp_path / "encoder")
    network = load_student(str(tmp_path / "encoder"), THREE, 0.5, {"hidden_size": 16, "pool_scales": [1, 2]})
    assert side_multiple_px(network) == multiple
    kept = {n.removeprefix("swin."): v for n, v in network.backbone.state_dict().items()}
    shared = {n: v for n, v in encoder.state_dict().items() if n in kept}
    assert len(shared) > 10
    assert all(torch.equal(kept[n], v) for n, v in shared.items())
    head = head_parameter_names(network)
    assert head
    assert all(not n.startswith("backbone.") for n in head)

    pixels = torch.randn(2, 3, 50, 70)
    loss = full_size_logits(network.train(), pixels).square().mean()
    loss.backward()
    assert all(p.grad is not None for n, p in network.named_parameters() if n in head)
    torch.optim.SGD(network.parameters(), 1e-3).step()
    network.eval()
    preprocessing = dataclasses.replace(Preprocessing(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    save_model_folder(tmp_path / "model", make_teacher(network), network, preprocessing)
    plain = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        torch.testing.assert_close(full_size_logits(plain, pixels), full_size_logits(network, pixels), rtol=1e-4, atol=1e-6)
    segmenter = GlandSegmenter.from_pretrained(tmp_path / "model", device="cpu")
    assert segmenter.preprocessing == preprocessing
    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    assert segmenter.predict(image, 0.5).class_map.shape == (50, 70)
    assert pipeline("image-segmentation", model=str(tmp_path / "model"))(Image.fromarray(image))[0]["mask"].size == (70, 50)
    again = load_student(str(tmp_path / "model"), THREE, 0.5)  # as for adaptation
    assert all(torch.equal(again.state_dict()[n], v) for n, v in network.state_dict().items())


TINY = {
    "segformer": NETWORK,
    "beit": VIT | {"image_size": 64, "out_indices": [1, 2, 3, 4], "pool_scales": [1, 2]},
    "mobilenet_v2": {"depth_multiplier": 0.35},
    "mobilevit": {"hidden_sizes": [24] * 3, "neck_hidden_sizes": [8, 8, 16, 16, 16, 16, 32], "aspp_out_channels": 16,
                  "num_attention_heads": 2},
    "mobilevitv2": {"width_multiplier": 0.25, "aspp_out_channels": 16},
    "upernet": {"hidden_size": 16, "pool_scales": [1, 2], "backbone_config": {
        "model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8] * 4, "depths": [1] * 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"]}},
    "dinov2": {"backbone_config": VIT, "hidden_size": 16, "pool_scales": [1, 2]},
}


@pytest.mark.parametrize("family", TINY)
def test_families_that_work_take_pictures_of_any_size_and_are_read_back(family, tmp_path):
    network = load_student(f"random:{family}", THREE, None, TINY[family])
    full_size_logits(network.train(), torch.randn(2, 3, 64, 64)).sum().backward()
    assert {n for n, p in network.named_parameters() if p.grad is None} == {
        n for n, p in network.named_parameters() if not p.requires_grad}, "several processes wait for every gradient"
    assert (family in ("segformer", "mobilevit", "mobilevitv2")) == all(p.requires_grad for p in network.parameters())
    network.eval()
    with torch.no_grad():
        assert full_size_logits(network, torch.randn(1, 3, 64, 96)).shape == (1, 3, 64, 96)
    assert head_parameter_names(network)
    network.save_pretrained(tmp_path)
    again = load_student(str(tmp_path), THREE, None)
    kept = {name: v for name, v in network.state_dict().items() if not name.startswith("auxiliary_head.")}
    assert kept.keys() == again.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in kept.items())


@pytest.mark.parametrize(("family", "reason"), [("dpt", "square pictures alone"), ("vit", "no backbone"),
                                                ("data2vec-vision", "of one size alone"), ("sapiens2", "torchvision"),
                                                ("beit", "out_indices")])
def test_families_that_do_not_work_are_refused_with_the_reason(family, reason):
    refuses(f"random:{family}", reason)
