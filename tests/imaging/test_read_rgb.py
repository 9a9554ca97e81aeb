import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hf_gland.errors import ImageError
from hf_gland.imaging.pictures import read_picture, read_rgb

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def test_a_png_is_read_as_it_is(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    assert np.array_equal(read_rgb(tmp_path / "a.png"), RGB)
    assert np.array_equal(read_rgb(str(tmp_path / "a.png")), RGB)
    assert np.array_equal(read_rgb(Image.fromarray(RGB)), RGB)
    assert np.array_equal(read_rgb(RGB), RGB)


@pytest.mark.parametrize("mode", ["L", "1", "P", "YCbCr", "HSV"])
def test_other_colour_spaces_become_rgb(tmp_path, mode):
    image = Image.fromarray(RGB).convert(mode)
    result = read_rgb(image)
    assert result.dtype == np.uint8
    assert np.array_equal(result, np.array(image.convert("RGB")))


def test_cmyk_white_is_white_and_black_is_black(tmp_path):
    cmyk = np.zeros((4, 6, 4), np.uint8)
    cmyk[:, 3:, 3] = 255
    Image.fromarray(cmyk, mode="CMYK").save(tmp_path / "a.tif")
    result = read_rgb(tmp_path / "a.tif")
    assert (result[:, :3] == 255).all()
    assert (result[:, 3:] == 0).all()


def test_transparency_is_laid_over_white_in_files_and_arrays(tmp_path):
    rgba = np.dstack([RGB, np.zeros(RGB.shape[:2], np.uint8)])
    rgba[:, :10, 3] = 255
    rgba[:, 10:20, 3] = 128
    Image.fromarray(rgba).save(tmp_path / "a.png")
    for result in (read_rgb(tmp_path / "a.png"), read_rgb(rgba)):
        assert np.array_equal(result[:, :10], RGB[:, :10])
        assert (result[:, 20:] == 255).all()
        blended = (RGB[:, 10:20] * (128 / 255) + 255 * (127 / 255))
        assert np.abs(result[:, 10:20] - blended).max() <= 1


def test_a_transparent_palette_colour_is_white():
    image = Image.fromarray(np.zeros((5, 5), np.uint8), mode="P")
    image.putpalette([10, 20, 30])
    image.info["transparency"] = 0
    assert (read_rgb(image) == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_is_scaled_to_its_full_range(tmp_path, suffix):
    grey = np.array([[0, 257, 32768, 65535]], np.uint16).repeat(3, axis=0)
    Image.fromarray(grey).save(tmp_path / f"a.{suffix}")
    for result in (read_rgb(tmp_path / f"a.{suffix}"), read_rgb(grey)):
        assert result.shape == (3, 4, 3)
        assert result[0, :, 1].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("hw", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_shapes_are_kept(hw):
    assert read_rgb(np.zeros((*hw, 3), np.uint8)).shape == (*hw, 3)


UNDO = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1)}


@pytest.mark.parametrize(("name", "how"), [("a.png", {}), ("a.tif", {}), ("a.tif", {"compression": "tiff_lzw"})])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied_or_pixels_lie_as_stored(tmp_path, orientation, name, how):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(UNDO[orientation](RGB))
    Image.fromarray(stored).save(tmp_path / name, exif=exif, **how)
    assert np.array_equal(read_rgb(tmp_path / name), RGB)
    upright, as_stored = (read_picture(tmp_path / name, upright=upright) for upright in (True, False))
    assert (upright.full_hw, upright.orientation, as_stored.full_hw) == (RGB.shape[:2], orientation, stored.shape[:2])
    assert np.array_equal(as_stored.rgb, stored)
    assert any("turned or mirrored" in note for note in upright.notes) == (orientation != 1)


def test_a_pyramid_gives_its_full_size_and_a_stack_is_refused(tmp_path):
    full, half = Image.fromarray(RGB), Image.fromarray(RGB[::2, ::2])
    full.save(tmp_path / "pyramid.tif", save_all=True, append_images=[half])
    full.save(tmp_path / "stack.tif", save_all=True, append_images=[full])
    assert np.array_equal(read_rgb(tmp_path / "pyramid.tif"), RGB)
    with pytest.raises(ImageError, match=r"stack\.tif: holds 2 pictures"):
        read_rgb(tmp_path / "stack.tif")


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_is_refused(tmp_path, suffix):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="an animation or a stack"):
        read_rgb(tmp_path / f"a.{suffix}")


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp"])
def test_a_truncated_file_is_named(tmp_path, suffix):
    whole = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (90, 90, 3), dtype=np.uint8)).save(
        whole, {"jpg": "JPEG", "tif": "TIFF"}.get(suffix, suffix.upper()))
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole.getvalue()[:len(whole.getvalue()) // 2])
    with pytest.raises(ImageError, match=rf"cut\.{suffix}: "):
        read_rgb(path)


@pytest.mark.parametrize(("content", "words"), [
    (b"", "the file is empty"), (b"not an image at all", "not an image that can be read"),
    (b"\x89PNG\r\n\x1a\n", "the file is damaged or cut short"), (b"PK\3\4", "is a zip archive"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n", "not an image that can be read")])
def test_a_file_that_is_no_image_is_named(tmp_path, content, words):
    (tmp_path / "notes.png").write_bytes(content)
    with pytest.raises(ImageError, match=rf"notes\.png: {words}"):
        read_rgb(tmp_path / "notes.png")


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png: no such file"):
        read_rgb(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_rgb(tmp_path)


def png_of_size(width, height):
    """A PNG that claims a size it does not hold: a decompression bomb, before it is unpacked."""
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("side", [9_000, 12_000, 60_000])
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_of_size(side, side))
    with pytest.raises(ImageError, match=r"bomb\.png: .* above the limit of 67 million"):
        read_rgb(tmp_path / "bomb.png")


def test_the_limit_holds_for_arrays_and_images():
    with pytest.raises(ImageError, match="30×20 px, above the limit"):
        read_rgb(RGB, max_pixels=599)
    with pytest.raises(ImageError, match="30×20 px, above the limit"):
        read_rgb(Image.fromarray(RGB), max_pixels=599)
    assert read_rgb(RGB, max_pixels=600).shape == RGB.shape


@pytest.mark.parametrize("array", [
    np.zeros((4, 4), np.float32), np.zeros((4, 4), bool), np.zeros((4, 4, 2), np.uint8),
    np.zeros((2, 4, 4, 3), np.uint8), np.zeros(4, np.uint8), np.zeros((0, 4, 3), np.uint8),
])
def test_arrays_that_are_no_pictures_are_refused(array):
    with pytest.raises(ImageError, match=r"an array must be uint8|is empty"):
        read_rgb(array, name="x")


def test_32_bit_pixels_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ImageError, match="32-bit"):
        read_rgb(tmp_path / "f.tif")


def test_a_read_only_array_can_be_written_to_afterwards():
    locked = RGB.copy()
    locked.flags.writeable = False
    assert read_rgb(locked).flags.writeable
