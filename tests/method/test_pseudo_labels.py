import numpy as np
import pytest
import torch

from hf_gland.method.pseudo_labels import allocate, dequantise, fill, quantise


def test_quantising_is_exact_to_half_a_level_and_stable():
    values = torch.linspace(0, 1, 5001)
    stored = quantise(values)
    back = dequantise(torch.from_numpy(stored))
    assert stored.dtype == np.uint8
    assert back.dtype == torch.float32
    assert (back - values).abs().max() <= 1 / 510 + 1e-6
    assert np.array_equal(quantise(back), stored)
    assert (stored[0], stored[-1]) == (0, 255)


def test_values_just_outside_the_range_do_not_wrap_around():
    assert quantise(torch.tensor([-1e-6, 1 + 1e-6])).tolist() == [0, 255]


def test_every_level_survives():
    levels = torch.arange(256, dtype=torch.uint8)
    assert np.array_equal(quantise(dequantise(levels)), levels.numpy())


@pytest.mark.parametrize("classes", [2, 4])
def test_fill_writes_the_images_asked_for_and_counts_their_confidences(classes):
    rng = np.random.default_rng(0)
    sizes = [(5, 7), (4, 4), (6, 3)]
    predictions = [torch.from_numpy(rng.dirichlet(np.ones(classes), size).transpose(2, 0, 1)).float()
                   for size in sizes]
    predictions[0][:, 2:4, 1:5] = 0  # no opinion there
    arrays = [np.zeros((classes, *size), np.uint8) for size in sizes]
    histograms = fill(arrays.__getitem__, [0, 2], predictions.__getitem__, classes)
    assert not arrays[1].any()
    expected = np.zeros((classes, 256), np.int64)
    for i in (0, 2):
        assert np.array_equal(arrays[i], np.rint(predictions[i].numpy() * 255))
        for y in range(sizes[i][0]):
            for x in range(sizes[i][1]):
                pixel = arrays[i][:, y, x].tolist()
                if not any(pixel):
                    continue
                expected[pixel.index(max(pixel)), max(pixel)] += 1
    assert histograms.dtype == np.int64
    assert np.array_equal(histograms, expected)


def test_allocate_makes_the_folder_and_fills_with_zeros(tmp_path):
    path = tmp_path / "new" / "bank.u8"
    allocate(path, 1000)
    assert path.read_bytes() == bytes(1000)
    allocate(path, 10)  # replaces what was there
    assert path.read_bytes() == bytes(10)
    allocate(path, 0)
    assert path.stat().st_size == 0


def test_allocate_fails_at_once_where_there_is_no_room_and_names_the_file(tmp_path, file_size_limit):
    file_size_limit(4096)
    with pytest.raises(OSError, match=r"bank\.u8"):
        allocate(tmp_path / "bank.u8", 10**6)
