import re
from pathlib import Path

import numpy as np
import pytest
from slide_files import write_dicom

from hf_gland.errors import ImageError
from hf_gland.imaging.find import find_images, natural_key


def test_natural_key() -> None:
    assert sorted(["a10", "a2", "b", "10", "9", "a"], key=natural_key) == ["9", "10", "a", "a2", "a10", "b"]


def test_folders_are_searched_and_results_named_after_their_place(tmp_path):
    for name in ("b/x.PNG", "b/c/y.tiff", "b/.hidden.png", "b/notes.txt", "b/out/y_mask.png", "single.dat"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, _ = find_images([tmp_path / "b", tmp_path / "single.dat"], leave_out=tmp_path / "b" / "out")
    assert {str(path.relative_to(tmp_path)): str(stem) for path, stem in found.items()} == {
        "b/x.PNG": "x", "b/c/y.tiff": "c/y", "single.dat": "single"}
    assert find_images([tmp_path / "b" / "x.PNG", tmp_path / "b" / "x.PNG"]) == (
        {tmp_path / "b" / "x.PNG": Path("x")}, [])


def test_an_empty_folder_and_a_clash_of_names_are_refused(tmp_path):
    with pytest.raises(ImageError, match="holds no image"):
        find_images([tmp_path])
    (tmp_path / "x.png").touch()
    (tmp_path / "x.jpg").touch()
    with pytest.raises(ImageError, match=r"x\.jpg and .*x\.png would both be written as x"):
        find_images([tmp_path])


def test_what_is_left_out_is_said_with_the_reason(tmp_path):
    for name in ("in/a.png", "in/.cache/b.png", "in/slide.svs", "in/notes.txt", "in/z.md",
                 "in/.c.png", "elsewhere/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "lost.png").symlink_to(tmp_path / "gone.png")
    found, notes = find_images([tmp_path / "in"])
    assert [path.name for path in found] == ["a.png", "slide.svs"]
    said = "\n".join(notes)
    for words in ("hidden: .*/in/.c(ache|.png) and 1 more", "a link to another folder .*: .*/in/linked and 1 more",
                  "a link to nothing: .*/in/lost.png$", "no picture by its name .*: .*/in/notes.txt and 1 more"):
        assert re.search(words, said, re.MULTILINE), (words, said)


def test_of_a_dicom_slide_one_file_is_taken(tmp_path):
    rgb = np.zeros((300, 300, 3), np.uint8)
    write_dicom(tmp_path / "in" / "a", rgb, series="1.2.3")
    write_dicom(tmp_path / "in" / "b", rgb, series="1.2.3")  # a copy is a slide of its own
    (tmp_path / "in" / "a" / "scan.dcm").write_bytes(b"no slide")  # told when it is read
    found, notes = find_images([tmp_path / "in"])
    assert [str(stem) for stem in found.values()] == ["a/level_0", "a/scan", "b/level_0"]
    assert notes == [f"left out, as levels of the slide {tmp_path}/in/{folder}/level_0.dcm: "
                     f"{tmp_path}/in/{folder}/level_1.dcm and 1 more" for folder in "ab"]
    assert list(find_images([tmp_path / "in" / "a" / "level_2.dcm"])[0].values()) == [Path("level_2")]


def test_two_dicom_slides_in_one_folder_are_told_apart(tmp_path):
    rgb = np.zeros((300, 300, 3), np.uint8)
    for name in "ab":
        for path in write_dicom(tmp_path / name, rgb, levels=2):
            path.rename(tmp_path / f"{name}_{path.name}")
    assert [str(stem) for stem in find_images([tmp_path])[0].values()] == ["a_level_0", "b_level_0"]
