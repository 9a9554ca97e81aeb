import pytest
import torch
import torch.nn.functional as F

from hf_gland.model.views import averaged_over_views


def smaller(tiles):
    """At four fifths of the size, rounded: 20×30 to 16×24, 9×11 to 7×9."""
    return F.interpolate(tiles, size=(round(tiles.shape[2] * 0.8), round(tiles.shape[3] * 0.8)), mode="bilinear",
                         antialias=True)


@pytest.mark.parametrize("hw", [(20, 30), (9, 11)])
def test_the_mean_over_views_by_hand(hw):
    torch.manual_seed(1)
    network = torch.nn.Conv2d(3, 2, (3, 5), padding=(1, 2))
    tiles = torch.rand(2, 3, *hw)
    by_hand = [network(tiles),
               F.interpolate(network(smaller(tiles.flip(3))), size=hw, mode="bilinear").flip(3),
               network(tiles.flip(2, 3)).flip(2, 3),
               F.interpolate(network(smaller(tiles.flip(2))), size=hw, mode="bilinear").flip(2)]
    for count in (1, 2, 3, 4):
        torch.testing.assert_close(averaged_over_views(network, count)(tiles), torch.stack(by_hand[:count]).mean(0))


def test_views_of_stored_pixels_are_those_of_numbers():
    network = torch.nn.Conv2d(3, 2, 3, padding=1)
    stored = torch.randint(0, 256, (1, 3, 20, 20), dtype=torch.uint8)
    averaged = averaged_over_views(lambda tiles: network(tiles.float() / 255), 4)
    torch.testing.assert_close(averaged(stored), averaged(stored.float()))


def test_what_lies_in_a_corner_stays_there():
    tiles = torch.zeros(1, 3, 40, 60)
    tiles[..., :10, :15] = 1.0
    found = averaged_over_views(lambda seen: seen, 4)(tiles)
    assert found[..., :8, :13].min() > 0.99
    assert found[..., 12:, :].max() < 0.01
    assert found[..., :, 17:].max() < 0.01


@pytest.mark.parametrize("hw", [(1, 1), (1, 50), (3, 2)])
def test_tiny_tiles_keep_their_size(hw):
    assert averaged_over_views(lambda seen: seen, 4)(torch.rand(1, 3, *hw)).shape == (1, 3, *hw)
