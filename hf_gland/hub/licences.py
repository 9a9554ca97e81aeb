"""Which licences the Hub knows, which allow passing data on, and what a model inherits from its weights and data."""

from collections.abc import Sequence
from dataclasses import dataclass

from hf_gland.data.card import HUB_LICENCES
from hf_gland.data.sources import source_of
from hf_gland.hub.errors import HubError
from hf_gland.markdown import escaped

# Data under these puts no condition on the weights that were trained on it, apart from naming it.
_UNCONDITIONAL = """
    apache-2.0 mit cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cdla-permissive-1.0 cdla-permissive-2.0 odc-by pddl
    unlicense
"""
UNCONDITIONAL = frozenset(_UNCONDITIONAL.split())
# Under these too, anyone may pass the data on, changed or not, on terms that the card can state in one word.
_SHARED_ALIKE = """
    cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
    cdla-sharing-1.0 odbl
"""
REDISTRIBUTABLE = UNCONDITIONAL | frozenset(_SHARED_ALIKE.split())
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


def model_licence(base_model: str, data_licences: Sequence[str], chosen: str = "") -> Licence:
    """The licence of weights trained on data of `data_licences`, starting from `base_model` ("": random weights).

    Weights from NVIDIA's SegFormer and data for research only make the model so too. `chosen` (a Hub licence id) is
    needed, and taken, where the terms of the base model are not known here. Raises HubError.
    """
    data = (f"Training data: {'; '.join(map(escaped, data_licences))}.",)
    if chosen and chosen not in HUB_LICENCES - {"other", "unknown"}:
        raise HubError(f"licence '{chosen}': not one that the Hub knows; see https://huggingface.co/docs/hub/repositories-licenses")
    if base_model.startswith(NVIDIA_SEGFORMER):
        return Licence("other", (f"The weights start from {base_model}, under {NVIDIA_TERMS}.", *data),
                       "non-commercial-research")
    if not UNCONDITIONAL.issuperset(data_licences):
        start = (f"The weights start from {base_model}; its licence applies too.",) if base_model else ()
        return Licence("other", (*start, *data, "The weights may be used as the training data may."), "as-the-training-data")
    if base_model and not chosen:
        raise HubError(f"{base_model}: its licence is not known here; read it on its page and give the licence of the "
                       "trained weights with --licence, such as --licence apache-2.0")
    start = (f"The weights start from {base_model}." if base_model else "The weights start from random numbers.",)
    return Licence(chosen or "apache-2.0", (*start, *data))
