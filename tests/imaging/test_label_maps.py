import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from hf_gland.errors import HfGlandError
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


def test_classes_of_a_palette_are_its_indices(tmp_path: Path) -> None:
    """White background and coloured classes: what QuPath writes."""
    mask = truth(1)
    mask[15:20, 3:9] = 2
    mask[20:, 20:] = 255
    for index, colours in enumerate((
            {0: (255, 255, 255), 1: (200, 0, 0), 2: (0, 0, 200), 255: (224, 224, 192)},
            {0: (0, 0, 0), 1: (0, 200, 0), 2: (255, 255, 255), 255: (9, 9, 99)},
            {0: (90, 0, 90), 1: (0, 200, 0), 2: (0, 0, 200), 255: (9, 9, 99)},
            {0: (0, 0, 0), 1: (60, 60, 60), 2: (120, 120, 120), 255: (255, 255, 255)})):
        np.testing.assert_array_equal(read_labels(save_palette(tmp_path / f"{index}.png", mask, colours)), mask)


def save_palette(path: Path, mask: np.ndarray, colours: dict[int, tuple[int, int, int]], **how: object) -> Path:
    palette = np.full((256, 3), 77, np.uint8)
    for index, colour in colours.items():
        palette[index] = colour
    picture = Image.fromarray(mask, mode="P")
    picture.putpalette(palette.tobytes())
    picture.save(path, **how)
    return path


@pytest.mark.parametrize("colours", [
    {0: (255, 255, 255), 1: (0, 0, 0)}, {0: (255, 255, 255), 1: (128, 128, 128)}, {0: (10, 10, 10), 1: (0, 0, 0)},
    {0: (1, 1, 1), 1: (2, 2, 2)}, {0: (0, 0, 0), 1: (0, 0, 0)}, {0: (0, 200, 0), 1: (255, 255, 255)},
    {0: (0, 200, 0), 1: (0, 0, 0)}])
@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
def test_a_palette_that_contradicts_its_indices_is_refused(tmp_path: Path, colours: dict, suffix: str) -> None:
    if suffix == "gif" and colours[0] == colours[1]:
        return  # GIF merges equal colours
    path = save_palette(tmp_path / f"a.{suffix}", truth(1), colours)
    with pytest.raises(MaskError, match=rf"a\.{suffix}: its palette shows index 0 as .* save it as 8-bit grey"):
        read_labels(path)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_refused_unless_there_is_none(tmp_path: Path, mode: str) -> None:
    numbers = Image.fromarray(truth(0))
    layer = numbers.convert(mode)
    layer.save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "opaque.png"), truth(0))
    for colour in (0, 255):
        drawn = Image.new("L", numbers.size, colour).convert(mode)
        drawn.putalpha(Image.fromarray(truth(0) * np.uint8(255)))
        drawn.save(tmp_path / "drawn.png")
        with pytest.raises(MaskError, match=r"drawn\.png: has transparent parts"):
            read_labels(tmp_path / "drawn.png")


def test_a_transparent_palette_index_is_refused(tmp_path: Path) -> None:
    path = save_palette(tmp_path / "a.png", truth(0), {0: (0, 0, 0), 1: (0, 200, 0)}, transparency=1)
    with pytest.raises(MaskError, match="'P' with transparency"):
        read_labels(path)


@pytest.mark.parametrize(("pixels", "how"), [
    (truth(0) * np.uint8(255), {"tiffinfo": {262: 0}}),
    (truth(0).astype(bool), {"compression": "group4", "tiffinfo": {262: 0}})])
def test_white_is_zero_is_refused(tmp_path: Path, pixels: np.ndarray, how: dict) -> None:
    with pytest.raises(MaskError, match="white is zero"):
        read_labels(save(tmp_path / "a.tif", pixels, **how))


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_refused(tmp_path: Path, bits: int) -> None:
    """PNG of 8 × 3 px whose stored numbers 0 and 1 are shown as 0 and 85, or 17."""
    row = bytes([0]) + bytes([0b01000001 if bits == 2 else 0x10] * bits)
    write_png(tmp_path / "a.png", 8, 3, bits, row * 3)
    with pytest.raises(MaskError, match=rf"a\.png: holds grey of {bits} bits"):
        read_labels(tmp_path / "a.png")


def write_png(path: Path, width: int, height: int, bits: int, rows: bytes) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("name", "how"), [
    ("a.jpg", {"quality": 100}), ("a.webp", {"lossless": True}), ("a.tif", {"compression": "jpeg"})])
def test_compression_that_alters_numbers_is_refused(tmp_path: Path, name: str, how: dict) -> None:
    with pytest.raises(MaskError, match=rf"{name}: JPEG and WebP compression alters mask values; export PNG"):
        read_labels(save(tmp_path / name, truth(0) * np.uint8(255), **how))


@pytest.mark.parametrize(("pixels", "how", "words"), [
    (truth(0), {"compression": "jpeg2000"}, r"stored in a way that is not read here \(34712\); save it as 8-bit PNG"),
    (truth(0).astype(np.int64), {}, r"stored in a way that is not read here \(.*pixel mode.*\); save it"),
    (np.dstack([truth(0)] * 3), {"photometric": "rgb", "compression": "webp"}, "WebP compression alters mask values"),
    (np.stack([truth(0).astype(np.uint16)] * 3), {"photometric": "rgb", "planarconfig": "separate"},
     "its numbers are stored colour by colour in 16 bits")])
def test_tiffs_that_may_come_out_wrong_are_refused(tmp_path: Path, pixels: np.ndarray, how: dict, words: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels, metadata=None, **how)
    with pytest.raises(HfGlandError, match=f"a.tif: .*{words}"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_wide_numbers_are_kept(tmp_path: Path, dtype: type) -> None:
    ids = (np.arange(24 * 32).reshape(24, 32) * 80).astype(dtype)
    np.testing.assert_array_equal(read_labels(save(tmp_path / "a.tif", ids)), ids)
    if dtype == np.uint16:
        np.testing.assert_array_equal(read_labels(save(tmp_path / "a.png", ids)), ids)
    with pytest.raises(MaskError, match="pixels of type 'F'"):
        read_labels(save(tmp_path / "f.tif", ids.astype(np.float32)))
