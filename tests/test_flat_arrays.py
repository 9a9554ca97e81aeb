import pickle

import numpy as np
import pytest

from hf_gland.flat_arrays import FlatArrays

SIZES = [(300, 200), (1, 7), (50, 400)]


@pytest.fixture
def arrays(tmp_path):
    """Three arrays of two planes, each byte another than its neighbours."""
    count = 2 * sum(height * width for height, width in SIZES)
    np.resize(np.arange(251, dtype=np.uint8), count).tofile(tmp_path / "flat.u8")
    return FlatArrays(tmp_path / "flat.u8", 2, SIZES)


def test_each_array_is_its_part_of_the_file(arrays, tmp_path):
    content = np.fromfile(tmp_path / "flat.u8", np.uint8)
    assert len(arrays) == 3
    assert np.array_equal(np.concatenate([arrays[i].ravel() for i in range(3)]), content)
    assert [arrays[i].shape for i in range(3)] == [(2, *size) for size in SIZES]


def test_another_process_is_sent_the_file_and_not_the_pixels(arrays):
    sent = pickle.dumps(arrays)
    assert len(sent) < 1000 < arrays.flat.size
    there = pickle.loads(sent)
    assert all(np.array_equal(there[i], arrays[i]) for i in range(3))
    with pytest.raises(ValueError, match="read-only"):
        there[0][:] = 0
