import numpy as np
import pytest
import torch

from hf_gland.imaging.resample import resample_image, resample_labels, resample_probabilities


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


def test_the_filter_that_training_and_prediction_share_is_lanczos():
    """A dark line of 4 px at a third of the size: Lanczos overshoots on both sides of it, as no bilinear filter does."""
    line = np.full((6, 48, 3), 200, np.uint8)
    line[:, 20:24] = 40
    row = resample_image(line, (2, 16))[0, :, 0]
    assert row.tolist() == [200, 200, 200, 200, 198, 211, 144, 39, 192, 203, 199, 200, 200, 200, 200, 200]


def test_probabilities_shrink_by_averaging_all_pixels():
    """Antialiased: one bright pixel counts although no sample point of the smaller map lies on it."""
    probabilities = torch.zeros(1, 1, 32)
    probabilities[0, 0, 9] = 1
    small = resample_probabilities(probabilities, (1, 4))[0, 0]
    torch.testing.assert_close(small, torch.tensor([0.0446, 0.0859, 0.0, 0.0]), atol=1e-3, rtol=0)


def test_class_numbers_are_never_mixed():
    labels = np.zeros((9, 12), np.uint8)
    labels[:, 5:] = 7
    labels[4:] = 255
    small = resample_labels(labels, (3, 5))
    assert small.dtype == np.uint8
    assert small.tolist() == [[0, 0, 7, 7, 7], [255] * 5, [255] * 5]
    assert resample_labels(labels, (9, 12)) is labels
