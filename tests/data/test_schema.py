import numpy as np
import pytest

from hf_gland.data.sample import Sample
from hf_gland.errors import HfGlandError


def two_glands() -> tuple[np.ndarray, np.ndarray]:
    """A mask of two glands of 160 and 70 px, and ids 3 and 9."""
    mask, ids = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint16)
    mask[2:12, 3:19], mask[20:30, 40:47] = 1, 1
    ids[2:12, 3:19], ids[20:30, 40:47] = 3, 9
    return mask, ids


def sample(**changes: object) -> Sample:
    mask, ids = two_glands()
    fields = {"image": np.zeros((40, 60, 3), np.uint8), "mask": mask, "instances": ids, "image_id": "x7",
              "patient_id": "p", "source": "test", "mpp": 0.5}
    return Sample(**(fields | changes))


def changed(array: np.ndarray, window: tuple[slice, slice], value: int) -> np.ndarray:
    array = array.copy()
    array[window] = value
    return array


MASK, IDS = two_glands()
SECOND, RIGHT_HALF = np.s_[20:30, 40:47], np.s_[2:12, 10:19]


@pytest.mark.parametrize(("changes", "message"), [
    ({"image": np.zeros((40, 60), np.uint8)}, "8-bit RGB"), ({"image": np.zeros((40, 60, 3))}, "8-bit RGB"),
    ({"mpp": 250.0}, "250 µm per pixel"), ({"mpp": -1.0}, "-1 µm"), ({"mpp": 1e-9}, "1e-09 µm"),
    ({"mpp": 0.0}, "0 µm"),
    ({"mask": MASK[1:]}, "the mask is 39×60 px"), ({"mask": 2 * MASK}, "mask values 2"),
    ({"instances": IDS[:, 1:]}, "map of gland ids is"), ({"instances": IDS.astype(float)}, "whole numbers"),
    ({"instances": IDS.astype(np.int32) + 65530}, "from 65530 to 65539"),
    ({"instances": IDS.astype(np.int64) - 1}, "from -1"),
    ({"instances": IDS + 1}, "gland id 1 lies outside"),
    ({"instances": changed(IDS, np.s_[33:36, 2:5], 77)}, "gland id 77 lies outside"),
    ({"instances": 0 * IDS}, "row 2, column 3 of the mask has no id"),
    ({"instances": changed(IDS, SECOND, 0)}, "row 20, column 40 of the mask has no id"),
    ({"mask": changed(MASK, RIGHT_HALF, 0)}, "gland id 3 lies outside"),
    ({"instances": MASK.astype(np.uint16)}, "the classes of the mask, 1 for 2 glands"),
])
def test_what_breaks_the_schema_is_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(HfGlandError, match=f"^x7: .*{message}"):
        sample(**changes).check(2)


@pytest.mark.parametrize("changes", [
    {}, {"mask": None}, {"instances": None}, {"mpp": None}, {"instances": IDS.astype(np.int64)},
    {"mask": changed(MASK, np.s_[2:12, 15:19], 0)},  # borders may differ, by less than half a gland
    {"mask": changed(MASK, SECOND, 255)},  # nobody knows whether there is a gland
    {"mask": changed(MASK, SECOND, 0), "instances": changed(IDS, SECOND, 0) // np.uint16(3)},  # one gland, its id 1
])
def test_what_agrees_is_let_through(changes: dict) -> None:
    checked = sample(**changes)
    assert checked.check(2) is checked
