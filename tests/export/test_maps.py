import dataclasses

import numpy as np
import pytest

from hf_gland.export.formats import write_outputs
from hf_gland.export.maps import write_confidence, write_instances, write_mask
from hf_gland.files import write_atomically


def test_class_ids_gland_ids_and_confidence_are_read_back(drawn, two_glands):
    mask = drawn(write_mask, two_glands)
    assert mask.mode == "L"
    assert np.array_equal(np.asarray(mask), two_glands.class_map)
    instances = np.asarray(drawn(write_instances, two_glands))
    assert instances.dtype == np.uint16
    assert np.array_equal(instances, two_glands.instances)
    confidence = np.asarray(drawn(write_confidence, two_glands))
    assert confidence.dtype == np.uint16
    np.testing.assert_allclose(confidence / 65535, two_glands.confidence, atol=1 / 65535)


def test_confidence_1_is_the_largest_number(drawn, two_glands):
    sure = dataclasses.replace(two_glands, confidence=np.ones((2, 2), np.float32))
    assert (np.asarray(drawn(write_confidence, sure)) == 65535).all()


def test_more_glands_than_16_bits_can_count_are_refused(tmp_path, two_glands):
    many = dataclasses.replace(two_glands, instances=np.array([[70000]], np.int32))
    with pytest.raises(ValueError, match="70000 glands do not fit"):
        write_outputs(tmp_path / "i", ["instances"], many)
    assert not any(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_atomically(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
