import numpy as np
import pytest
import torch

from hf_gland.imaging.resample import (
    PixelSizeError,
    check_mpp,
    resample_image,
    resample_probabilities,
    working_hw,
)


@pytest.mark.parametrize(("image_mpp", "model_mpp", "expected"), [
    (None, 0.5, (100, 200)), (0.5, None, (100, 200)), (None, None, (100, 200)), (0.5, 0.5, (100, 200)),
    (0.25, 0.5, (50, 100)), (1.0, 0.5, (200, 400)), (0.62, 0.5, (124, 248)),
])
def test_working_size(image_mpp, model_mpp, expected):
    assert working_hw((100, 200), image_mpp, model_mpp) == expected


def test_a_side_never_vanishes():
    assert working_hw((1, 3000), 0.05, 0.5) == (1, 300)


@pytest.mark.parametrize("mpp", [0, -1, 0.001, 500, float("nan"), float("inf")])
def test_absurd_pixel_sizes_are_refused(mpp):
    with pytest.raises(PixelSizeError, match=r"slide 3: .* not a plausible pixel size"):
        check_mpp(mpp, "slide 3")
    with pytest.raises(PixelSizeError, match="not a plausible"):
        working_hw((10, 10), mpp, 0.5)


def test_blowing_an_image_up_beyond_memory_is_refused():
    with pytest.raises(PixelSizeError, match="80000×40000 px, above the limit"):
        working_hw((2000, 4000), 10, 0.5, "overview.png")


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
