import shutil

import numpy as np
import pytest
from slide_files import write_dicom

from hf_gland.imaging.slide_files import slide_files


def test_a_dicom_slide_is_all_levels_of_its_series(tmp_path):
    rgb = np.full((200, 200, 3), 200, np.uint8)
    one = write_dicom(tmp_path, rgb, series="1.2.3")
    assert slide_files(one[1]) == [one[1], one[0], one[2]]
    for path in write_dicom(tmp_path / "other", rgb, series="1.2.34"):
        shutil.copy(path, tmp_path / f"other_{path.name}")
    (tmp_path / "broken.dcm").write_bytes(b"no slide, though it holds 1.2.3")
    assert slide_files(one[0]) == one
    assert slide_files(tmp_path / "broken.dcm") == [tmp_path / "broken.dcm"]


@pytest.mark.parametrize(("name", "beside"), [
    ("a.mrxs", ["a/Data0001.dat", "a/Slidedat.ini"]), ("a.vsi", ["_a_/stack1/frame_t.ets"]),
    ("a.vms", ["a(0,1).jpg", "a_map2.jpg"]), ("a.svs", [])])
def test_the_pixels_beside_the_named_file_are_of_the_slide(tmp_path, name, beside):
    path = tmp_path / name
    path.write_text("[Virtual Microscope Specimen]\nNoLayers=1\nImageFile(0,1)=a(0,1).jpg\nMapFile=a_map2.jpg\nImageFile=\n")
    for other in (*beside, "a.json", "a_glands.csv", "b.jpg"):
        (tmp_path / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / other).write_text("x")
    assert slide_files(path) == [path, *(tmp_path / other for other in beside)]


def test_what_is_not_there_is_not_taken_for_a_whole_slide(tmp_path):
    (tmp_path / "a.mrxs").write_text("x")
    assert slide_files(tmp_path / "a.mrxs") == [tmp_path / "a.mrxs", tmp_path / "a"]
    for name in ("b.dcm", "b.vms", "b.vsi"):
        assert slide_files(tmp_path / name) == [tmp_path / name]
