import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.model.tiled import blending_weights, tile_starts, tiled_probabilities
from hf_gland.options import Tiling

SIDES = st.integers(1, 150)
TILES = st.integers(32, 64)


def per_pixel(tiles):
    """Probabilities that depend on each pixel alone: tiling must not change them."""
    return torch.softmax(tiles, dim=1)


def per_tile_position(tiles):
    """Probabilities that depend on the place inside the tile: what blending has to smooth."""
    ramp = torch.linspace(0.1, 0.9, tiles.shape[-1]).expand(len(tiles), 1, *tiles.shape[2:])
    return torch.cat([ramp, 1 - ramp], dim=1)


@settings(deadline=None, max_examples=60)
@given(side=SIDES, tile=TILES, data=st.data())
def test_weights_are_positive_and_sum_to_one_over_every_pixel(side, tile, data):
    stride = data.draw(st.integers(1, tile))
    weights, starts = blending_weights(side, tile, stride), tile_starts(side, tile, stride)
    total = torch.zeros(side, dtype=torch.float64)
    for start, weight in zip(starts, weights, strict=True):
        assert start + len(weight) <= side
        total[start:start + len(weight)] += weight
    assert (weights > 0).all()
    torch.testing.assert_close(total, torch.ones(side, dtype=torch.float64), atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=40)
@given(height=SIDES, width=SIDES, tile=TILES, batch_size=st.integers(1, 5), data=st.data())
def test_what_depends_on_single_pixels_is_unchanged_by_tiling(height, width, tile, batch_size, data):
    stride = data.draw(st.integers(8, tile))
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(height * 151 + width))
    result = tiled_probabilities(per_pixel, image, Tiling(tile, stride, batch_size))
    torch.testing.assert_close(result, per_pixel(image[None])[0], atol=1e-6, rtol=0)


def test_a_constant_prediction_stays_constant():
    image = torch.full((3, 101, 77), 0.4)
    result = tiled_probabilities(lambda t: t[:, :2], image, Tiling(32, 20))
    assert result.shape == (2, 101, 77)
    torch.testing.assert_close(result, torch.full((2, 101, 77), 0.4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("hw", [(48, 48), (48, 33), (32, 40)])
def test_an_image_of_one_tile_is_the_untiled_result_exactly(hw):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 2, 5, padding=2)
    image = torch.rand(3, *hw)
    expected = network(image[None]).softmax(1)[0].detach()
    assert torch.equal(tiled_probabilities(lambda t: network(t).softmax(1), image, Tiling(48, 30)), expected)


def test_every_tile_handed_to_the_network_has_the_same_size_and_lies_inside():
    seen = []

    def forward(tiles):
        seen.append(tuple(tiles.shape))
        return tiles[:, :2]

    image = torch.arange(70 * 100, dtype=torch.float32).view(1, 70, 100).expand(3, 70, 100)
    result = tiled_probabilities(forward, image, Tiling(64, 48, 3))
    assert seen == [(3, 3, 64, 64), (1, 3, 64, 64)]
    torch.testing.assert_close(result, image[:2], rtol=1e-6, atol=1e-6)


def test_a_strip_thinner_than_a_tile_is_tiled_along_its_length_only():
    seen = []
    tiled_probabilities(lambda t: seen.append(tuple(t.shape[2:])) or t[:, :2], torch.rand(3, 40, 200), Tiling(64, 64))
    assert set(seen) == {(40, 64)}


def test_blending_has_no_seams():
    flat = tiled_probabilities(per_tile_position, torch.zeros(3, 64, 256), Tiling(64, 32))[0]
    butted = tiled_probabilities(per_tile_position, torch.zeros(3, 64, 256), Tiling(64, 64))[0]
    assert butted.diff(dim=1).abs().max() > 0.7  # the tile edges, without overlap
    assert flat[:, 32:-32].diff(dim=1).abs().max() < 0.05


def test_a_tiles_weight_is_a_raised_cosine_from_pixel_centre_to_pixel_centre():
    """Two tiles of 32 px, 20 px apart, by hand: sin²(π (i + ½) / 32) of each over the sum of both."""
    first, second = blending_weights(52, 32, 20)
    assert first[:20].tolist() == [1] * 20
    assert first[[20, 23, 26, 31]].tolist() == pytest.approx([0.9970624401, 0.8286879992, 0.4268717834, 0.0029375599])
    assert second[[0, 11, 12]].tolist() == pytest.approx([0.0029375599, 0.9970624401, 1])


@pytest.mark.parametrize("hw", [(1, 1), (1, 90), (31, 5), (3, 40)])
def test_images_smaller_than_a_tile_keep_their_size(hw):
    image, seen = torch.rand(3, *hw), []
    result = tiled_probabilities(lambda t: seen.append(t.shape[2:]) or t[:, :2], image, Tiling(64, 32))
    torch.testing.assert_close(result, image[:2], rtol=0, atol=1e-6)
    assert {shape[0] for shape in seen} == {hw[0]}


def test_half_precision_is_accumulated_in_float32():
    image = torch.rand(3, 90, 90)
    with torch.autocast("cpu", torch.bfloat16):
        network = torch.nn.Conv2d(3, 2, 1)
        result = tiled_probabilities(lambda t: network(t).softmax(1).bfloat16(), image, Tiling(32, 20))
    assert result.dtype == torch.float32
    torch.testing.assert_close(result.sum(0), torch.ones(90, 90), atol=2**-7, rtol=0)
    assert not torch.equal(result, result.bfloat16().float())


def test_no_gradient_is_kept():
    network = torch.nn.Conv2d(3, 2, 1)
    assert not tiled_probabilities(network, torch.rand(3, 40, 40), Tiling(32, 32)).requires_grad


def test_a_forward_that_changes_the_size_is_refused():
    with pytest.raises(ValueError, match="at the size of its input"):
        tiled_probabilities(lambda t: t[..., ::4, ::4], torch.rand(3, 80, 80), Tiling(64, 32))


@pytest.mark.parametrize("shape", [(80, 80), (3, 0, 80), (1, 3, 80, 80)])
def test_a_misshapen_image_is_refused(shape):
    with pytest.raises(ValueError, match="height, width"):
        tiled_probabilities(per_pixel, torch.zeros(shape), Tiling(64, 32))
