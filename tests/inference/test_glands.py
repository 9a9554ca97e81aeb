import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.measure import perimeter_crofton, regionprops

from hf_gland.inference.glands import crofton_perimeter, glands_from_probabilities
from hf_gland.metrics.temperature import apply_temperature
from hf_gland.options import PostProcessing

NAMES = {0: "background", 1: "gland"}
MASKS = hnp.arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14)))


def from_mask(mask, sure=0.9):
    gland = np.where(mask, sure, 1 - sure).astype(np.float32)
    return np.stack([1 - gland, gland])


def disc(radius, size, centre):
    y, x = np.mgrid[:size, :size] + 0.5
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def test_a_disc_is_measured_in_pixels_and_micrometres():
    (gland,) = glands_from_probabilities(from_mask(disc(30, 100, (40.5, 55.5))), NAMES, mpp=0.5).glands
    assert gland.id == 1
    assert (gland.class_id, gland.class_name) == (1, "gland")
    assert gland.area_px == pytest.approx(np.pi * 30**2, rel=0.01)
    assert gland.area_um2 == pytest.approx(np.pi * 15**2, rel=0.01)
    assert gland.perimeter_px == pytest.approx(2 * np.pi * 30, rel=0.02)
    assert gland.perimeter_um == pytest.approx(2 * np.pi * 15, rel=0.02)
    assert (gland.centroid_x_px, gland.centroid_y_px) == pytest.approx((40.5, 55.5))
    assert gland.eccentricity < 0.1
    assert (gland.mean_confidence, gland.low_confidence_share) == (pytest.approx(0.9), 0)
    assert not gland.touches_border


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_regions_that_the_network_is_hardly_sure_of_are_no_glands_at_any_temperature(temperature):
    """Three regions of four pixels and one of two classes; of the second the mean is 0.84, of the third 0.86."""
    gland = np.full((5, 16), 0.05, np.float32)
    gland[1:3, 1:3], gland[1:3, 5:7], gland[1:3, 9:11], gland[1:3, 13:15] = 0.99, [[0.99, 0.99], [0.69, 0.69]], 0.86, 0.6
    probabilities = np.stack([1 - gland, gland])
    if temperature != 1:
        probabilities = apply_temperature(probabilities, temperature)
    found = glands_from_probabilities(probabilities, NAMES, temperature=temperature)
    assert [round(g.centroid_x_px) for g in found.glands] == [2, 10]
    assert found.left_out == 2
    assert np.array_equal(found.class_map, found.instances > 0)
    assert found.instances.max() == 2
    everything = glands_from_probabilities(probabilities, NAMES, PostProcessing(min_gland_confidence=0),
                                           temperature=temperature)
    assert (len(everything.glands), everything.left_out) == (4, 0)


def test_specks_of_another_class_leave_a_gland_whole():
    """All of it is surely gland; of which kind, the network is less sure in nine places inside and in a cap at its side."""
    gland, size = disc(60, 150, (75, 75)), 150
    probabilities = np.where(gland, 0.01, 0.98)[None].repeat(3, 0)
    probabilities[1] = np.where(gland, 0.9, 0.01)
    probabilities[2] = np.where(gland, 0.09, 0.01)
    doubt = np.zeros((size, size), bool)
    for y in (50, 75, 100):
        for x in (50, 75, 100):
            doubt[y:y + 9, x:x + 9] = True
    doubt[:, 128:] = True
    probabilities[1:, doubt & gland] = np.array([[0.4], [0.59]])
    names = {0: "background", 1: "benign", 2: "malignant"}
    (found,) = glands_from_probabilities(probabilities.astype(np.float32), names, mpp=1.0).glands
    both = np.stack([probabilities[0], probabilities[1:].sum(axis=0)]).astype(np.float32)
    (whole,) = glands_from_probabilities(both, NAMES, mpp=1.0).glands
    assert (found.class_name, found.area_px, found.perimeter_px) == ("benign", whole.area_px, whole.perimeter_px)
    assert whole.area_px == gland.sum()


def test_doubt_between_classes_is_no_doubt_about_the_gland():
    probabilities = np.zeros((3, 4, 4), np.float32)
    probabilities[:, :, :2] = np.array([0.1, 0.5, 0.4])[:, None, None]
    probabilities[:, :, 2:] = np.array([0.9, 0.05, 0.05])[:, None, None]
    assert len(glands_from_probabilities(probabilities, {0: "background", 1: "benign", 2: "malignant"}).glands) == 1


@settings(deadline=None, max_examples=60)
@given(mask=MASKS, seed=st.integers(0, 99), least=st.floats(0.5, 1))
def test_what_is_left_out_is_what_brute_force_leaves_out(mask, seed, least):
    sure = np.random.default_rng(seed).uniform(0.6, 1, mask.shape)
    kept = glands_from_probabilities(from_mask(mask, sure), NAMES,
                                     PostProcessing(min_gland_confidence=least, split_touching=False))
    regions, count = ndimage.label(mask, np.ones((3, 3)))
    expected = [r for r in range(1, count + 1) if from_mask(mask, sure)[1][regions == r].astype(float).mean() >= least]
    assert np.array_equal(kept.instances > 0, np.isin(regions, expected))
    assert (len(kept.glands), kept.left_out) == (len(expected), count - len(expected))


def test_micrometres_are_left_out_without_a_pixel_size():
    prediction = glands_from_probabilities(from_mask(np.ones((9, 9), bool)), NAMES)
    assert prediction.mpp is None
    (gland,) = prediction.glands
    assert gland.area_um2 is None
    assert gland.perimeter_um is None
    assert gland.touches_border


@settings(deadline=None, max_examples=60)
@given(mask=MASKS, min_area=st.integers(0, 12), max_hole=st.integers(0, 12))
def test_map_instances_and_table_agree(mask, min_area, max_hole):
    result = glands_from_probabilities(from_mask(mask), NAMES,
                                       PostProcessing(min_gland_area_px=min_area, max_hole_area_px=max_hole))
    assert np.array_equal(result.class_map > 0, result.instances > 0)
    assert [g.id for g in result.glands] == list(range(1, result.instances.max() + 1))
    for gland in result.glands:
        region = result.instances == gland.id
        assert gland.area_px == region.sum() >= min_area
        assert ndimage.label(region, np.ones((3, 3)))[1] == 1
        y, x = np.nonzero(region)
        assert (gland.centroid_x_px, gland.centroid_y_px) == pytest.approx((x.mean() + 0.5, y.mean() + 0.5))
        assert gland.low_confidence_share == pytest.approx((result.probabilities[1][region] < 0.75).mean())
        assert gland.touches_border == bool(
            region[0].any() or region[-1].any() or region[:, 0].any() or region[:, -1].any())


def test_glands_are_numbered_as_one_reads():
    centres = [(40, 30), (20, 28), (60, 32), (30, 97), (70, 94), (50, 150)]  # (x, y); the second lies a little higher
    mask = np.zeros((180, 90), bool)
    for x, y in centres:
        mask |= np.hypot(np.arange(90)[None] - x, np.arange(180)[:, None] - y) < 6
    result = glands_from_probabilities(from_mask(mask), NAMES)
    assert [round(gland.centroid_x_px - 0.5) for gland in result.glands] == [20, 40, 60, 30, 70, 50]
    assert [result.instances[y, x] for x, y in centres] == [2, 1, 3, 4, 5, 6]


def test_a_filled_hole_lowers_the_glands_confidence():
    mask = disc(10, 30, (15, 15))
    mask[15, 15] = False
    (gland,) = glands_from_probabilities(from_mask(mask), NAMES, PostProcessing(max_hole_area_px=1)).glands
    assert gland.low_confidence_share == pytest.approx(1 / gland.area_px)
    assert 0.85 < gland.mean_confidence < 0.9


def test_the_threshold_moves_the_outline_and_0_5_is_the_likeliest_class():
    gland = np.linspace(0.01, 0.99, 99, dtype=np.float32).reshape(1, 99)
    probabilities = np.stack([1 - gland, gland])
    areas = [glands_from_probabilities(probabilities, NAMES, PostProcessing(gland_threshold=t)).glands[0].area_px
             for t in (0.195, 0.495, 0.795)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] == 80
    default = glands_from_probabilities(probabilities, NAMES, PostProcessing(min_gland_confidence=0))
    assert default.glands[0].area_px == areas[1] - 1 == 49  # a tie at 0.5 is background


def test_of_several_gland_classes_the_likeliest_is_taken_above_the_threshold():
    probabilities = np.array([0.4, 0.35, 0.25], np.float32).reshape(3, 1, 1)
    names = {0: "background", 1: "benign", 2: "malignant"}
    assert not glands_from_probabilities(probabilities, names).glands
    (gland,) = glands_from_probabilities(probabilities, names, PostProcessing(gland_threshold=0.5)).glands
    assert gland.class_name == "benign"
    assert gland.mean_confidence == pytest.approx(0.35)


def test_touching_glands_of_two_classes_stay_apart():
    probabilities = np.zeros((3, 4, 6), np.float32)
    probabilities[1, :, :3] = probabilities[2, :, 3:] = 1
    result = glands_from_probabilities(probabilities, {0: "background", 1: "benign", 2: "malignant"})
    assert [(g.class_name, g.area_px) for g in result.glands] == [("benign", 12), ("malignant", 12)]


def test_confidence_is_the_highest_probability_whatever_the_clean_up():
    probabilities = from_mask(disc(3, 9, (4, 4)), sure=0.8)
    result = glands_from_probabilities(probabilities, NAMES, PostProcessing(min_gland_area_px=1000))
    assert not result.glands
    assert not result.class_map.any()
    np.testing.assert_allclose(result.confidence, 0.8, rtol=1e-6)


@pytest.mark.parametrize("shape", [(4, 4, 4), (1, 4, 4), (2, 4)])
def test_misshapen_input_is_refused(shape):
    with pytest.raises(ValueError, match="probabilities must be"):
        glands_from_probabilities(np.zeros(shape, np.float32), NAMES)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.1, 3.0])
def test_what_is_no_probability_is_refused_rather_than_no_gland(value):
    probabilities = from_mask(disc(5, 12, (6, 6)))
    probabilities[1, 3, 4] = value
    with pytest.raises(ValueError, match="numbers between 0 and 1"):
        glands_from_probabilities(probabilities, NAMES)


@pytest.mark.parametrize("seed", range(5))
def test_shapes_are_those_of_skimage(seed):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.normal(size=(80, 120)), 3)
    class_map = (smooth > 0.05).astype(np.uint8)
    class_map[0, 0] = class_map[2, 5:12] = 1  # a pixel, a line
    prediction = glands_from_probabilities(from_mask(class_map > 0), NAMES)
    regions = regionprops(prediction.instances)
    assert len(regions) == len(prediction.glands) > 3
    for gland, region in zip(prediction.glands, regions, strict=True):
        assert gland.id == region.label
        assert (gland.centroid_y_px - 0.5, gland.centroid_x_px - 0.5) == pytest.approx(region.centroid)
        assert gland.eccentricity == pytest.approx(region.eccentricity, abs=1e-5)


@given(MASKS)
@settings(max_examples=60)
def test_the_perimeter_is_that_of_skimage_to_the_last_bit(mask):
    assert crofton_perimeter(mask) == perimeter_crofton(mask)


def test_two_glands_joined_in_the_mask_are_told_apart_by_the_border_between_them():
    gland = np.full((30, 60), 0.05, np.float32)
    gland[5:25, 5:55] = 0.97  # one region, equally sure throughout
    border = np.full((30, 60), 0.1, np.float32)
    border[:, 24:27] = 0.9
    maps = np.stack([1 - gland, gland, border])
    joined = glands_from_probabilities(maps[:2], NAMES, mpp=1.5)
    parted = glands_from_probabilities(maps, NAMES, mpp=1.5)
    assert (len(joined.glands), len(parted.glands)) == (1, 2)
    assert sum(g.area_px for g in parted.glands) == 20 * 50  # each pixel of the region stays a gland's
    assert sorted(g.area_px for g in parted.glands)[0] in range(20 * 19, 20 * 23)
    assert len(glands_from_probabilities(maps, NAMES, PostProcessing(split_touching=False), mpp=1.5).glands) == 1
    np.testing.assert_array_equal(parted.class_map, joined.class_map)
    assert parted.probabilities.shape == (2, 30, 60)
    warm = apply_temperature(maps[:2], 2.5)
    calibrated = glands_from_probabilities(np.concatenate([warm, maps[2:]]), NAMES, mpp=1.5, temperature=2.5)
    np.testing.assert_array_equal(calibrated.instances, parted.instances)
