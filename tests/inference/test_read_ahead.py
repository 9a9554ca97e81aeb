"""Files read before they are needed, and put together where they are alike."""

import itertools
from concurrent.futures import Executor, Future
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hf_gland.imaging.appearance import USUAL_LOOK
from hf_gland.imaging.pictures import Picture
from hf_gland.inference.read_ahead import ReadFile, batches, read_ahead


class AtOnce(Executor):
    """Does what it is given straight away, and counts it."""

    def __init__(self):
        self.done = 0

    def submit(self, function, /, *arguments, **options):
        future = Future()
        future.set_result(function(*arguments, **options))
        self.done += 1
        return future


def of_size(*hw):
    return Picture(np.zeros((*hw, 3), np.uint8), "a.png", hw)


@given(st.lists(st.sampled_from(["small a", "small b", "large", "broken"])), st.integers(1, 4))
def test_every_file_comes_once_in_order_and_only_small_ones_of_one_size_together(kinds, batch_size):
    pixels = {"small a": of_size(4, 4), "small b": of_size(4, 5), "large": of_size(9, 9), "broken": None}
    files = [ReadFile(Path(str(i)), 0.0, pixels[kind], kind.startswith("small")) for i, kind in enumerate(kinds)]
    made = list(batches(files, batch_size))
    assert [file for batch in made for file in batch] == files
    for batch in made:
        assert len(batch) <= batch_size
        assert len({kinds[int(f.path.name)] for f in batch}) == 1
        assert len(batch) == 1 or batch[0].small
    for one, next_one in itertools.pairwise(made):  # as few as can be
        assert len(one) == batch_size or not one[-1].alike(next_one[0])


def test_a_batch_that_is_full_or_can_have_no_other_file_waits_for_none():
    def files():
        for i in range(2):
            yield ReadFile(Path(str(i)), 0.0, of_size(4, 4), small=True)
        yield ReadFile(Path("2"), 0.0, of_size(9, 9))
        raise AssertionError("asked for a file too many")

    made = batches(files(), 2)
    assert [len(next(made)) for _ in range(2)] == [2, 1]


@pytest.mark.parametrize(("count", "read"), [(0, [1, 2, 3, 4, 5, 6]), (1, [2, 3, 4, 5, 6, 6]), (3, [2, 5, 6, 6, 6, 6])])
def test_so_many_are_read_before_they_are_asked_for(tmp_path, count, read):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((4, 5, 3), i, np.uint8)).save(path)
    helper = AtOnce()
    files = read_ahead(helper, paths, count, lambda picture: (not picture.name.endswith("5.png"), USUAL_LOOK))
    for i, path in enumerate(paths):
        file = next(files)
        assert (file.path, int(file.picture.rgb[0, 0, 0]), file.error) == (path, i, None)
        assert file.small == (i != 5)
        assert helper.done == read[i]


def test_large_files_are_read_one_ahead(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths:
        Image.fromarray(np.zeros((4, 5, 3), np.uint8)).save(path)
    helper = AtOnce()
    files = read_ahead(helper, paths, 3, lambda picture: (False, USUAL_LOOK))
    assert [next(files) and helper.done for _ in paths] == [2, 3, 4, 5, 6, 6]


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    (file,) = read_ahead(AtOnce(), [tmp_path / "gone.png"], 2, lambda picture: (True, USUAL_LOOK))
    assert file.picture is None
    assert "no such file" in file.error
