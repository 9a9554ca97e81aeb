from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_gland.imaging.label_maps import read_labels
from hf_gland.labels import MaskError


def truth(seed: int, shape: tuple[int, int] = (24, 32)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[3:12, 4 + seed:15 + seed] = 1
    return mask


def save(path: Path, pixels: np.ndarray, **how: object) -> Path:
    Image.fromarray(pixels).save(path, **how)
    return path


def test_label_files_of_every_kind_give_the_same_numbers(tmp_path: Path) -> None:
    mask = truth(2)
    palette = Image.fromarray(mask)
    palette.putpalette([0, 0, 0, 0, 200, 0])
    palette.save(tmp_path / "palette.png")
    Image.fromarray(mask.astype(bool)).save(tmp_path / "bits.png")
    save(tmp_path / "deep.png", mask.astype(np.uint16))
    save(tmp_path / "rgb.png", np.repeat(mask[..., None], 3, axis=2))
    for name in ("palette", "bits", "deep", "rgb"):
        np.testing.assert_array_equal(read_labels(tmp_path / f"{name}.png"), mask)
    with pytest.raises(MaskError, match=r"colour\.png: is a colour picture"):
        read_labels(save(tmp_path / "colour.png", np.stack([mask, mask, mask + 1], axis=2)))
