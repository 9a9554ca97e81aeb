"""Backbones: for each family, how its network is loaded, which parameters are its head's, which sides it takes.

Networks are those of transformers' AutoModelForSemanticSegmentation, so that what is trained is a plain repository. A
plain encoder (DINOv2 and such) gets UperNet's head. How pictures are scaled for a family is in `preprocessing`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSemanticSegmentation,
    PretrainedConfig,
    PreTrainedModel,
    UperNetConfig,
)

from hf_gland.errors import HfGlandError, ModelError
from hf_gland.labels import IGNORE_INDEX
from hf_gland.model.border import BORDER_NAME, start_below_classes
from hf_gland.model.identity import (
    BORDER_KEY,
    MISSING_MPP_KEY,
    MPP_KEY,
    TEMPERATURE_KEY,
    ClassNamesError,
    check_class_names,
    class_names_of,
    has_border,
)
from hf_gland.model.loading import (
    check_location,
    first_line,
    load_config,
    load_network_weights,
    weights_sha256,
)
from hf_gland.model.preprocessing import Preprocessing, read_preprocessing
from hf_gland.model.segformer_head import use_cheaper_head

RANDOM_PREFIX = "random:"
IMAGENET = Preprocessing()
HALVES = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
BLUE_FIRST = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), bgr=True)
# The families that work, and how pictures are scaled for each where its repository does not say.
SEGMENTERS = {"segformer": IMAGENET, "upernet": IMAGENET, "beit": HALVES, "mobilenet_v2": HALVES, "mobilevit": BLUE_FIRST,
              "mobilevitv2": BLUE_FIRST}
ENCODERS = {"dinov2": IMAGENET, "dinov2_with_registers": IMAGENET, "dinov3_vit": IMAGENET, "swin": IMAGENET,
            "convnext": IMAGENET}  # these get UperNet's head
FAMILIES = SEGMENTERS | ENCODERS
REFUSED = {"data2vec-vision": "its head takes pictures of one size alone",
           "dpt": "its head takes square pictures alone",
           "sapiens2": "its image processor needs torchvision", "tipsv2_dpt": "its image processor needs torchvision",
           "vit": "transformers has no backbone of it whose features UperNet could take"}
COARSEST_STRIDE_PX = 32  # of hierarchical encoders


class BackboneError(HfGlandError):
    """A backbone cannot be loaded; the message names it and the remedy."""


def load_student(backbone: str, class_names: Sequence[str], mpp: float | None, overrides: Mapping[str, Any] | None = None,
                 missing_mpp: float | None = None, border: bool = False) -> PreTrainedModel:
    """`load_network`, ready to be trained: with the cheaper forward pass that a SegFormer has here, and without the
    parameters that get no gradient. Raises HfGlandError."""
    model = load_network(backbone, class_names, mpp, overrides, missing_mpp, border)
    use_cheaper_head(model)
    freeze_unused(model)
    return model


def freeze_unused(model: PreTrainedModel) -> None:
    """Take parameters that segmentation does not use (DINOv2's mask token, MobileNetV2's last layer) out of training:
    they get no gradient, for which several processes would wait. Draws no random number."""
    training, parameters, side_px = model.training, list(model.parameters()), 2 * side_multiple_px(model)
    logits = model.eval()(pixel_values=torch.zeros(1, 3, side_px, side_px)).logits
    gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    model.train(training)


def load_network(backbone: str, class_names: Sequence[str], mpp: float | None, overrides: Mapping[str, Any] | None = None,
                 missing_mpp: float | None = None, border: bool = False) -> PreTrainedModel:
    """A segmentation network of transformers, as it comes, with a fresh head for `class_names`.

    `backbone`: a Hub id or a folder whose weights are safetensors, or `random:MODEL_TYPE` for random weights.
    `overrides`: settings of the network's config; those of an encoder under UperNet in a dict `backbone_config`.
    `mpp` (µm per pixel it will be trained at, None: unknown) and `missing_mpp` (what is assumed of images that state none)
    are recorded in the network's config, as are the class names and whether it has a `border` output (see model.border).
    Raises BackboneError, and ClassNamesError for a model trained here whose outputs have other names or another order.
    """
    outputs = [*class_names, *([BORDER_NAME] if border else [])]
    labels = {"id2label": dict(enumerate(outputs)), "label2id": {n: i for i, n in enumerate(outputs)},
              "semantic_loss_ignore_index": IGNORE_INDEX}
    changes = dict(overrides or {})
    try:
        if backbone.startswith(RANDOM_PREFIX):
            model = _random_network(backbone.removeprefix(RANDOM_PREFIX), labels, changes)
            if border:
                start_below_classes(model)
        else:
            model = _pretrained_network(check_location(backbone), labels, changes, border)
    except ClassNamesError:
        raise
    except Exception as error:  # each family refuses settings in a way of its own
        raise BackboneError(
            f"backbone {backbone!r} cannot be loaded: {first_line(error)}. Give a Hub id or a folder with config.json and "
            f"model.safetensors of one of {', '.join(FAMILIES)}, or random:segformer") from error
    known = type(model.config)()
    unknown = sorted(key for key in changes if not hasattr(known, key))
    if unknown:
        raise BackboneError(f"backbone {backbone!r} has no setting {', '.join(unknown)}; model_kwargs takes those of "
                            f"transformers' {type(known).__name__}")
    setattr(model.config, MPP_KEY, mpp)
    setattr(model.config, MISSING_MPP_KEY, missing_mpp)
    setattr(model.config, BORDER_KEY, border)
    if hasattr(model.config, TEMPERATURE_KEY):  # was fitted to the weights that training starts from
        delattr(model.config, TEMPERATURE_KEY)
    return model.float()


def backbone_preprocessing(backbone: str) -> Preprocessing:
    """How pictures are scaled for a backbone: as its own preprocessor_config.json says, or as its family is used to.

    Raises HfGlandError.
    """
    if backbone.startswith(RANDOM_PREFIX):
        found = usual_preprocessing(backbone.removeprefix(RANDOM_PREFIX))
    else:
        found = read_preprocessing(backbone, usual_preprocessing(load_config(backbone).model_type), required=False)
    return dataclasses.replace(found, by_division=True)


def usual_preprocessing(model_type: str) -> Preprocessing:
    """How pictures are scaled for a family."""
    return FAMILIES.get(model_type, IMAGENET)


def backbone_sha256(backbone: str) -> str | None:
    """Checksum of a backbone's weights; None for random ones."""
    return None if backbone.startswith(RANDOM_PREFIX) else weights_sha256(check_location(backbone))


def head_parameter_names(model: PreTrainedModel) -> set[str]:
    """Names of the parameters outside the pretrained encoder (they start at random and learn faster)."""
    prefix = f"{model.base_model_prefix}."
    names = {n for n, _ in model.named_parameters()}
    encoder = {n for n in names if n.startswith(prefix) or n.startswith("backbone.")}
    return names - encoder


def side_multiple_px(model: nn.Module | PretrainedConfig) -> int:
    """What a picture's sides must be a multiple of, for a network or by its config: an isotropic encoder's patch (14 px for
    DINOv2), or the coarsest stride of a hierarchical one."""
    network = getattr(model, "module", model)  # where DDP keeps it
    config = model if isinstance(model, PretrainedConfig) else getattr(network, "config", None)
    encoder = getattr(config, "backbone_config", None) or config
    patch = getattr(encoder, "patch_size", None)
    isotropic = hasattr(encoder, "num_hidden_layers") and not hasattr(encoder, "depths")
    return patch if isotropic and isinstance(patch, int) else COARSEST_STRIDE_PX


def _random_network(model_type: str, labels: Mapping[str, Any], changes: dict[str, Any]) -> PreTrainedModel:
    _check_family(model_type)
    if model_type in ENCODERS:
        encoder = AutoConfig.for_model(model_type, **changes.pop("backbone_config", {}))
        config: PretrainedConfig = _upernet_config(encoder, labels, changes)
    else:
        config = AutoConfig.for_model(model_type, **labels, **changes)
    return AutoModelForSemanticSegmentation.from_config(config)


def _pretrained_network(where: str, labels: Mapping[str, Any], changes: dict[str, Any], border: bool) -> PreTrainedModel:
    before = load_config(where)
    _check_family(before.model_type)
    if before.model_type in ENCODERS:
        encoder = load_config(where, **changes.pop("backbone_config", {}))
        model = AutoModelForSemanticSegmentation.from_config(_upernet_config(encoder, labels, changes))
        model.backbone, absent = load_network_weights(type(model.backbone), where, encoder, fresh_head=True)
        held = {name for name, _ in model.backbone.named_parameters()}
    else:
        if hasattr(before, MPP_KEY):
            _check_outputs(before, list(labels["id2label"].values()), border, f"backbone {where}")
        if hasattr(before, "use_auxiliary_head"):  # its loss is not used
            changes = {"use_auxiliary_head": False, **changes}
        config = load_config(where, **labels, **changes)
        model, absent = load_network_weights(AutoModelForSemanticSegmentation, where, config, fresh_head=True)
        held = {name for name, _ in model.named_parameters()} - head_parameter_names(model)
    if border and not (has_border(before) and len(before.id2label or ()) == len(labels["id2label"])):
        start_below_classes(model)
    if len(held & set(absent)) > len(held) / 2:
        raise ModelError(f"{where}: most weights of the encoder are missing ({min(held & set(absent))}, …)")
    return model


def _check_outputs(before: PretrainedConfig, outputs: list[str], border: bool, where: str) -> None:
    """Raise ClassNamesError where the head of a model trained here would be taken over under other names; one of another
    size starts anew."""
    if len(class_names_of(before)) == len(outputs) - border:
        check_class_names(class_names_of(before), outputs[:len(outputs) - border], where)
    elif len(before.id2label or ()) != len(outputs):
        return
    if has_border(before) != border:
        raise ClassNamesError(f"{where}: was trained {'without' if border else 'with'} an output for the border of glands; "
                              f"train with --border_px {0 if border else 4}")


def _upernet_config(encoder: PretrainedConfig, labels: Mapping[str, Any], changes: Mapping[str, Any]) -> UperNetConfig:
    """UperNet over the four stages of a hierarchical encoder, or over every fourth part of an isotropic one's layers."""
    depth = len(getattr(encoder, "depths", ())) or encoder.num_hidden_layers
    encoder.out_indices = [round(depth * quarter / 4) for quarter in (1, 2, 3, 4)]
    return UperNetConfig(backbone_config=encoder, use_auxiliary_head=False, **labels, **changes)


def _check_family(model_type: str) -> None:
    if model_type not in FAMILIES:
        raise ModelError(f"{model_type} networks do not work here: "
                           f"{REFUSED.get(model_type, 'none was tried, or transformers has no segmentation of them')}")
