import numpy as np
import pytest
from gland_space.analysis import (
    Choice,
    analyse,
    chosen_prediction,
    default_choice,
    export_options,
    kept_glands,
    reviewed_mask,
)
from gland_space.pictures import read_picture
from space_tools import discs

from hf_gland.export.table import gland_rows
from hf_gland.imaging.appearance import learn_appearance
from hf_gland.imaging.pictures import Picture
from hf_gland.inference import PixelSizeError, PostProcessing


def analysed(demo, pixels, mpp=None, **picture):
    loaded = Picture(pixels, "a.png", pixels.shape[:2], **picture)
    return analyse(demo.model, loaded, mpp, demo.limits)


@pytest.fixture
def smallest_300(monkeypatch):
    for module in ("hf_gland.options", "gland_space.analysis"):
        monkeypatch.setattr(f"{module}.SMALLEST_GLAND_UM2", 300.0)


def test_the_smallest_area_gives_what_the_segmenter_gives_without_running_it(make_demo):
    demo = make_demo()
    pixels = discs(4)
    pixels[100:108, 100:108] = 10  # a speck of 64 px
    analysis = analysed(demo, pixels, mpp=0.8)
    runs = demo.model.segmenter.model.runs
    for area_px, count in ((0, 5), (64, 5), (65, 4), (5000, 0)):
        chosen = chosen_prediction(analysis, Choice(min_area=area_px * 0.64))
        assert demo.model.segmenter.model.runs == runs
        direct = demo.model.segmenter.predict(pixels, 0.8, post=PostProcessing(min_gland_area_px=area_px))
        runs = demo.model.segmenter.model.runs
        assert len(chosen.glands) == count
        assert np.array_equal(chosen.class_map, direct.class_map)
        assert np.array_equal(chosen.instances > 0, direct.instances > 0)
        assert [g.area_um2 for g in chosen.glands] == [g.area_um2 for g in direct.glands]


@pytest.mark.usefixtures("smallest_300")
def test_glands_that_touch_are_told_apart_as_the_segmenter_does(make_demo):
    demo = make_demo()
    pixels = discs(3)
    pixels[46:54, 40:116] = 122  # strips between them that are gland with a probability of about a half and more
    pixels[70:92, 70:90] = 122
    pixels[74:92, 70:90] = 10  # too small to be a gland of its own: 360 px of 0.8 µm are 230 µm²
    analysis = analysed(demo, pixels, mpp=0.8)
    chosen, direct = chosen_prediction(analysis, default_choice(analysis)), demo.model.segmenter.predict(pixels, 0.8)
    joined = demo.model.segmenter.predict(pixels, 0.8, post=PostProcessing(split_touching=False))
    assert (len(joined.glands), len(direct.glands)) == (1, 3)
    assert np.array_equal(chosen.instances, direct.instances)


def test_a_gland_keeps_its_id_whatever_is_filtered_and_what_is_taken_away_is_numbered_without_gaps(make_demo):
    pixels = discs(3)
    pixels[2:9, 2:9] = 10
    analysis = analysed(make_demo(), pixels, mpp=0.8)
    all_ids = [gland.id for gland in kept_glands(analysis, Choice())]
    large = [gland.id for gland in kept_glands(analysis, Choice(min_area=100))]
    assert all_ids == [1, 2, 3, 4]
    assert large == [2, 3, 4]
    chosen = chosen_prediction(analysis, Choice(min_area=100))
    assert [gland.id for gland in chosen.glands] == [1, 2, 3]
    assert np.array_equal(chosen.instances, np.maximum(analysis.prediction.instances - 1, 0))


def test_sizes_are_those_of_the_file_even_where_it_was_reduced(make_demo, picture_file):
    demo = make_demo(max_side_px=130)
    picture = read_picture(picture_file(discs(2)), demo.limits)
    assert picture.reduction == 2
    analysis = analyse(demo.model, picture, 0.25, demo.limits)
    expected = np.pi * 20**2
    for gland in analysis.prediction.glands:
        assert gland.area_px == pytest.approx(expected, rel=0.08)
        assert gland.area_um2 == pytest.approx(expected * 0.25**2, rel=0.08)
    rows = gland_rows(chosen_prediction(analysis, Choice()), export_options(analysis, Choice()))
    assert [row["centroid_x_px"] for row in rows] == pytest.approx([26.5, 78.5], abs=1)
    assert [row["centroid_y_px"] for row in rows] == pytest.approx([50.5, 50.5], abs=1)
    assert analysis.prediction.mpp == 0.25


@pytest.mark.parametrize("mpp", [-1, 0, 0.001, 1000, float("nan"), float("inf")])
def test_an_absurd_pixel_size_is_refused_in_words(make_demo, mpp):
    with pytest.raises(PixelSizeError, match="not a plausible pixel size"):
        analysed(make_demo(), discs(1), mpp=mpp)


def test_a_pixel_size_that_would_blow_the_picture_up_is_refused_before_any_work(make_demo):
    demo = make_demo(max_working_px=10**6)
    with pytest.raises(PixelSizeError, match="260×200 px of 10 µm are more than 1 million pixels"):
        analysed(demo, discs(1), mpp=10)
    assert demo.model.segmenter.model.runs == 0


def test_the_limit_on_work_counts_pixels_at_the_models_own_size(make_demo):
    twice = 400 * 520  # 200×260 px of 1 µm, at the model's 0.5 µm
    assert len(analysed(make_demo(mpp=0.5, max_working_px=twice), discs(1), mpp=1.0).prediction.glands) == 1
    with pytest.raises(PixelSizeError, match="260×200 px of 1 µm are more than"):
        analysed(make_demo(mpp=0.5, max_working_px=twice - 1), discs(1), mpp=1.0)


def test_what_the_model_is_hardly_sure_of_is_left_out_and_said(make_demo):
    pixels = np.minimum(discs(2), np.roll(discs(1, darkness=0.6), 120, axis=1))
    analysis = analysed(make_demo(), pixels, mpp=0.8)
    assert len(analysis.prediction.glands) == 2
    assert analysis.notes == ("Left out: 1 of which the model is hardly sure that they are glands.",)


def test_without_a_pixel_size_the_notes_say_what_was_assumed(make_demo):
    assert "0.8 µm per pixel was assumed" in analysed(make_demo(), discs(1)).notes[0]
    assert analysed(make_demo(mpp=None), discs(1)).notes[0] == "No pixel size given: sizes are in pixels."


def test_without_a_pixel_size_the_notes_tell_of_the_files_pixels_where_it_was_reduced(make_demo, picture_file):
    demo = make_demo(max_side_px=130)
    analysis = analyse(demo.model, read_picture(picture_file(discs(2)), demo.limits), None, demo.limits)
    assert analysis.assumed_mpp == 0.4
    assert ("0.4 µm per pixel was assumed, as the reduced picture was taken to have 0.8, as in the model's training" in
            analysis.notes[1])


def test_only_the_largest_regions_are_kept_and_the_user_is_told(make_demo):
    analysis = analysed(make_demo(max_glands=3), discs(5), mpp=0.8)
    assert len(analysis.prediction.glands) == 3
    assert analysis.notes == ("Only the 3 largest of 5 glands are kept.",)


@pytest.mark.usefixtures("smallest_300")
def test_the_first_choice_drops_what_the_segmenter_drops_by_default(make_demo):
    assert default_choice(analysed(make_demo(), discs(1), mpp=0.8)).min_area == 300
    assert default_choice(analysed(make_demo(mpp=0.5), discs(1))).min_area == 1200
    assert default_choice(analysed(make_demo(mpp=None), discs(1))).min_area == 0


@pytest.mark.usefixtures("smallest_300")
def test_without_a_pixel_size_the_first_choice_goes_by_the_one_that_was_assumed(make_demo, picture_file):
    demo = make_demo(max_side_px=130)
    demo.model.segmenter.missing_mpp = 1.0  # of training's images; the model itself sees 0.8
    reduced = read_picture(picture_file(discs(2)), demo.limits)
    assert default_choice(analyse(demo.model, reduced, None, demo.limits)).min_area == 4 * 300
    assert default_choice(analysed(demo, discs(2))).min_area == 300


@pytest.mark.usefixtures("smallest_300")
def test_the_bound_on_areas_rounds_as_the_segmenter_does(make_demo):
    demo, pixels = make_demo(mpp=0.5), discs(1)
    pixels[120:146, 100:130] = 10  # 780 px of 0.62 µm are 299.8 µm², and 300 µm² are 780 px
    analysis = analysed(demo, pixels, mpp=0.62)
    assert len(demo.model.segmenter.predict(pixels, 0.62).glands) == 2
    assert len(kept_glands(analysis, default_choice(analysis))) == 2


def test_rejected_glands_are_left_out_and_the_review_becomes_labels(make_demo):
    analysis = analysed(make_demo(), discs(3), mpp=0.8)
    instances = analysis.prediction.instances
    choice = Choice.of({"uncertain_below": 0.8, "min_area": 100, "accepted": [1], "rejected": [2]})
    assert [gland.id for gland in kept_glands(analysis, choice)] == [1, 3]
    expected = np.select([instances == 1, instances == 2], [1, 0], 255)
    assert np.array_equal(reviewed_mask(analysis, choice, (200, 260)), expected)
    assert np.array_equal(reviewed_mask(analysis, choice, (100, 130)), expected[1::2, 1::2])
    assert np.array_equal(reviewed_mask(analysis, Choice(), (200, 260)), np.where(instances > 0, 1, 255))


def test_what_is_below_the_smallest_area_becomes_no_label_however_it_was_reviewed(make_demo):
    pixels = discs(3)
    pixels[100:110, 100:110] = pixels[130:140, 100:110] = 10  # specks of 100 px, which are 64 µm²
    analysis = analysed(make_demo(), pixels, mpp=0.8)
    instances = analysis.prediction.instances
    large, first, second = instances[50, 26], instances[105, 105], instances[135, 105]
    review = {"accepted": frozenset({large, first}), "rejected": frozenset({second})}
    for min_area, expected in ((64, [1, 1, 0]), (65, [1, 255, 255])):
        mask = reviewed_mask(analysis, Choice(min_area=min_area, **review), (200, 260))
        assert [mask[50, 26], mask[105, 105], mask[135, 105]] == expected
        assert mask[50, 78] == 255
    assert reviewed_mask(analysis, Choice(min_area=65), (200, 260))[105, 105] == 255


@pytest.mark.parametrize("value", [{}, {"uncertain_below": "x", "min_area": 1}, {"uncertain_below": 0.5, "min_area": None},
                                   {"uncertain_below": 0.5, "min_area": 1, "accepted": ["a"]}])
def test_what_the_browser_sends_amiss_counts_as_not_said(value):
    assert Choice.of(value) == Choice()


def test_little_is_kept_in_memory(make_demo):
    analysis = analysed(make_demo(), discs(1))
    assert analysis.prediction.probabilities.size == 0
    assert analysis.nbytes == 200 * 260 * (3 + 1 + 4 + 4)


def test_a_picture_unlike_the_training_images_is_told_and_seen_with_their_stain(make_demo, monkeypatch):
    demo, looks = make_demo(), []
    segmenter = demo.model.segmenter
    look = segmenter.look
    monkeypatch.setattr(segmenter, "look", lambda *words: looks.append(look(*words)) or looks[-1])
    rng = np.random.default_rng(0)
    seen = [np.clip(discs(4)[..., :] * (0.9, 0.7, 0.8) + rng.normal(0, 6, (200, 260, 3)) + rng.normal(0, 4, 3), 0, 255)
            .astype(np.uint8) for _ in range(20)]
    segmenter.appearance = learn_appearance(seen)
    assert not any("unlike" in note for note in analysed(demo, seen[3], mpp=0.8).notes)
    assert len(looks) == 1  # what a look costs is paid once
    foreign = seen[3][..., ::-1] // 2
    (note,) = analysed(demo, foreign, mpp=0.8).notes
    assert note.startswith("Its stain, sharpness or magnification is unlike that of the training images (")
    assert "the network saw it with their stain" in note
