"""A slide in one pass, against the same pixels as one picture."""

import shutil

import numpy as np
import pytest
from PIL import Image
from slide_files import aperio, damage_tile, texture, write_slide

from hf_gland.errors import HfGlandError, ImageError
from hf_gland.imaging.appearance import USUAL_LOOK, Look
from hf_gland.imaging.slides import open_slide
from hf_gland.inference.slides.area import Whole, find_area
from hf_gland.inference.slides.plan import slide_grid
from hf_gland.inference.slides.predict import predict_slide
from hf_gland.inference.slides.tiles import plan_tiles
from hf_gland.options import Tiling

HW = (700, 1060)
TISSUE = np.s_[250:560, 300:900]
TILING = Tiling(128, 80, 3)


@pytest.fixture(scope="module")
def rgb():
    rgb = np.full((*HW, 3), 245, np.uint8)
    rgb[TISSUE] = texture(HW)[TISSUE] // 2 + np.array([100, 20, 80], np.uint8)
    return rgb


@pytest.fixture(scope="module")
def svs(rgb, tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slides") / "a.svs", rgb, description=aperio(0.5))


def predicted(segmenter, path, tiling=TILING, whole=False, area=None, look=USUAL_LOOK):
    """Probabilities [C, H, W] and area [H, W] of all stripes, checked to follow one another, and the progress."""
    stripes = []
    with open_slide(path) as slide:
        grid = slide_grid(slide.hw, (0.5, 0.5), segmenter.mpp)
        found = area(grid) if area else find_area(slide, grid, (0.5, 0.5), None, whole)[0]
        plan = plan_tiles(grid, found, tiling)
        progress = predict_slide(segmenter, slide, plan, stripes.append, look=look)
    assert progress.tiles == plan.tiles
    assert [stripe.top_px for stripe in stripes] == [0, *np.cumsum([stripe.tissue.shape[0] for stripe in stripes])[:-1]]
    for stripe in stripes:
        assert stripe.probabilities.shape[1:] == stripe.tissue.shape
    return np.concatenate([s.probabilities for s in stripes], 1), np.concatenate([s.tissue for s in stripes]), progress


@pytest.mark.parametrize("mpp", [0.5, 0.8])
def test_stripes_hold_what_the_picture_as_a_whole_gives(dark_is_gland, svs, rgb, mpp):
    segmenter = dark_is_gland(mpp=mpp, temperature=1.5)
    hw = (700, 1060) if mpp == 0.5 else (438, 663)
    working = np.asarray(Image.fromarray(rgb).resize(hw[::-1], Image.Resampling.LANCZOS))
    expected = segmenter.probabilities(working, mpp, TILING)
    found, tissue, _ = predicted(segmenter, svs, whole=True)
    assert tissue.all()
    assert found.shape == (2, *hw)
    assert np.abs(found - expected).max() < (1e-5 if mpp == 0.5 else 0.02)
    assert np.abs(found - expected).mean() < 1e-3


def test_beside_the_tissue_all_is_background_and_nothing_is_computed(dark_is_gland, svs):
    segmenter = dark_is_gland(mpp=0.5)
    every, _, all_progress = predicted(segmenter, svs, whole=True)
    found, tissue, progress = predicted(segmenter, svs)
    assert tissue[TISSUE].all()
    assert tissue.sum() < 2.2 * 310 * 600
    assert np.allclose(found[:, tissue], every[:, tissue], atol=1e-6)
    assert (found[0][~tissue] == 1).all()
    assert (found[1][~tissue] == 0).all()
    assert progress.tiles < 0.8 * all_progress.tiles
    assert progress.area_px == tissue.sum()


def test_a_slide_that_looks_foreign_is_seen_with_the_stain_of_the_training_images(dark_is_gland, svs, rgb):
    segmenter = dark_is_gland(mpp=0.5)
    look = Look(1.7, np.array([np.arange(256) // 2, np.arange(256), 255 - np.arange(256)], np.uint8))
    found = predicted(segmenter, svs, whole=True, look=look)[0]
    plain = predicted(segmenter, svs, whole=True, look=Look(1.7))[0]
    matched = np.stack([rgb[..., 0] // 2, rgb[..., 1], 255 - rgb[..., 2]], axis=-1)
    assert np.abs(found - segmenter.probabilities(matched, 0.5, TILING)).max() < 1e-5
    assert np.abs(plain - segmenter.probabilities(rgb, 0.5, TILING)).max() < 1e-5
    assert np.abs(found - plain).max() > 0.1


def test_the_result_does_not_depend_on_the_batch(dark_is_gland, svs):
    one, other = (predicted(dark_is_gland(mpp=0.7), svs, Tiling(128, 80, batch))[0] for batch in (1, 7))
    assert np.allclose(one, other, atol=1e-6)


def test_what_cannot_be_decoded_is_no_tissue_and_is_told(dark_is_gland, svs, tmp_path):
    path = shutil.copy(svs, tmp_path / "damaged.svs")
    damage_tile(path, 3 * 9 + 4)  # of 9 columns: rows 384 to 512, columns 512 to 640
    _, tissue, _ = predicted(dark_is_gland(mpp=0.5), svs)
    _, readable, progress = predicted(dark_is_gland(mpp=0.5), path)
    lost = tissue & ~readable
    assert lost[384:490, 512:640].all()
    assert progress.unreadable_px == lost.sum() < 3 * 128**2
    for tile in range(54):
        damage_tile(path, tile)
    with pytest.raises(ImageError, match=r"damaged\.svs: \d+% of the area cannot be decoded"):
        predicted(dark_is_gland(mpp=0.5), path)


def test_an_error_in_what_follows_ends_the_prediction(dark_is_gland, svs):
    def fail(stripe):
        raise OSError("disk full")

    with open_slide(svs) as slide:
        grid = slide_grid(slide.hw, (0.5, 0.5), 0.5)
        with pytest.raises(OSError, match="disk full"):
            predict_slide(dark_is_gland(mpp=0.5), slide, plan_tiles(grid, Whole(grid), TILING), fail)


def test_glass_alone_is_an_error(dark_is_gland, tmp_path):
    path = write_slide(tmp_path / "empty.svs", np.full((300, 300, 3), 240, np.uint8), description=aperio(0.5))
    with pytest.raises(HfGlandError, match=r"empty\.svs: no tissue found; --no-tissue-mask"):
        predicted(dark_is_gland(mpp=0.5), path)
