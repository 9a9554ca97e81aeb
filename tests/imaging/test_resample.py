import numpy as np
import pytest
import torch

from hf_gland.imaging.resample import (
    resample_image,
    resample_probabilities,
)


def test_resampling_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the smaller image can hold: only the mean may remain
    smaller = resample_image(stripes, (16, 16))
    assert smaller.shape == (16, 16, 3)
    assert np.abs(smaller[:, 2:-2].astype(int) - 127.5).max() < 12
    assert resample_image(stripes, (64, 64)) is stripes


@pytest.mark.parametrize("hw", [(7, 50), (40, 9), (90, 91), (1, 1)])
def test_resampled_probabilities_still_sum_to_one(hw):
    probabilities = torch.rand(3, 30, 40).softmax(dim=0)
    result = resample_probabilities(probabilities, hw)
    assert result.shape == (3, *hw)
    torch.testing.assert_close(result.sum(0), torch.ones(hw), atol=1e-5, rtol=0)


def test_resampling_keeps_positions():
    probabilities = torch.zeros(1, 20, 30)
    probabilities[:, :10] = 1
    result = resample_probabilities(probabilities, (40, 60))[0]
    assert (result[:19] > 0.99).all()
    assert (result[21:] < 0.01).all()
