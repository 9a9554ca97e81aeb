"""Slides through each library against the pixels they were written from, and against one another."""

import os
import shutil
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image
from slide_files import aperio, damage_tile, drop_tile, texture, write_dicom, write_scn, write_slide

from hf_gland.errors import ImageError, PixelSizeError
from hf_gland.imaging.slide_levels import PictureLevels
from hf_gland.imaging.slide_readers import FastSlideLevels, OpenSlideLevels
from hf_gland.imaging.slides import Box, Slide, is_slide, open_slide, slide_mpp
from hf_gland.imaging.tiff_levels import TiffLevels
from hf_gland.imaging.tiff_pages import inspect_tiff

HW = (603, 1001)


@pytest.fixture(scope="module")
def rgb():
    return texture(HW)


@pytest.fixture(scope="module")
def svs(rgb, tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", rgb, description=aperio(0.5))


def resized(rgb, hw, box=None):
    return np.asarray(Image.fromarray(rgb).resize(hw[::-1], Image.Resampling.LANCZOS, box=box))


def test_both_libraries_give_the_same_levels_and_pixels(svs, rgb, tmp_path):
    readers = [kind(svs, "a") for kind in (OpenSlideLevels, FastSlideLevels)]
    for levels in readers:
        assert levels.level_hw == ((603, 1001), (301, 500), (150, 250))
        assert levels.mpp_xy == (0.5, 0.5)
        assert np.array_equal(levels.read(0, 333, 100, 300, 200), rgb[100:300, 333:633])
        assert np.array_equal(levels.read(0, 901, 503, 100, 100), rgb[503:, 901:])
    even = write_slide(tmp_path / "even.svs", texture((400, 800)), description=aperio())
    for path, most in ((even, 0), (svs, 3)):  # OpenSlide's levels of odd sizes lie up to half a pixel of level 0 aside
        readers = [kind(path, "a") for kind in (OpenSlideLevels, FastSlideLevels)]
        for level in (1, 2):
            for box in ((0, 0, 100, 90), (37, 11, 120, 80), (70, 9, 120, 90)):
                one, other = (levels.read(level, *box) for levels in readers)
                assert np.abs(one.astype(int) - other).mean() <= most, (path, level, box)


@pytest.mark.parametrize("kind", [OpenSlideLevels, FastSlideLevels])
def test_a_region_is_what_the_whole_slide_resampled_holds_there(kind, svs, rgb):
    slide = Slide(kind(svs, "a"), "a", (0.5, 0.5), "")
    hw = (402, 667)  # between the first two levels: from the larger one
    whole = resized(rgb, hw)
    for top, left, height, width in ((0, 0, 64, 80), (101, 203, 150, 64), (402 - 64, 667 - 90, 64, 90)):
        box = Box(left * 1001 / 667, top * 603 / 402, width * 1001 / 667, height * 603 / 402)
        region = slide.region(box, (height, width))
        assert region.rgb.shape == (height, width, 3)
        assert np.abs(region.rgb.astype(int) - whole[top:top + height, left:left + width]).max() <= 1
    assert np.array_equal(slide.region(Box(40, 30, 200, 100), (100, 200)).rgb, rgb[30:130, 40:240])


def test_a_slide_ends_where_the_scan_does_and_not_the_glass_as_in_qupath(tmp_path):
    rgb = texture((600, 1000))
    with open_slide(write_scn(tmp_path / "a.scn", rgb, (300, 204), (1200, 2000))) as slide:
        assert (slide.level_hw, slide.mpp_xy) == (((600, 1000), (300, 500), (150, 250)), (0.5, 0.5))
        assert np.array_equal(slide.region(Box(0, 0, 1000, 600), (600, 1000)).rgb, rgb)
        assert np.array_equal(slide.region(Box(40, 30, 200, 100), (100, 200)).rgb, rgb[30:130, 40:240])
        for down in (2, 4):
            small = slide.region(Box(400, 200, 400, 240), (240 // down, 400 // down)).rgb
            expected = resized(rgb, (600 // down, 1000 // down))[200 // down:440 // down, 400 // down:800 // down]
            assert np.abs(small.astype(int) - expected).mean() < 4, down


BOUNDS = {"x": "100", "y": "50", "width": "301", "height": "200"}


@pytest.mark.parametrize(("bounds", "corner", "level_hw"), [
    (BOUNDS, (100, 50), ((200, 301), (50, 75))),
    ({**BOUNDS, "width": "1000"}, (100, 50), ((200, 900), (50, 225))),  # rounded up beyond the glass
    ({**BOUNDS, "x": "-1"}, (0, 0), ((601, 1000), (150, 250))),
    ({**BOUNDS, "y": "601"}, (0, 0), ((601, 1000), (150, 250))),
    ({**BOUNDS, "height": "0"}, (0, 0), ((601, 1000), (150, 250))),
    ({**BOUNDS, "width": "300.5"}, (0, 0), ((601, 1000), (150, 250))),
    ({"x": "100", "y": "50", "width": "301"}, (0, 0), ((601, 1000), (150, 250))),
    ({}, (0, 0), ((601, 1000), (150, 250))),
])
def test_bounds_that_make_no_sense_leave_all_of_the_glass(monkeypatch, tmp_path, bounds, corner, level_hw):
    class Handle:
        dimensions, level_dimensions, level_downsamples = (1000, 601), ((1000, 601), (250, 150)), (1.0, 4.0)

        def __init__(self, path):
            self.properties = {f"openslide.bounds-{side}": value for side, value in bounds.items()}

        def read_region(self, location, level, size):
            return Image.new("RGBA", size, (location[0] % 256, location[0] // 256, location[1] % 256, 255))

    monkeypatch.setattr("openslide.OpenSlide", Handle)
    levels = OpenSlideLevels(tmp_path / "a.mrxs", "a")
    assert levels.level_hw == level_hw
    for level, down in ((0, 1), (1, 4)):
        x, y = corner[0] + 20 * down, corner[1] + 10 * down
        assert (levels.read(level, 20, 10, 3, 2) == (x % 256, x // 256, y)).all()


def test_the_smallest_level_that_is_large_enough_is_read(rgb):
    class Counting(PictureLevels):
        level_hw = ((603, 1001), (301, 500), (150, 250))

        def __init__(self):
            super().__init__(rgb, 0.5, "")
            self.level_hw, self.read_levels = Counting.level_hw, []

        def read(self, level, x, y, width, height):
            self.read_levels.append(level)
            return np.zeros((height, width, 3), np.uint8)

    levels = Counting()
    slide = Slide(levels, "a", None, "")
    for side, level in ((100, 0), (60, 0), (50, 1), (49, 1), (30, 1), (25, 2), (5, 2)):
        slide.region(Box(0, 0, 100, 100), (side, side))
        assert levels.read_levels.pop() == level, side


def test_a_region_too_large_to_decode_at_once_is_put_together(svs, rgb, monkeypatch):
    with open_slide(svs) as slide:
        once = slide.region(Box(10, 20, 900, 500), (333, 600)).rgb
        monkeypatch.setattr("hf_gland.imaging.slides.MOST_SOURCE_PX", 10_000)
        again = slide.region(Box(10, 20, 900, 500), (333, 600)).rgb
        assert np.abs(again.astype(int) - once).max() <= 1
        assert slide.whole(100).rgb.shape == (60, 100, 3)


def test_a_damaged_tile_is_told_of_and_the_rest_is_read(svs, rgb, tmp_path):
    damaged = shutil.copy(svs, tmp_path / "damaged.svs")
    damage_tile(damaged, 9)  # of 8 columns: x from 128, y from 128
    with open_slide(damaged) as slide:
        region = slide.region(Box(0, 0, 600, 400), (400, 600))
        inside = np.zeros((400, 600), bool)
        for left, top, width, height in region.unreadable:
            inside[int(top):int(top + height), int(left):int(left + width)] = True
        assert inside[128:256, 128:256].all()
        assert inside.sum() < 3 * 128**2
        assert (region.rgb[inside] == 255).all()
        assert np.array_equal(region.rgb[~inside], rgb[:400, :600][~inside])
        assert slide.region(Box(0, 0, 100, 100), (100, 100)).unreadable == ()


OME = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}


@pytest.mark.parametrize(("options", "most"), [({}, 0), ({"compression": "jpeg"}, 3), ({"compression": "jpeg2000"}, 0)])
def test_levels_that_are_sub_pages_are_seen(rgb, tmp_path, options, most):
    path = write_slide(tmp_path / "a.ome.tif", rgb, ome=OME, **options)
    with open_slide(path) as slide:
        assert slide.level_hw == ((603, 1001), (301, 500), (150, 250))
        assert (slide.mpp_xy, slide.mpp_source, slide.reader[:8]) == ((0.25, 0.25), "OME metadata", "tifffile")
        for top, left, height, width in ((100, 333, 200, 300), (503, 901, 100, 100), (0, 0, 603, 1001), (130, 129, 1, 1)):
            region = slide.region(Box(left, top, width, height), (height, width))
            different = np.abs(region.rgb.astype(int) - rgb[top:top + height, left:left + width])
            assert different.mean() <= most
            assert region.unreadable == ()
        half = slide.region(Box(200, 100, 400, 300), (150, 200)).rgb  # the level of half the size, as it is
        assert np.abs(half.astype(int) - resized(rgb, (301, 500))[50:200, 100:300]).mean() < 4


def test_sub_pages_that_state_no_pixel_size_are_opened_all_the_same(rgb, tmp_path):
    with open_slide(write_slide(tmp_path / "a.ome.tif", rgb, ome={"Name": "a"}, compression="jpeg2000")) as slide:
        assert (slide.hw, slide.mpp_xy) == ((603, 1001), None)
        assert slide_mpp(slide, 0.5)[0] == (0.5, 0.5)


def test_sub_pages_with_a_tile_that_is_damaged_and_one_that_is_not_stored(rgb, tmp_path):
    path = write_slide(tmp_path / "a.ome.tif", rgb, ome=OME)
    damage_tile(path, 9)  # of 8 columns: x from 128, y from 128
    drop_tile(path, 11)
    with open_slide(path) as slide:
        assert slide.region(Box(128, 128, 128, 128), (128, 128)).unreadable != ()
        other = slide.region(Box(256, 100, 300, 200), (200, 300))
        assert other.unreadable == ()
        assert (other.rgb[28:156, 128:256] == 255).all()
        other.rgb[28:156, 128:256] = rgb[128:256, 384:512]
        assert np.array_equal(other.rgb, rgb[100:300, 256:556])
        os.remove(path)
        with pytest.raises(ImageError, match=r"a\.ome\.tif: the file has gone"):
            slide.region(Box(128, 128, 64, 64), (64, 64))


def test_sub_pages_are_left_to_the_other_libraries_where_their_tiles_could_not_be_decoded(rgb, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with open_slide(write_slide(tmp_path / "a.ome.tif", rgb, ome=OME)) as slide:
        assert slide.reader.startswith("OpenSlide")
        assert np.array_equal(slide.region(Box(5, 6, 70, 80), (80, 70)).rgb, rgb[6:86, 5:75])


def test_sub_pages_that_are_no_rgb_tiles_are_left_to_the_other_libraries(rgb, tmp_path):
    grey = write_slide(tmp_path / "grey.ome.tif", rgb[..., 0], ome={**OME, "axes": "YX"}, photometric="minisblack")
    with open_slide(grey) as slide:
        assert slide.reader.startswith("OpenSlide")
        assert np.array_equal(slide.region(Box(5, 6, 70, 80), (80, 70)).rgb, np.repeat(rgb[6:86, 5:75, :1], 3, axis=2))


def test_a_slide_that_vanishes_is_an_error(svs, tmp_path):
    path = shutil.copy(svs, tmp_path / "gone.svs")
    damage_tile(path, 0)
    with open_slide(path) as slide:
        os.remove(path)
        with pytest.raises(ImageError, match=r"gone\.svs: the file has gone"):
            slide.region(Box(0, 0, 100, 100), (100, 100))


def test_where_the_pixel_size_comes_from(rgb, tmp_path):
    def of(path, given=None):
        with open_slide(path) as slide:
            return slide_mpp(slide, given)

    named = write_slide(tmp_path / "b.svs", rgb, description=aperio(0.2527))
    assert of(named) == ((0.2527, 0.2527), "the slide's header (aperio)", ())
    (mpp, source, notes) = of(named, 0.5)
    assert (mpp, source) == ((0.5, 0.5), "given by the user")
    assert notes == ("The file states 0.2527 µm per pixel (the slide's header (aperio)), not 0.5.",)
    assert of(named, 0.26)[2] == ()
    tags = write_slide(tmp_path / "c.tif", rgb, resolution=(20_000, "CENTIMETER"))
    assert of(tags)[0] == pytest.approx((0.5, 0.5))
    ome = {"PhysicalSizeX": 0.25, "PhysicalSizeXUnit": "µm", "PhysicalSizeY": 0.25, "PhysicalSizeYUnit": "µm"}
    assert of(write_slide(tmp_path / "d.ome.tif", rgb, ome=ome))[:2] == ((0.25, 0.25), "OME metadata")
    for description in ('<OME><Image><Pixels PhysicalSizeX="0.4"/></Image></OME>', "MPP = 0.4"):
        printed = write_slide(tmp_path / "p.tif", rgb, description=description, resolution=(72, "INCH"))
        assert of(printed)[0] == (0.4, 0.4)
    silent = write_slide(tmp_path / "e.svs", rgb, description=aperio(None))
    with pytest.raises(PixelSizeError, match=r"e\.svs: the file states no pixel size; give it with --mpp \(plausible are"):
        of(silent)
    assert of(silent, 0.5)[0] == (0.5, 0.5)
    with pytest.raises(PixelSizeError, match=r"f\.svs: .*states 50 × 50 µm per pixel; plausible are 0.05 to 20"):
        of(write_slide(tmp_path / "f.svs", rgb, description=aperio(50)))
    with pytest.raises(PixelSizeError, match="500 µm per pixel was given"):
        of(silent, 500)


def test_a_dicom_slide_is_opened_by_the_file_of_any_level(rgb, tmp_path):
    for path in write_dicom(tmp_path, rgb, mpp=0.25):
        with open_slide(path) as slide:
            assert (slide.level_hw, slide.mpp_xy) == (((603, 1001), (301, 500), (150, 250)), (0.25, 0.25))
            assert slide.mpp_source == "the slide's header (dicom)"
            assert np.array_equal(slide.region(Box(333, 100, 300, 200), (200, 300)).rgb, rgb[100:300, 333:633])


@pytest.mark.parametrize(("how", "rows", "kept_bytes"), [
    ({}, 100, 2**27), ({}, 603, 0), ({"compression": "lzw", "predictor": True}, 16, 2**27),
    ({"compression": "zlib"}, 100, 0), ({"compression": "jpeg2000"}, 603, 2**27),
    ({"compression": "jpeg", "compressionargs": {"level": 98, "outcolorspace": "rgb"}}, 64, 500_000)])
def test_a_large_tiff_in_strips_is_read_region_by_region(rgb, tmp_path, monkeypatch, how, rows, kept_bytes):
    monkeypatch.setattr("hf_gland.imaging.slides.MAX_PIXELS", 1000)
    monkeypatch.setattr("hf_gland.imaging.tiff_levels.MOST_KEPT_BYTES", kept_bytes)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb", rowsperstrip=rows, resolution=(2, 2), metadata=None,
                     **how, description="ImageJ=1.54f\nunit=micron\n", resolutionunit="NONE")
    with open_slide(tmp_path / "a.tif") as slide:
        assert (slide.reader[:8], slide.hw, slide.mpp_xy) == ("tifffile", (603, 1001), (0.5, 0.5))
        for left, top, width, height in ((5, 6, 70, 80), (900, 500, 101, 103), (0, 0, 1001, 603), (5, 6, 70, 80)):
            region = slide.region(Box(left, top, width, height), (height, width))
            different = np.abs(region.rgb.astype(int) - rgb[top:top + height, left:left + width])
            assert different.max() <= (12 if "compressionargs" in how else 0)
            assert region.unreadable == ()


def test_a_strip_that_is_damaged_is_a_hole_and_one_as_large_as_a_slide_is_refused(rgb, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_gland.imaging.slides.MAX_PIXELS", 1000)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, rgb, photometric="rgb", rowsperstrip=100, compression="zlib")
    damage_tile(path, 2)
    with open_slide(path) as slide:
        region = slide.region(Box(100, 0, 128, 603), (603, 128))
        assert np.array_equal(region.rgb[:128], rgb[:128, 100:228])
        assert (region.rgb[201:299] == 255).all()
        assert min(hole.top for hole in region.unreadable) <= 200
        assert max(hole.top + hole.height for hole in region.unreadable) >= 300
    monkeypatch.setattr("hf_gland.imaging.tiff_levels.MOST_TILE_PX", 100_000)
    with pytest.raises(ImageError, match=r"a\.tif: a part of the file: 1001×100 px, above the limit"):
        TiffLevels(path, "a.tif", inspect_tiff(path, "a.tif").levels_of(1))


@pytest.mark.parametrize("name", ["a.svs", "a.tif"])
def test_tiles_that_are_too_large_to_decode_are_refused_whichever_library_would_open_them(svs, tmp_path, monkeypatch, name):
    def most_tile_px(limit):
        for reader in ("slide_readers", "tiff_levels"):
            monkeypatch.setattr(f"hf_gland.imaging.{reader}.MOST_TILE_PX", limit)

    path = shutil.copyfile(svs, tmp_path / name)
    most_tile_px(128 * 128)
    with open_slide(path) as slide:
        assert slide.reader.startswith("OpenSlide")
    most_tile_px(128 * 128 - 1)
    with pytest.raises(ImageError, match=rf"{name}: its tiles of 128×128 px are too large .*; convert it"), open_slide(path):
        pass
    monkeypatch.setattr("hf_gland.imaging.slides.MAX_PIXELS", 1000)
    plain = write_slide(tmp_path / "plain.tif", texture((128, 128)), levels=1, compression=None)
    with open_slide(plain) as slide:  # a part of what is stored without compression is read alone
        assert slide.reader.startswith("tifffile")


@pytest.mark.parametrize("how", [{"tile": (128, 128)}, {"rowsperstrip": 50, "compression": "zlib"}, {"rowsperstrip": 70}])
def test_colours_that_are_stored_one_by_one_are_put_together(rgb, tmp_path, monkeypatch, how):
    monkeypatch.setattr("hf_gland.imaging.slides.MAX_PIXELS", 1000)
    tifffile.imwrite(tmp_path / "a.tif", np.moveaxis(rgb, -1, 0), photometric="rgb", planarconfig="separate", **how)
    with open_slide(tmp_path / "a.tif") as slide:
        assert np.array_equal(slide.region(Box(5, 6, 700, 590), (590, 700)).rgb, rgb[6:596, 5:705])


def test_levels_in_strips_are_seen_too(rgb, tmp_path):
    path = write_slide(tmp_path / "a.tif", rgb, tile=None, rowsperstrip=32)
    with open_slide(path) as slide:
        assert (slide.reader[:8], slide.level_hw) == ("tifffile", ((603, 1001), (301, 500), (150, 250)))
        half = slide.region(Box(200, 100, 400, 300), (150, 200)).rgb
        assert np.abs(half.astype(int) - resized(rgb, (301, 500))[50:200, 100:300]).mean() < 4


def test_what_counts_as_a_slide_and_what_cannot_be_read(svs, rgb, tmp_path, monkeypatch):
    picture = tmp_path / "p.png"
    Image.fromarray(rgb).save(picture, dpi=(25_400 / 0.5,) * 2)
    flat = tmp_path / "flat.tif"
    Image.fromarray(rgb).save(flat)
    assert [is_slide(path) for path in (svs, picture, flat)] == [True, False, False]
    assert is_slide(write_slide(tmp_path / "p.tif", rgb))
    with open_slide(picture) as slide:
        assert (slide.hw, slide.mpp_xy, slide.mpp_source) == (HW, (0.5, 0.5), "the resolution tags")
        assert np.array_equal(slide.region(Box(5, 6, 70, 80), (80, 70)).rgb, rgb[6:86, 5:75])
    monkeypatch.setattr("hf_gland.imaging.slides.MAX_PIXELS", 1000)
    assert is_slide(flat)
    for name, content, message in (("x.svs", b"hello, no slide here", "no slide that can be read"),
                                   ("y.svs", svs.read_bytes()[:100], "y.svs: "), ("z.svs", b"", "the file is empty")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=message), open_slide(tmp_path / name):
            pass
    with pytest.raises(ImageError, match="no such file"), open_slide(tmp_path / "none.svs"):
        pass
