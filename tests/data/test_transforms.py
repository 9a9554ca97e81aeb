import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.data.transforms import View, apply_view, is_blank, photometric, random_view
from hf_gland.labels import IGNORE_INDEX


def views(largest_crop=60):
    """(image size, crop, view): views as training draws them, of images larger and smaller than the window."""
    def draw(seed, height, width, crop, zoom):
        return (height, width), crop, random_view(np.random.default_rng(seed), (height, width), crop, 1 / zoom, zoom)

    return st.builds(draw, st.integers(0, 10**6), st.integers(8, 60), st.integers(8, 60),
                     st.integers(8, largest_crop), st.floats(1, 2))


@settings(deadline=None, max_examples=80)
@given(drawn=views())
def test_image_labels_and_pseudo_masks_see_the_same_place(drawn):
    """Planes that hold their own coordinates tell each output pixel where it comes from, however it was sampled."""
    (height, width), crop, view = drawn
    y, x = np.mgrid[:height, :width]
    planes = np.stack([y * 4, x * 4, np.full_like(x, 200)]).astype(np.uint8)
    image = apply_view(planes, view, crop, labels=False)
    rows, columns = (apply_view(plane, view, crop, labels=True, fill=IGNORE_INDEX) for plane in planes[:2])
    stored = apply_view(planes, view, crop, labels=False, fill=0)
    assert torch.equal(rows == IGNORE_INDEX, columns == IGNORE_INDEX)
    inside = (rows != IGNORE_INDEX) & (stored[2] == 200)  # away from the border, where the bank is blended with 0
    assert inside.any()
    step = max(1.0, view.side / crop)  # nearest neighbour and blending differ by up to a pixel of the coarser grid
    for plane, labels in ((0, rows), (1, columns)):
        for sampled in (image, stored):
            assert (sampled[plane].int() - labels.int()).abs()[inside].max() <= 4 * step + 1


def by_hand(planes, view, fill):
    """The view at its own size, pixel by pixel: window, then mirror left-right, then turn."""
    height, width = planes.shape
    out = np.zeros((view.side, view.side), np.uint8)
    for y in range(view.side):
        for x in range(view.side):
            row, column = view.top + y, view.left + x
            if fill is None:
                row, column = ((i if i % (2 * n) < n else -1 - i) % n for i, n in ((row, height), (column, width)))
                out[y, x] = planes[row, column]
            else:
                inside = 0 <= row < height and 0 <= column < width
                out[y, x] = planes[row, column] if inside else fill
    if view.flip:
        out = out[:, ::-1]
    for _ in range(view.quarter_turns):
        out = np.array([[out[x, view.side - 1 - y] for x in range(view.side)] for y in range(view.side)])
    return out


@settings(deadline=None, max_examples=25)
@given(drawn=views(largest_crop=30), fill=st.sampled_from([None, 0, IGNORE_INDEX]), labels=st.booleans())
def test_at_its_own_size_a_view_moves_pixels_and_changes_none(drawn, fill, labels):
    size, _, view = drawn
    plane = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    found = apply_view(plane, view, view.side, labels=labels, fill=fill)
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), by_hand(plane, view, fill))


@settings(deadline=None, max_examples=40)
@given(drawn=views(), level=st.integers(0, 255))
def test_images_are_blended_as_in_real_numbers_and_a_plane_of_one_level_stays_so(drawn, level):
    size, crop, view = drawn
    planes = np.random.default_rng(2).integers(0, 256, (3, *size), dtype=np.uint8)
    planes[2] = level
    whole = torch.stack([torch.from_numpy(by_hand(plane, view, None).copy()) for plane in planes])
    exact = F.interpolate(whole[None].double(), (crop, crop), mode="bilinear", antialias=True)[0]
    assert (apply_view(planes, view, crop, labels=False) - exact).abs().max() <= 1.5
    assert (apply_view(planes, view, crop, labels=False)[2] == level).all()


@settings(deadline=None, max_examples=40)
@given(drawn=views())
def test_labels_are_never_blended(drawn):
    size, crop, view = drawn
    mask = np.random.default_rng(1).choice(np.array([0, 2, 7, 255], np.uint8), size)
    found = apply_view(mask, view, crop, labels=True, fill=IGNORE_INDEX)
    assert found.shape == (crop, crop)
    assert set(found.unique().tolist()) <= {0, 2, 7, 255}


def test_outside_the_image_labels_are_unlabelled_the_bank_is_silent_and_the_image_is_mirrored():
    view = View(top=-10, left=5, side=20, flip=False, quarter_turns=0)
    mask, image = np.ones((30, 30), np.uint8), np.random.default_rng(4).integers(0, 256, (3, 30, 30), dtype=np.uint8)
    bank = np.full((2, 30, 30), 128, np.uint8)
    for crop in (20, 40, 10):
        edge = crop // 2
        labels = apply_view(mask, view, crop, labels=True, fill=IGNORE_INDEX)
        assert (labels[:edge] == IGNORE_INDEX).all()
        assert (labels[edge:] == 1).all()
        opinions = apply_view(bank, view, crop, labels=False, fill=0)
        assert (opinions[:, :edge - 2] == 0).all()
        assert (opinions[:, edge + 2:] == 128).all()
        assert (opinions <= 128).all()
    mirrored = apply_view(image, view, 20, labels=False)
    assert torch.equal(mirrored[:, :10], mirrored[:, 10:].flip(1))


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), height=st.integers(20, 90), width=st.integers(20, 90))
def test_random_views_stay_inside_where_they_fit_and_are_centred_where_they_do_not(seed, height, width):
    view = random_view(np.random.default_rng(seed), (height, width), 32, 0.75, 1.33)
    assert 32 / 1.34 <= view.side <= 32 / 0.74
    for start, length in ((view.top, height), (view.left, width)):
        if length >= view.side:
            assert 0 <= start <= length - view.side
        else:
            assert start == (length - view.side) // 2


def test_random_views_use_every_place_turn_and_scale():
    rng = np.random.default_rng(0)
    drawn = [random_view(rng, (50, 40), 32, 0.8, 1.25) for _ in range(400)]
    assert {v.quarter_turns for v in drawn} == {0, 1, 2, 3}
    assert {v.flip for v in drawn} == {True, False}
    sides = np.array([v.side for v in drawn])
    assert sides.min() <= 27
    assert sides.max() >= 38
    assert abs(np.log(32 / sides).mean()) < 0.02  # as often larger as smaller
    assert {v.top for v in drawn if v.side == 32} >= {0, 18} or {v.top + v.side for v in drawn} >= {50}


def test_the_same_generator_state_gives_the_same_view():
    first, second = (random_view(np.random.default_rng([1, 2]), (60, 60), 32, 0.75, 1.33) for _ in range(2))
    assert first == second


class TestPhotometric:
    image = torch.from_numpy(np.random.default_rng(2).integers(40, 250, (3, 24, 20), dtype=np.uint8))

    def test_all_off_changes_nothing(self):
        assert torch.equal(photometric(self.image, np.random.default_rng(0), 0, 0, 0), self.image)

    @pytest.mark.parametrize("spreads", [(0.15, 0, 0), (0, 0.15, 0), (0, 0, 1.5), (0.15, 0.15, 1.0)])
    def test_each_change_alters_the_image_and_depends_on_the_generator_alone(self, spreads):
        results = [photometric(self.image, np.random.default_rng(seed), *spreads) for seed in (5, 5, 6, 7, 8, 9)]
        assert torch.equal(results[0], results[1])
        assert any(not torch.equal(r, self.image) for r in results)
        assert any(not torch.equal(r, results[0]) for r in results[2:])
        for result in results:
            assert result.shape == self.image.shape
            assert result.dtype == torch.uint8

    def test_a_blur_limit_below_the_usual_smallest_sigma_is_fine(self):
        for seed in range(6):
            assert photometric(self.image, np.random.default_rng(seed), 0, 0, 0.05).shape == self.image.shape

    def test_the_image_that_was_handed_in_stays(self):
        before = self.image.clone()
        photometric(self.image, np.random.default_rng(0), 0.2, 0.2, 1.0)
        assert torch.equal(self.image, before)


def test_blank_is_near_white_in_every_channel():
    """Pale eosin is bright on average, and tissue all the same."""
    pixels = {(255, 255, 255): True, (211, 211, 211): True, (210, 255, 255): False, (255, 255, 200): False,
              (255, 150, 255): False, (250, 230, 240): True}
    image = torch.tensor(list(pixels), dtype=torch.uint8).T[:, None]
    assert is_blank(image)[0].tolist() == list(pixels.values())
