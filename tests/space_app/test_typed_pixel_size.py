import numpy as np
import pytest
import tifffile
from gland_space.page_parts import shown_mpp, typed_mpp
from gland_space.pictures import Limits, read_picture

from hf_gland.inference import PixelSizeError

GREY = np.full((40, 40, 3), 128, np.uint8)


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
    ('<OME><Image><Pixels PhysicalSizeX="370" PhysicalSizeXUnit="nm"/></Image></OME>', None),
    ("MPP = 900", None), ("MPP = ...", None), ("nothing", None)])
def test_scanner_metadata_are_read(tmp_path, description, mpp):
    tifffile.imwrite(tmp_path / "a.tif", GREY, description=description.encode(), metadata=None)
    assert read_picture(tmp_path / "a.tif", Limits()).mpp == mpp


def test_typed_sizes_take_a_point_or_a_comma_and_refuse_words():
    assert [typed_mpp(text) for text in ("0.5", " 0,25 ", "1 µm", "", None, "  ")] == [0.5, 0.25, 1.0, None, None, None]
    with pytest.raises(PixelSizeError, match="'20x' is not a number"):
        typed_mpp("20x")
    assert [shown_mpp(value) for value in (None, 0.5, 0.2520)] == ["", "0.5", "0.252"]
