import re
from pathlib import Path

import pytest

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
