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
    with pytest.raises(ImageError, match="has no page 4; it holds 3"):
        read_picture(path, max_side_px=64, page=4)


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


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_planar_and_compressed_pixels_are_the_same(tmp_path, compression):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(pixels, -1, 0), planarconfig="separate", photometric="rgb",
                     compression=compression)
    assert np.array_equal(read_picture(tmp_path / "a.tif", max_side_px=64).rgb, pixels)
