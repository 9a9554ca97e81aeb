import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from hf_gland.data.stain import shift_stain
from hf_gland.imaging.appearance import Appearance, appearance_features, appearance_of, learn_appearance


def tissue(seed, purple=1.0):
    """H&E-like noise: pink with purple spots, a little different in each image."""
    rng = np.random.default_rng(seed)
    base = np.array([225, 150, 195]) + rng.normal(0, 6, 3)
    spots = rng.random((60, 70, 1)) < rng.uniform(0.25, 0.35) * purple
    image = np.where(spots, [110, 70, 150], base) + rng.normal(0, 8, (60, 70, 3))
    return image.clip(0, 255).astype(np.uint8)


def test_images_like_those_of_training_pass_and_restained_ones_are_told():
    learned = learn_appearance([tissue(seed) for seed in range(40)])
    usual = [learned.distance(tissue(seed)) for seed in range(100, 160)]
    assert np.mean(np.array(usual) > 1) <= 0.05
    shifted = [learned.distance(shift_stain(tissue(seed), 3)) for seed in range(100, 160)]
    assert np.mean(np.array(shifted) > 1) >= 0.8
    assert learned.distance(np.full((60, 70, 3), 245, np.uint8)) is None


def test_blurred_images_and_those_of_another_magnification_are_told():
    def seen(seed, zoom=1.0, sigma=0.0):
        smooth = ndimage.gaussian_filter(tissue(seed).astype(float), (1.5, 1.5, 0))
        image = Image.fromarray(smooth.clip(0, 255).astype(np.uint8))
        larger = image.resize((round(70 * zoom), round(60 * zoom)), Image.Resampling.BICUBIC)
        return ndimage.gaussian_filter(np.asarray(larger), (sigma, sigma, 0))

    learned = learn_appearance([seen(seed) for seed in range(40)])
    assert np.mean([learned.distance(seen(seed)) > 1 for seed in range(100, 140)]) <= 0.05
    for changed in ({"zoom": 2.0}, {"zoom": 0.5}, {"sigma": 3.0}):
        assert np.mean([learned.distance(seen(seed, **changed)) > 1 for seed in range(100, 110)]) >= 0.8, changed
    told = learned.look([seen(100, zoom=2.0)], match=False).sentence()
    assert told.startswith("Its stain, sharpness or magnification is unlike that of the training images (")
    assert "with their stain" not in told


def test_of_the_parts_of_a_slide_the_middle_one_counts_and_bare_glass_does_not():
    learned = learn_appearance([tissue(seed) for seed in range(40)])
    usual, other, glass = tissue(100), shift_stain(tissue(101), 3), np.full((60, 70, 3), 245, np.uint8)

    def told(*parts):
        return learned.look(parts).sentence()

    assert told(usual) is None
    assert told(usual, other, usual, glass) is None
    assert f"({learned.distance(other):.1f} times the usual limit): the network saw it with their stain" in told(other)
    assert told(other, usual, other, glass) is not None
    assert told(glass, glass) is None


def test_what_is_unlike_is_given_the_stain_of_the_training_images_and_nothing_else_is_touched():
    learned = learn_appearance([tissue(seed) for seed in range(40)])
    usual = tissue(100)
    assert learned.look([usual]).matched(usual) is usual
    foreign = [shift_stain(tissue(seed), 3) for seed in (100, 101)]
    look = learned.look(foreign)  # the parts of a slide: one change for all of it
    matched = [look.matched(part) for part in foreign]
    stain = np.mean([appearance_features(part)[:6] for part in matched], axis=0)
    assert stain[:3] == pytest.approx(learned.mean[:3], abs=0.04)
    assert np.exp(stain[3:]) == pytest.approx(np.exp(learned.mean[3:6]), abs=0.04)
    assert learned.distance(foreign[0]) > 2 > learned.distance(matched[0])
    assert matched[0].dtype == np.uint8
    assert np.abs(matched[0].astype(int) - usual).mean() < 0.7 * np.abs(foreign[0].astype(int) - usual).mean()
    grey = np.full((60, 70, 3), 120, np.uint8)  # without any contrast: no stain is strengthened without bound
    assert np.isfinite(learned.look([grey]).matched(grey).astype(float)).all()


def test_it_comes_back_from_json_and_nonsense_is_none():
    learned = learn_appearance([tissue(seed) for seed in range(12)])
    again = appearance_of(json.loads(json.dumps(learned.to_json())))
    assert again == learned
    assert again.distance(tissue(50)) == pytest.approx(learned.distance(tissue(50)))
    for nonsense in (None, {}, {"mean": 3}, learned.to_json() | {"limit": 0}, learned.to_json() | {"mean": [1.0]},
                     learned.to_json() | {"inverse": [[float("nan")] * 6] * 6}, {"mean": "a", "inverse": "b", "limit": "c"}):
        assert appearance_of(nonsense) is None


def test_too_few_images_say_nothing_and_density_is_that_of_the_tissue():
    assert learn_appearance([tissue(seed) for seed in range(5)]) is None
    half = np.full((40, 40, 3), 255, np.uint8)
    half[:20] = (127, 63, 255)
    features = appearance_features(half)
    assert features[:3] == pytest.approx([np.log(2), np.log(4), 0], abs=1e-5)
    of_before = Appearance([0.0] * 6, np.eye(6).tolist(), 2.0)  # a model that knows the stain alone
    assert of_before.distance(half) == pytest.approx(np.linalg.norm(features[:6]) / 2)
    assert appearance_of(of_before.to_json()) == of_before
    assert appearance_of({"mean": [0.0] * 7, "inverse": np.eye(7).tolist(), "limit": 1.0}) is None
