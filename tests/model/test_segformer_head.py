"""The cheaper SegFormer head gives what transformers' own gives: values, gradients, buffers and the saved file."""

import copy

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSemanticSegmentation, SegformerConfig, SegformerForSemanticSegmentation

from hf_gland.model.segformer_head import MixedBeforeStretching, keep_channels_last, use_cheaper_head


def pair(**settings) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = SegformerForSemanticSegmentation(SegformerConfig(
        hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 2, 3, 4], depths=[1, 1, 1, 1], decoder_hidden_size=20,
        num_labels=3, hidden_dropout_prob=0.0, drop_path_rate=0.0, **{"classifier_dropout_prob": 0.0, **settings}))
    nn.init.normal_(plain.decode_head.batch_norm.running_mean)
    nn.init.uniform_(plain.decode_head.batch_norm.weight, 0.5, 2)
    for projection in plain.decode_head.linear_projections:
        nn.init.normal_(projection.proj.bias)
    cheap = copy.deepcopy(plain)
    use_cheaper_head(cheap)
    assert isinstance(cheap.decode_head, MixedBeforeStretching)
    return plain, cheap


@pytest.mark.parametrize("side", [(64, 64), (96, 160), (70, 45)])
def test_same_logits_and_gradients(side):
    plain, cheap = pair()
    pixels = torch.randn(2, 3, *side)
    results = []
    for model in (plain, cheap):
        model.train()
        logits = model(pixel_values=pixels).logits
        logits.square().mean().backward()
        results.append(logits)
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)
    for (name, one), (_, other) in zip(plain.named_parameters(), cheap.named_parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    for one, other in zip(plain.buffers(), cheap.buffers(), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-5)
    plain.eval(), cheap.eval()
    torch.testing.assert_close(cheap(pixel_values=pixels).logits, plain(pixel_values=pixels).logits, rtol=1e-4, atol=1e-5)


def test_autocast_stays_near_full_precision():
    plain, cheap = (model.eval() for model in pair())
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = [model(pixel_values=pixels).logits.float() for model in (plain, cheap)]
    exact = plain(pixel_values=pixels).logits
    assert cheap(pixel_values=pixels).logits.dtype == torch.float32
    ours, theirs = ((r - exact).abs().max() for r in (rough[1], rough[0]))
    assert ours < max(2 * theirs, 0.02)


def test_dropout_takes_whole_channels_in_training_only():
    _, cheap = pair(classifier_dropout_prob=0.5)
    pixels = torch.randn(1, 3, 64, 64)
    cheap.eval()
    assert torch.equal(cheap(pixel_values=pixels).logits, cheap(pixel_values=pixels).logits)
    cheap.train()
    cheap.decode_head.batch_norm.eval()
    with torch.no_grad():
        # A head that copies channel 0 shows it either doubled everywhere or gone everywhere.
        cheap.decode_head.classifier.weight.zero_()[:, 0] = 1
        cheap.decode_head.classifier.bias.zero_()
        torch.manual_seed(0)
        seen = [cheap(pixel_values=pixels).logits for _ in range(12)]
    gone = [bool((s == 0).all()) for s in seen]
    assert any(gone)
    assert not all(gone)


def test_saved_weights_are_transformers_own(tmp_path):
    plain, cheap = pair()
    for model, name in ((plain, "plain"), (cheap, "cheap")):
        model.save_pretrained(tmp_path / name)
    own, saved = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "cheap"))
    assert saved.keys() == own.keys()
    assert all(torch.equal(saved[k], own[k]) for k in own)
    loaded = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "cheap").eval()
    assert type(loaded.decode_head).__name__ == "SegformerDecodeHead"
    pixels = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded(pixel_values=pixels).logits, cheap.eval()(pixel_values=pixels).logits)


def test_a_batch_of_one_is_not_turned_round_for_each_convolution():
    """What the depthwise convolutions give stays channels-last, so that the tokens after them are a view."""
    plain, cheap = pair()
    pixels = torch.randn(1, 3, 64, 64)
    keep_channels_last(cheap)
    layouts = []
    for layer in (m for m in cheap.modules() if isinstance(m, nn.Conv2d) and m.groups > 1):
        layer.register_forward_hook(lambda _, __, out: layouts.append(out.stride(1)))
    with torch.inference_mode():
        logits = cheap.eval()(pixel_values=pixels).logits
        torch.testing.assert_close(logits, plain.eval()(pixel_values=pixels).logits, rtol=1e-4, atol=1e-5)
    assert len(layouts) == 4
    assert set(layouts) == {1}


def test_other_networks_are_left_alone():
    model = nn.Sequential(nn.Conv2d(3, 2, 3))
    use_cheaper_head(model)
    keep_channels_last(model)
    assert type(model) is nn.Sequential
    assert model[0].weight.is_contiguous()
