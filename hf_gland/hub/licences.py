"""Which licences the Hub knows, which allow passing data on, and what a model inherits from its weights and data."""

from dataclasses import dataclass

from hf_gland.data.sources import source_of
from hf_gland.hub.errors import HubError
from hf_gland.markdown import escaped

# https://huggingface.co/docs/hub/repositories-licenses
_KNOWN = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl mpl-2.0 odc-by odbl openmdw-1.0 openrail++
    osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license fair-noncommercial-research-license
    llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown other
"""
HUB_LICENCES = frozenset(_KNOWN.split())
# Anyone may pass the data on, changed or not, on terms that the card can state in one word.
_REDISTRIBUTABLE = """
    apache-2.0 mit cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0
    cc-by-nc-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0
    odc-by odbl pddl unlicense
"""
REDISTRIBUTABLE = frozenset(_REDISTRIBUTABLE.split())
# Data under these puts no condition on the weights that were trained on it, apart from naming it.
_UNCONDITIONAL = """
    apache-2.0 mit cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cdla-permissive-1.0 cdla-permissive-2.0 odc-by pddl
    unlicense
"""
UNCONDITIONAL = frozenset(_UNCONDITIONAL.split())
NVIDIA_SEGFORMER = ("nvidia/mit-b", "nvidia/segformer")
NVIDIA_TERMS = ("the NVIDIA Source Code License for SegFormer (non-commercial: research or evaluation only), "
                "https://github.com/NVlabs/SegFormer/blob/master/LICENSE")


@dataclass(frozen=True)
class Licence:
    """`hub_id`: what the card's metadata say; with "other", `name` and the `terms`, one sentence each."""

    hub_id: str
    terms: tuple[str, ...]
    name: str = ""


def may_share(source_title: str, licence: str) -> bool:
    """Whether anyone may publish the images of a dataset: its source says so, or else its licence does."""
    source = source_of(source_title)
    return licence in REDISTRIBUTABLE if source is None or source.shareable is None else source.shareable


def model_licence(base_model: str, data_licence: str, chosen: str = "") -> Licence:
    """The licence of weights trained on data of `data_licence`, starting from `base_model` ("": random weights).

    Weights from NVIDIA's SegFormer and data for research only make the model so too. `chosen` (a Hub licence id) is
    needed, and taken, where the terms of the base model are not known here. Raises HubError.
    """
    data = (f"Training data: {escaped(data_licence)}.",)
    if chosen and chosen not in HUB_LICENCES - {"other", "unknown"}:
        raise HubError(f"licence '{chosen}': not one that the Hub knows; see https://huggingface.co/docs/hub/repositories-licenses")
    if base_model.startswith(NVIDIA_SEGFORMER):
        return Licence("other", (f"The weights start from {base_model}, under {NVIDIA_TERMS}.", *data),
                       "non-commercial-research")
    if data_licence not in UNCONDITIONAL:
        start = (f"The weights start from {base_model}; its licence applies too.",) if base_model else ()
        return Licence("other", (*start, *data, "The weights may be used as the training data may."), "as-the-training-data")
    if base_model and not chosen:
        raise HubError(f"{base_model}: its licence is not known here; read it on its page and give the licence of the "
                       "trained weights with --licence, such as --licence apache-2.0")
    start = (f"The weights start from {base_model}." if base_model else "The weights start from random numbers.",)
    return Licence(chosen or "apache-2.0", (*start, *data))
