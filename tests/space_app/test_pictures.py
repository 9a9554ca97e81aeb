import zipfile

import numpy as np
import pytest
import tifffile
from gland_space.page_parts import shown_mpp, typed_mpp
from gland_space.pictures import Limits, read_picture, safe_name
from PIL import Image, PngImagePlugin

from hf_gland.inference import ImageError, PixelSizeError

SMALL = Limits(max_side_px=100, max_decoded_px=40_000)
GREY = np.full((40, 40, 3), 128, np.uint8)


def noise(height=64, width=96, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8).squeeze()


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "webp"])
def test_lossless_formats_come_in_as_they_are(picture_file, suffix):
    pixels = noise()
    path = picture_file(pixels, f"tissue.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    picture = read_picture(path, Limits())
    assert np.array_equal(picture.rgb, pixels)
    assert (picture.name, picture.full_hw, picture.reduction, picture.notes) == (f"tissue.{suffix}", (64, 96), 1.0, ())


def test_a_large_picture_is_reduced_with_a_note_and_its_own_size_remembered(picture_file):
    picture = read_picture(picture_file(noise(150, 200)), SMALL)
    assert picture.rgb.shape == (75, 100, 3)
    assert (picture.full_hw, picture.reduction) == ((150, 200), 2.0)
    assert "Reduced from 200×150 to 100×75 px" in picture.notes[0]


def test_a_jpeg_beyond_the_decoding_limit_is_decoded_at_a_fraction_of_its_size(picture_file):
    path = picture_file(np.full((800, 1000, 3), (200, 120, 160), np.uint8), "big.jpg")
    picture = read_picture(path, SMALL)
    assert picture.full_hw == (800, 1000)
    assert picture.rgb.shape == (80, 100, 3)
    assert picture.reduction == 10
    assert np.abs(picture.rgb.astype(int) - (200, 120, 160)).max() <= 3


def test_a_jpeg_lying_on_its_side_is_read_as_it_is_stored_as_predict_does(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(64, 96)).save(tmp_path / "a.jpg", exif=exif)
    picture = read_picture(tmp_path / "a.jpg", Limits())
    assert picture.rgb.shape[:2] == picture.full_hw == (64, 96)
    assert "as stored, without the camera's orientation tag (6)" in picture.notes[0]


@pytest.mark.parametrize(("pixels", "mode", "words"), [
    (noise(channels=4), "CMYK", "CMYK colours were converted"), (noise(channels=4), "RGBA", "laid over white"),
    (noise(channels=1), "L", "is grey")])
def test_unusual_colours_are_converted_and_the_user_is_told(tmp_path, pixels, mode, words):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.frombytes(mode, (96, 64), pixels.tobytes()).save(path)
    picture = read_picture(path, Limits())
    assert picture.rgb.shape == (64, 96, 3)
    assert picture.rgb.dtype == np.uint8
    assert any(words in note for note in picture.notes)


def test_16_bits_become_8(tmp_path):
    values = np.linspace(0, 65535, 64 * 96).reshape(64, 96).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "colour.tif", np.repeat(values[..., None], 3, 2))
    for name in ("a.png", "colour.tif"):
        picture = read_picture(tmp_path / name, Limits())
        assert np.abs(picture.rgb[..., 0] - values / 257).max() <= 1
    assert any("16-bit" in note for note in read_picture(tmp_path / "a.png", Limits()).notes)


def write(path, data):
    path.write_bytes(data)
    return path


def bad_files(folder):
    Image.fromarray(noise()).save(folder / "whole.png")
    whole = (folder / "whole.png").read_bytes()
    Image.fromarray(noise(300, 300)).save(folder / "whole.jpg")
    jpeg = (folder / "whole.jpg").read_bytes()
    yield write(folder / "notes.txt", b"not an image at all"), "not an image"
    yield write(folder / "empty.png", b""), "empty"
    yield write(folder / "cut.png", whole[:len(whole) // 2]), "damaged or cut short"
    yield write(folder / "cut.jpg", jpeg[:len(jpeg) // 2]), "damaged or cut short"
    yield write(folder / "headless.tif", b"II*\0\x08\0\0\0"), "damaged or cut short"
    yield write(folder / "headless.png", whole[:20]), "damaged or cut short"
    yield write(folder / "headless.jpg", jpeg[:30]), "damaged or cut short"
    yield write(folder / "poster.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n"), "not an image"
    bomb = PngImagePlugin.PngInfo()
    bomb.add_text("Comment", "A" * (80 * 2**20), zip=True)  # 80 kB that unpack to 80 MB
    Image.fromarray(noise()).save(folder / "bomb.png", pnginfo=bomb)
    yield folder / "bomb.png", "damaged or cut short"
    tifffile.imwrite(folder / "whole.tif", noise(), photometric="rgb", compression="zlib")
    yield write(folder / "cut.tif", (folder / "whole.tif").read_bytes()[:-2000]), "damaged or cut short"
    with zipfile.ZipFile(folder / "archive.png", "w") as archive:
        archive.writestr("a.txt", "x" * 1000)
    yield folder / "archive.png", "zip archive"
    for size in ((1, 1), (10000, 1), (1, 10000)):
        Image.new("RGB", size).save(folder / f"thin{size[0]}.png")
        yield folder / f"thin{size[0]}.png", "too small"
    Image.new("1", (20000, 20000)).save(folder / "huge.png")  # 50 kB that unpack to 1.2 GB of RGB
    yield folder / "huge.png", "limit of 100 million"
    Image.new("1", (20000, 20000)).save(folder / "huge.tif", compression="group4")
    yield folder / "huge.tif", "limit of 100 million"
    frames = [Image.fromarray(noise(seed=i)) for i in range(3)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    yield folder / "moving.gif", "animation"
    frames[0].save(folder / "moving.png", save_all=True, append_images=frames[1:])
    yield folder / "moving.png", "animation"
    tifffile.imwrite(folder / "float.tif", np.zeros((64, 64), np.float32))
    yield folder / "float.tif", "32-bit"


def test_every_unusable_file_gets_a_message_that_names_it_and_no_path(tmp_path):
    tested = 0
    for path, words in bad_files(tmp_path):
        with pytest.raises(ImageError, match=words) as caught:
            read_picture(path, Limits())
        assert str(caught.value).startswith(path.name)
        assert str(tmp_path) not in str(caught.value)
        tested += 1
    assert tested >= 15


def test_a_file_that_is_gone_asks_for_a_new_upload(tmp_path):
    with pytest.raises(ImageError, match="upload it again"):
        read_picture(tmp_path / "gone.png", Limits())


@pytest.mark.parametrize(("name", "safe"), [
    ("../../etc/passwd.png", "passwd.png"), ("C:\\slides\\a b.tif", "a_b.tif"), ("ok-1.2.png", "ok-1.2.png"),
    ("", "picture"), ("...", "picture"), ("$(rm -rf).png", "rm_-rf.png"), ("x" * 300 + ".png", "x" * 70 + ".png"),
    ("слайд.png", "слайд.png"), ("a\0b\n.png", "a_b.png")])
def test_file_names_lose_what_could_do_harm(name, safe):
    assert safe_name(name) == safe


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
def test_the_resolution_that_a_file_states_is_read(picture_file, name):
    picture = read_picture(picture_file(GREY, name, dpi=(50_800, 50_800)), Limits())
    assert picture.mpp == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("dpi", [(72, 72), (300, 300), (50_800, 25_400), (0, 0)])
def test_printing_and_senseless_resolutions_say_nothing(picture_file, dpi):
    assert read_picture(picture_file(GREY, "a.tif", dpi=dpi), Limits()).mpp is None


@pytest.mark.parametrize(("description", "mpp"), [
    ("Aperio Image Library v11|AppMag = 40|MPP = 0.2520", 0.252),
    ('<OME><Image><Pixels PhysicalSizeX="0.37" PhysicalSizeXUnit="µm"/></Image></OME>', 0.37),
    ('<OME><Image><Pixels PhysicalSizeX="0.37"/></Image></OME>', 0.37),
    ('<OME><Image><Pixels PhysicalSizeX="370" PhysicalSizeXUnit="nm"/></Image></OME>', 0.37),
    ('<OME><Image><Pixels PhysicalSizeX="0.37" PhysicalSizeXUnit="&#181;m"/></Image></OME>', 0.37),
    ('<OME><Image><Pixels PhysicalSizeX="0.37" PhysicalSizeXUnit="pixel"/></Image></OME>', None),
    ('<OME><Image><Pixels PhysicalSizeX="0.5" PhysicalSizeY="0.505" PhysicalSizeYUnit="µm"/></Image></OME>', 0.5),
    ('<OME><Image><Pixels PhysicalSizeX="0.5" PhysicalSizeY="0.25"/></Image></OME>', None),
    ("MPP = 900", None), ("MPP = ...", None), ("nothing", None)])
def test_scanner_metadata_are_read(tmp_path, description, mpp):
    tifffile.imwrite(tmp_path / "a.tif", GREY, description=description.encode(), metadata=None)
    assert read_picture(tmp_path / "a.tif", Limits()).mpp == mpp


def test_typed_sizes_take_a_point_or_a_comma_and_refuse_words():
    assert [typed_mpp(text) for text in ("0.5", " 0,25 ", "1 µm", "", None, "  ")] == [0.5, 0.25, 1.0, None, None, None]
    with pytest.raises(PixelSizeError, match="'20x' is not a number"):
        typed_mpp("20x")
    assert [shown_mpp(value) for value in (None, 0.5, 0.2520)] == ["", "0.5", "0.252"]
