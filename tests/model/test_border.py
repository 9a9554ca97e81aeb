import numpy as np
import pytest
import torch
from networks import THREE
from PIL import Image
from tiny import NETWORK
from transformers import AutoModelForSemanticSegmentation, pipeline

from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.model.backbones import load_student
from hf_gland.model.border import output_maps, split_border
from hf_gland.model.identity import ClassNamesError, class_names_of
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.model.student import predicted_maps, save_model_folder
from hf_gland.model.teacher import make_teacher

PIXELS = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    model = load_student("random:segformer", THREE, 0.5, NETWORK, border=True)
    path = tmp_path_factory.mktemp("border") / "model"
    save_model_folder(path, make_teacher(model), model, Preprocessing())
    return path


def test_maps_are_class_probabilities_and_that_of_the_border(folder):
    model = AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
    assert class_names_of(model.config) == list(THREE)
    with torch.no_grad():
        raw = model(PIXELS).logits
    maps = output_maps(raw, 3)
    torch.testing.assert_close(maps[:, :3], raw[:, :3].softmax(1))
    torch.testing.assert_close(maps[:, 3], torch.sigmoid(raw[:, 3] + 20.0))
    assert 0.1 < maps[:, 3].mean() < 0.5  # it starts as something rare, not as certainty
    assert predicted_maps(model, PIXELS).shape == (2, 4, 64, 96)
    classes, border = split_border(raw[:, :3], 3)
    assert border is None
    assert torch.equal(classes, raw[:, :3])


def test_a_plain_pipeline_gets_whole_glands_and_never_the_border(folder):
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    found = {part["label"]: np.asarray(part["mask"]) > 0
             for part in pipeline("image-segmentation", str(folder), device="cpu")(Image.fromarray(rgb))}
    assert "gland border" not in found
    ours = GlandSegmenter.from_pretrained(folder, device="cpu").probabilities(rgb).argmax(0)
    assert GlandSegmenter.from_pretrained(folder, device="cpu").class_names == list(THREE)
    for number, name in enumerate(THREE):
        np.testing.assert_array_equal(found.get(name, np.zeros((64, 96), bool)), ours == number)


def test_a_model_goes_on_with_its_border_and_is_not_taken_for_one_without(folder):
    again = load_student(str(folder), THREE, 0.5, border=True)
    kept = AutoModelForSemanticSegmentation.from_pretrained(folder)
    assert torch.equal(again.decode_head.classifier.bias, kept.decode_head.classifier.bias)
    with pytest.raises(ClassNamesError, match="--border_px 4"):
        load_student(str(folder), THREE, 0.5)
    with pytest.raises(ClassNamesError, match="--border_px 4"):  # its border would be the fourth class
        load_student(str(folder), (*THREE, "mucinous"), 0.5)
    other = load_student(str(folder), ("background", "gland"), 0.5, border=True)  # another number of outputs: a new head
    assert output_maps(other(PIXELS).logits, 2)[:, 2].max() < 0.9


@pytest.mark.parametrize("family", ["upernet", "mobilevit", "mobilevitv2", "beit", "mobilenet_v2"])
def test_every_family_has_a_place_for_it(family):
    small = {"upernet": {"backbone_config": {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 8, 8],
                                             "depths": [1, 1, 1, 1], "layer_type": "basic",
                                             "out_features": ["stage1", "stage2", "stage3", "stage4"]}, "hidden_size": 8},
             "beit": {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16,
                      "image_size": 64, "out_indices": [1, 2, 3, 4], "use_auxiliary_head": False}}.get(family, {})
    torch.manual_seed(0)
    model = load_student(f"random:{family}", ("background", "gland"), None, small, border=True).eval()
    maps = predicted_maps(model, PIXELS[:, :, :, :64])
    assert maps.shape == (2, 3, 64, 64)
    assert 0.02 < maps[:, 2].mean() < 0.9
