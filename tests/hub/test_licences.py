import pytest

from hf_gland.data.card import HUB_LICENCES
from hf_gland.data.sources.glas import GLAS_LICENCE
from hf_gland.hub.errors import HubError
from hf_gland.hub.licences import REDISTRIBUTABLE, UNCONDITIONAL, may_share, model_licence


def test_the_lists_agree():
    assert REDISTRIBUTABLE | UNCONDITIONAL <= HUB_LICENCES
    assert not any("-nc" in licence or "-sa" in licence or "-nd" in licence for licence in UNCONDITIONAL)
    assert not any("-nd" in licence for licence in REDISTRIBUTABLE)


@pytest.mark.parametrize(("licence", "allowed"), [("cc-by-4.0", True), ("cc0-1.0", True), ("cc-by-nd-4.0", False),
                                                  ("unknown", False), (GLAS_LICENCE, False), ("", False)])
def test_what_may_be_passed_on(licence, allowed):
    assert may_share("mine", licence) is allowed


def test_a_known_source_says_itself_whether_its_images_may_be_given_on():
    assert not may_share("GlaS", "mit")
    assert may_share("synthetic", "unknown")


def test_weights_from_nvidia_are_for_research_whatever_the_data():
    licence = model_licence("nvidia/mit-b0", ["cc0-1.0"], "apache-2.0")
    assert (licence.hub_id, licence.name) == ("other", "non-commercial-research")
    assert "NVIDIA Source Code License for SegFormer" in licence.terms[0]
    assert "nvidia/mit-b0" in licence.terms[0]


def test_data_for_research_bind_the_weights():
    licence = model_licence("", [GLAS_LICENCE])
    assert licence.hub_id == "other"
    assert any(GLAS_LICENCE in term for term in licence.terms)
    both = model_licence("nvidia/mit-b0", [GLAS_LICENCE])
    assert "NVIDIA" in both.terms[0]
    assert GLAS_LICENCE in both.terms[1]


def test_the_data_of_every_training_bind_the_weights():
    licence = model_licence("", ["cc0-1.0", GLAS_LICENCE])
    assert licence.hub_id == "other"
    assert any("cc0-1.0" in term and GLAS_LICENCE in term for term in licence.terms)


def test_free_data_and_random_weights():
    assert model_licence("", ["cc0-1.0"]).hub_id == "apache-2.0"
    assert model_licence("", ["cc-by-4.0"], "mit").hub_id == "mit"
    assert not model_licence("", ["cc0-1.0"]).name


def test_other_base_models_need_a_word():
    with pytest.raises(HubError, match=r"its licence is not known here.*--licence"):
        model_licence("openmmlab/upernet-convnext-tiny", ["cc0-1.0"])
    assert model_licence("openmmlab/upernet-convnext-tiny", ["cc0-1.0"], "mit").hub_id == "mit"
    with pytest.raises(HubError, match="not one that the Hub knows"):
        model_licence("", ["cc0-1.0"], "free")
