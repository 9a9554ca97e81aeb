"""What a model says of itself, and whether it is a model of glands."""

import pytest
import torch
from networks import BINARY
from tiny import NETWORK
from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

from hf_gland.errors import ModelError
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.model.identity import ClassNamesError, check_class_names, model_facts


def config(names=BINARY, **facts):
    return SegformerConfig(**NETWORK, id2label=dict(enumerate(names)), **facts)


def refuses(settings, *words):
    with pytest.raises(ModelError) as caught:
        model_facts(settings, "some/model")
    for word in ("some/model", *words):
        assert word in str(caught.value)


def test_a_model_of_ours_tells_its_facts():
    names = ("stroma", "benign", "malignant")
    facts = model_facts(config(names, mpp=0.62, missing_mpp=0.5, confidence_temperature=1.5), "x")
    assert facts.class_names == names
    assert (facts.mpp, facts.missing_mpp, facts.temperature) == (0.62, 0.5, 1.5)
    unknown = model_facts(config(mpp=None), "x")
    assert (unknown.mpp, unknown.missing_mpp, unknown.temperature) == (None, None, 1.0)


def test_a_model_from_elsewhere_with_background_and_gland_is_taken():
    assert model_facts(config(("Background", "Gland tissue")), "x").class_names == ("Background", "Gland tissue")


@pytest.mark.parametrize(("names", "words"), [
    (("gland", "background"), ("gland, background", "must be class 0")),
    ([f"thing{i}" for i in range(150)], ("thing0, thing1", "150 in all", '"mpp"')),
    (("background", "aeroplane", "bicycle"), ("not a model of glands", "aeroplane")),
])
def test_a_model_of_something_else_is_refused(names, words):
    refuses(config(names), *words)


def test_classes_the_wrong_way_round_are_refused_for_our_own_models_too():
    refuses(config(("gland", "background"), mpp=0.5), "must be class 0")


@pytest.mark.parametrize("facts", [{"mpp": 0}, {"mpp": -0.5}, {"mpp": 1e-9}, {"mpp": 1e9}, {"mpp": "0.5"}, {"mpp": True},
                                   {"mpp": 0.5, "missing_mpp": 1e-6}, {"mpp": 0.5, "confidence_temperature": 1e9},
                                   {"mpp": 0.5, "confidence_temperature": float("nan")}])
def test_facts_that_cannot_be_are_refused(facts):
    refuses(config(**facts), list(facts)[-1])


def test_swapped_classes_are_an_error_that_names_both_lists():
    check_class_names(["background", "benign"], ("background", "benign"), "x")
    with pytest.raises(ClassNamesError, match=r"background, benign, malignant.*background, malignant, benign"):
        check_class_names(["background", "benign", "malignant"], ["background", "malignant", "benign"], "RUN on DATA")


def test_a_foreign_repository_is_refused_before_it_is_used(tmp_path):
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(config(("gland", "background"))).save_pretrained(tmp_path)
    SegformerImageProcessorPil().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="must be class 0"):
        GlandSegmenter.from_pretrained(tmp_path)
