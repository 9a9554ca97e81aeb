import pickle

import numpy as np
import pytest

from hf_gland.export.geojson_masks import masks_from_geojson
from hf_gland.inference.suggest import (
    Place,
    choose,
    choose_at_random,
    gland_radius_px,
    noise_of_round,
    places_of,
    suggestion,
    uncertainty,
)


def glands(*centres, hw=(200, 200), radius=15):
    """Class map and ids of round glands."""
    y, x = np.mgrid[:hw[0], :hw[1]]
    instances = np.zeros(hw, np.int32)
    for number, (cx, cy) in enumerate(centres, start=1):
        instances[np.hypot(x - cx, y - cy) < radius] = number
    return (instances > 0).astype(np.uint8), instances


def place(score, class_id=1, x=0, image="a", grade="", side=10):
    return Place(image, class_id, score, x, 0, (side, side), side**2, np.packbits(np.ones(side**2, bool)), grade)


def test_certainty_is_0_and_a_guess_is_1():
    for classes in (2, 4):
        uncertain = uncertainty(np.array([[1.0, 1 / classes, 0.5 + 0.5 / classes]], np.float32), classes)
        assert uncertain.tolist() == [[0.0, 1.0, pytest.approx(0.5)]]


def test_an_uncertain_gland_comes_before_one_with_an_uncertain_seam():
    class_map, instances = glands((50, 60), (140, 130))
    y, x = np.mgrid[:200, :200]
    uncertain = np.where(np.abs(np.hypot(x - 50, y - 60) - 15) < 2, 1.0, 0.02).astype(np.float32)
    uncertain[instances == 2] = 0.4
    places = places_of(uncertain, class_map, instances)
    first = choose(places, 1)[0]
    assert first.centre_px == pytest.approx((140.5, 130.5), abs=1)
    assert (first.class_id, first.score) == (1, pytest.approx(0.4, abs=0.01))
    seam = next(p for p in places if p.class_id == 1 and p is not first)
    assert seam.score == pytest.approx(0.02, abs=0.01)


def test_places_take_a_bit_per_pixel_as_those_of_all_slides_are_kept_until_the_choice():
    class_map, instances = glands((250, 250), (600, 550), hw=(800, 801), radius=83)
    places = places_of(np.zeros((800, 801), np.float32), class_map, instances)
    assert len(pickle.dumps(places)) < 800 * 801 / 4  # they hold most of the picture
    covered = np.zeros((800, 801), np.int64)
    for found in places:
        height, width = found.region.shape
        covered[found.top:found.top + height, found.left:found.left + width] += found.region
        assert found.radius_px == pytest.approx(np.sqrt(found.region.sum() / np.pi))
    assert (covered[instances > 0] == 1).all()
    assert covered.max() == 1
    assert covered.mean() > 0.8


def test_a_missed_gland_is_found_as_a_patch_of_uncertain_stroma():
    class_map, instances = glands((50, 60))
    uncertain = np.zeros((200, 200), np.float32)
    uncertain[115:150, 115:150] = 0.9
    (first,) = choose(places_of(uncertain, class_map, instances), 1, least=0.05)
    assert first.class_id == 0
    assert first.centre_px == pytest.approx((130, 130), abs=20)
    assert choose(places_of(np.zeros((200, 200), np.float32), class_map, instances), 5, least=0.05) == []


def test_what_is_outlined_is_not_suggested_again():
    class_map, instances = glands((50, 60), (140, 130))
    uncertain = np.where(instances == 1, 0.9, np.where(instances == 2, 0.5, 0.1)).astype(np.float32)
    outlined = instances == 1
    places = places_of(uncertain, class_map, instances, outlined)
    assert choose(places, 1)[0].centre_px == pytest.approx((140.5, 130.5), abs=1)
    assert all(not (p.region & outlined[p.top:p.top + p.region.shape[0], p.left:p.left + p.region.shape[1]]).any()
               for p in places)


def test_no_two_of_a_neighbourhood_but_of_another_image():
    crowd = [place(0.9 - i / 100, x=3 * i) for i in range(9)] + [place(0.1, image="b")]
    chosen = choose(crowd, 3)
    assert [(p.image, p.left) for p in chosen] == [("a", 0), ("a", 12), ("a", 24)]
    assert [p.image for p in choose([crowd[0], crowd[1], crowd[-1]], 3)] == ["a", "b"]


def test_two_thirds_are_spread_over_classes_and_grades():
    rare = [place(0.1 + i / 100, class_id=2, x=1000 * i) for i in range(9)]
    common = [place(0.9 - i / 100, class_id=1, x=1000 * i, image="b") for i in range(9)]
    chosen = choose([*common, *rare], 6)
    assert [p.class_id for p in chosen].count(2) == 2
    assert [p.score for p in chosen] == sorted((p.score for p in chosen), reverse=True)
    graded = [place(0.9 - i / 100, x=1000 * i, grade="malignant") for i in range(9)]
    graded += [place(0.1, image="c", grade="benign")]
    assert "benign" in {p.grade for p in choose(graded, 3)}
    assert len(choose(common[:2], 6)) == 2


def test_noise_changes_the_choice_reproducibly_and_decays():
    places = [place(0.5 + i / 1000, x=1000 * i) for i in range(40)]
    first = [p.left for p in choose(places, 5, noise=1.0, seed=1)]
    assert first == [p.left for p in choose(places, 5, noise=1.0, seed=1)]
    assert first != [p.left for p in choose(places, 5, noise=1.0, seed=2)]
    assert [p.left for p in choose(places, 5)] == [1000 * i for i in (39, 38, 37, 36, 35)]
    assert [p.score for p in choose(places, 5, noise=1.0)] == sorted(
        (p.score for p in choose(places, 5, noise=1.0)), reverse=True)
    assert [noise_of_round(n) for n in (1, 2, 4)] == [0.5, 0.25, 0.0625]


def test_a_suggestion_is_an_annotation_that_counts_as_nothing_until_it_is_looked_at():
    class_map, instances = glands((50, 60))
    (gland,) = [p for p in places_of(np.full((200, 200), 0.5, np.float32), class_map, instances) if p.class_id]
    feature = suggestion(gland, 3, "gland", scale_xy=(2.0, 2.0))
    assert feature["properties"]["classification"]["name"] == "Suggested: gland"
    assert feature["properties"]["measurements"] == {"Rank": 3, "Expected change": 0.5}
    ids, _ = masks_from_geojson([feature], (400, 400), {"Suggested": 1})
    assert np.array_equal(ids[::2, ::2] > 0, instances > 0)


def test_the_radius_is_that_of_the_median_gland():
    instances = np.zeros((200, 200), np.int32)
    y, x = np.mgrid[:200, :200]
    for number, (radius, cx) in enumerate(((10, 30), (20, 80), (40, 150)), start=1):
        instances[(x - cx) ** 2 + (y - 100) ** 2 <= radius**2] = number
    assert gland_radius_px(instances) == pytest.approx(20, abs=0.5)
    assert gland_radius_px(np.zeros((120, 240), np.int32)) == 10


def test_at_random_every_gland_has_the_same_chance_and_stroma_comes_last():
    places = [place(0.9, class_id=index % 3, x=100 * index, image="ab"[index % 2]) for index in range(12)]
    chosen = choose_at_random(places, 100, seed=3)
    assert sorted(p.left for p in chosen) == [p.left for p in places]
    assert [p.class_id == 0 for p in chosen] == [False] * 8 + [True] * 4
    assert choose_at_random(places, 5, seed=3) == chosen[:5]
    first = [choose_at_random(places, 1, seed=seed)[0].left for seed in range(400)]
    assert {left: 25 < first.count(left) < 80 for left in first} == {p.left: True for p in places if p.class_id}
