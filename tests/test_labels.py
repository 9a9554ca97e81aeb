"""Class names."""

import pytest

from hf_gland.labels import check_class_names


def test_names_that_can_be_told_apart_are_taken_in_their_order():
    assert check_class_names(["stroma", "benign", "malignant"]) == ("stroma", "benign", "malignant")


@pytest.mark.parametrize("names", [
    ["background"], ["background", ""], ["background", "gland", "gland"], ["background", "benign", "Benign"],
    ["benign", "malignant", "background"], ["gland", "Background"], [f"class {number}" for number in range(256)]])
def test_names_that_cannot_or_that_put_glands_first_are_refused(names):
    with pytest.raises(ValueError, match="2 to 255 distinct words, background first"):
        check_class_names(names)
