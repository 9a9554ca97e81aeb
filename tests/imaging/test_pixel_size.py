import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.errors import PixelSizeError
from hf_gland.imaging.pictures import read_picture
from hf_gland.imaging.pixel_size import check_mpp, working_hw


@pytest.mark.parametrize(("image_mpp", "model_mpp", "expected"), [
    (None, 0.5, (100, 200)), (0.5, None, (100, 200)), (None, None, (100, 200)), (0.5, 0.5, (100, 200)),
    (0.25, 0.5, (50, 100)), (1.0, 0.5, (200, 400)), (0.62, 0.5, (124, 248)),
])
def test_working_size(image_mpp, model_mpp, expected):
    assert working_hw((100, 200), image_mpp, model_mpp) == expected


def test_a_side_never_vanishes():
    assert working_hw((1, 3000), 0.05, 0.5) == (1, 300)


@pytest.mark.parametrize("mpp", [0, -1, 0.001, 500, float("nan"), float("inf")])
def test_absurd_pixel_sizes_are_refused(mpp):
    with pytest.raises(PixelSizeError, match=r"slide 3: .* not a plausible pixel size"):
        check_mpp(mpp, "slide 3")
    with pytest.raises(PixelSizeError, match="not a plausible"):
        working_hw((10, 10), mpp, 0.5)


def test_blowing_an_image_up_beyond_memory_is_refused():
    with pytest.raises(PixelSizeError, match="80000×40000 px, above the limit"):
        working_hw((2000, 4000), 10, 0.5, "overview.png")


MPP = st.floats(0.1, 4).map(lambda mpp: float(f"{mpp:.6g}"))


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 200), width=st.integers(1, 200), mpp=MPP, target=MPP)
def test_working_hw_is_the_size_in_micrometres(height, width, mpp, target):
    h, w = working_hw((height, width), mpp, target)
    assert abs(h * target - height * mpp) <= target / 2 + 1e-6 or h == 1
    assert abs(w * target - width * mpp) <= target / 2 + 1e-6 or w == 1
    assert working_hw((height, width), mpp, None) == working_hw((height, width), None, None) == (height, width)


@pytest.mark.parametrize(("image_hw", "expected"), [
    ((522, 775), (261, 388)), ((453, 589), (227, 295)), ((433, 574), (217, 287)), ((442, 581), (221, 291))])
def test_the_challenges_pictures_keep_the_size_they_were_trained_at(image_hw, expected):
    """Halves go up, whether 0.62 comes as it is typed or as a dataset's 32 bits hold it."""
    assert working_hw(image_hw, 0.62, 1.24) == working_hw(image_hw, 0.6200000047683716, 1.24) == expected


@pytest.mark.parametrize(("lines", "per_unit_xy", "expected"), [
    ("unit=micron", (2, 2), 0.5), ("unit=um", (4, 4), 0.25), ("unit=µm", (2, 2), 0.5), ("unit=\\u00B5m", (2, 2), 0.5),
    ("unit=mm", (2000, 2000), 0.5), ("images=1\nunit=nm\nloop=false", (0.002, 0.002), 0.5),
    ("unit=micron\nyunit=micron", (2, 2), 0.5), ("unit=micron\nyunit=mm", (2, 2), None), ("unit=micron", (2, 1), None),
    ("unit=micron", (0, 0), None), ("unit=micron", (0.01, 0.01), None), ("unit=pixel", (2, 2), None), ("", (2, 2), None)])
def test_what_imagej_and_fiji_say_of_the_pixel_size_is_read(tmp_path, lines, per_unit_xy, expected):
    """They leave ResolutionUnit at "none" and write the unit into their description."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40, 3), np.uint8), description=f"ImageJ=1.54f\n{lines}\n".encode(),
                     resolution=per_unit_xy, resolutionunit="NONE", metadata=None)
    picture = read_picture(tmp_path / "a.tif")
    assert (picture.mpp, picture.mpp_source) == (expected, "ImageJ's calibration" if expected else "")


def test_resolution_tags_without_a_unit_say_nothing_of_a_file_that_is_not_imagejs(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40, 3), np.uint8), description=b"not ImageJ=1\nunit=micron\n",
                     resolution=(2, 2), resolutionunit="NONE", metadata=None)
    assert read_picture(tmp_path / "a.tif").mpp is None


def test_a_file_written_as_imagej_does_is_read(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40, 3), np.uint8), imagej=True, resolution=(1 / 0.62, 1 / 0.62),
                     metadata={"unit": "um", "axes": "YXS"})
    assert read_picture(tmp_path / "a.tif").mpp == 0.62
