import numpy as np
import pytest
from PIL import Image

from hf_gland.data.contact_sheet import contact_sheet, overlay, style_sheet
from hf_gland.data.sparsify import SparsifyConfig
from hf_gland.labels import class_colour


def test_an_overlay_shows_classes_and_fades_the_unlabelled() -> None:
    image, mask = np.full((40, 40, 3), 100, np.uint8), np.full((40, 40), 255, np.uint8)
    mask[10:20, 10:20] = 2
    shown = overlay(image, mask)
    assert shown[10, 12].tolist() == list(class_colour(2))
    assert (shown[0, 0] > 180).all()
    inside = 0.55 * 100 + 0.45 * np.array(class_colour(2))
    np.testing.assert_allclose(shown[15, 15], inside, atol=1)


def test_a_sheet_has_a_row_per_image_and_a_column_per_title() -> None:
    image, mask = np.full((50, 100, 3), 100, np.uint8), np.zeros((50, 100), np.uint8)
    small = contact_sheet([("a", image, [mask])], ["one"])
    large = contact_sheet([("a", image, [mask] * 3), ("b", image, [mask] * 3)], ["one", "two", "three"])
    assert large.width - small.width == 2 * 326
    assert large.height > small.height + 150


@pytest.mark.parametrize(("config", "dense", "columns"), [
    (SparsifyConfig(budget=2), True, 5), (None, True, 6), (None, False, 1), (SparsifyConfig(style="full"), True, 5),
    (SparsifyConfig(style="images"), True, 6)])
def test_a_style_sheet_compares_with_other_styles_where_the_truth_is_known(
        config: SparsifyConfig | None, dense: bool, columns: int) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[5:20, 5:25] = 1
    row = {"image_id": "a", "image": Image.new("RGB", (60, 40), "pink"), "sparse_mask": Image.fromarray(mask),
           "mask": Image.fromarray(mask) if dense else None, "instances": None}
    assert style_sheet([row], config, seed=0).width == columns * 326 + 6
