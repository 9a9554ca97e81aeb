import sys

import numpy as np
import pytest
import tifffile

from hf_gland.errors import ImageError
from hf_gland.imaging.pictures import read_picture
from hf_gland.imaging.tiff_pages import inspect_tiff


def flat(side, value, width=None):
    return np.full((side, width or side, 3), value, np.uint8)


def stack(path, pages):
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, photometric="rgb", metadata=None)
    return path


def test_a_stack_gives_the_page_that_is_asked_for(tmp_path):
    path = stack(tmp_path / "a.tif", [flat(40, 10), flat(40, 20), flat(40, 30)])
    picture = read_picture(path, max_side_px=64, page=2)
    assert (picture.pages, picture.page) == (3, 2)
    assert (picture.rgb == 20).all()
    assert "3 pages; this is page 2" in picture.notes[0]
    for number in (0, 4):
        with pytest.raises(ImageError, match=f"has no page {number}; it holds 3"):
            read_picture(path, max_side_px=64, page=number)


def test_of_a_pyramid_the_smallest_level_that_is_large_enough_is_read(tmp_path):
    path = stack(tmp_path / "a.tif", [flat(256, 1), flat(128, 2), flat(64, 3), flat(32, 4)])
    pages = inspect_tiff(path, "a.tif")
    assert (pages.count, len(pages.levels_of(1))) == (1, 4)
    picture = read_picture(path, max_side_px=64)
    assert (picture.rgb == 3).all()
    assert (picture.full_hw, picture.reduction) == ((256, 256), 4.0)
    assert any("Pyramid of 4 levels" in note for note in picture.notes)


def test_levels_in_sub_pages_are_found_too(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(flat(256, 1), photometric="rgb", subifds=2, compression="zlib")
        writer.write(flat(128, 2), photometric="rgb", subfiletype=1, compression="zlib")
        writer.write(flat(64, 3), photometric="rgb", subfiletype=1, compression="zlib")
    picture = read_picture(tmp_path / "a.tif", max_side_px=64)
    assert (picture.rgb == 3).all()
    assert (picture.full_hw, picture.pages) == ((256, 256), 1)


def test_a_label_picture_of_another_shape_is_no_level(tmp_path):
    path = stack(tmp_path / "a.tif", [flat(128, 1), flat(64, 2), flat(80, 9, width=100)])
    assert len(inspect_tiff(path, "a.tif").levels_of(1)) == 2
    assert (read_picture(path, max_side_px=70).rgb == 1).all()


def test_a_level_too_large_to_decode_is_passed_over_for_a_smaller_one(tmp_path):
    path = stack(tmp_path / "a.tif", [flat(128, 1), flat(32, 2)])
    picture = read_picture(path, max_side_px=100, max_pixels=2000)
    assert (picture.rgb == 2).all()
    assert picture.reduction == 4.0


def test_an_enormous_first_level_does_not_stop_the_small_ones_from_being_read(tmp_path):
    path = stack(tmp_path / "a.tif", [flat(400, 1), flat(300, 7)])
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for tag in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[tag].overwrite(30000)
    picture = read_picture(path, max_side_px=4096)
    assert (picture.rgb == 7).all()
    assert (picture.full_hw, picture.reduction) == ((30000, 30000), 100.0)


PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
PLANES, FINE = np.moveaxis(PIXELS, -1, 0), PIXELS.astype(np.uint16) * 257
OPAQUE = np.concatenate([PIXELS, np.full((40, 50, 1), 255, np.uint8)], axis=2)


@pytest.mark.parametrize(("stored", "how"), [
    (PLANES, {"planarconfig": "separate"}), (PLANES, {"planarconfig": "separate", "compression": "zlib"}),
    (FINE, {"compression": "lzw", "predictor": True}), (np.moveaxis(FINE, -1, 0), {"planarconfig": "separate"}),
    (np.moveaxis(FINE, -1, 0), {"planarconfig": "separate", "compression": "zlib", "tile": (16, 16)}),
    (np.moveaxis(FINE, -1, 0), {"planarconfig": "separate", "byteorder": ">"}), (PIXELS, {"compression": "jpeg2000"}),
    (PIXELS, {"compression": "webp", "compressionargs": {"level": -1}}), (FINE, {"compression": "jpeg2000"}),
    (OPAQUE, {"compression": "jpeg2000", "extrasamples": ["unassalpha"]})])
def test_however_pixels_are_stored_they_are_the_same(tmp_path, stored, how):
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", resolution=(20_000, 20_000), **how,
                     resolutionunit="CENTIMETER", metadata=None, extratags=[(274, "H", 1, 3, True)])
    picture = read_picture(tmp_path / "a.tif", max_side_px=64, upright=False)
    assert np.array_equal(picture.rgb, PIXELS)
    assert (picture.mpp, picture.orientation, picture.full_hw) == (0.5, 3, (40, 50))
    assert np.array_equal(read_picture(tmp_path / "a.tif").rgb, PIXELS[::-1, ::-1])


def test_grey_jpeg_2000_of_imagej_is_read_with_its_pixel_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS[..., 0], photometric="minisblack", compression="jpeg2000", metadata=None,
                     description="ImageJ=1.54f\nunit=µm\n".encode(), resolution=(2, 2), resolutionunit="NONE")
    picture = read_picture(tmp_path / "a.tif")
    assert np.array_equal(picture.rgb, np.repeat(PIXELS[..., :1], 3, axis=2))
    assert (picture.mpp, picture.mpp_source) == (0.5, "ImageJ's calibration")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("how", [{}, {"byteorder": ">"}, {"compression": "jpeg2000"}])
def test_grey_whose_zero_is_white_is_turned_round(tmp_path, dtype, how):
    grey = PIXELS[..., 0].astype(dtype) * (257 if dtype == np.uint16 else 1)
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="miniswhite", **how)
    assert np.array_equal(read_picture(tmp_path / "a.tif").rgb[..., 1], 255 - PIXELS[..., 0])


@pytest.mark.parametrize(("stored", "how", "words"), [
    (PIXELS.astype(np.float32), {"photometric": "rgb"}, r"holds float32 pixels of 3 channels \(RGB\), whose colours"),
    (OPAQUE, {"photometric": "minisblack", "planarconfig": "contig"}, r"holds uint8 pixels of 4 channels \(MINISBLACK\)"),
    (PIXELS.astype(np.int16), {"photometric": "rgb"}, "holds int16 pixels")])
def test_pixels_that_are_no_colours_are_refused_as_what_they_are(tmp_path, stored, how, words):
    tifffile.imwrite(tmp_path / "a.tif", stored, metadata=None, **how)
    with pytest.raises(ImageError, match=f"a.tif: {words}.*8-bit RGB"):
        read_picture(tmp_path / "a.tif")


def test_without_tifffile_the_package_to_install_is_named(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", PIXELS, photometric="rgb", compression="jpeg2000")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(ImageError, match=r"a.tif: .* pip install 'hf_gland\[slides\]', or save it as"):
        read_picture(tmp_path / "a.tif")
