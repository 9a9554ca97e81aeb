import json
import shutil
import threading
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSemanticSegmentation, SegformerConfig, SegformerModel

from hf_gland.errors import HfGlandError
from hf_gland.imaging.appearance import learn_appearance
from hf_gland.inference import (
    GlandSegmenter,
    ImageError,
    ModelError,
    PixelSizeError,
    PixelSizeWarning,
    PostProcessing,
    Tiling,
)

SMALL_TILES = Tiling(tile_px=128, stride_px=96, batch_size=2)
EXACT = Tiling(precision="float32")


def picture(hw=(92, 120), box=(20, 60, 30, 100)):
    """White, with one dark rectangle of rows box[0]:box[1] and columns box[2]:box[3]."""
    rgb = np.full((*hw, 3), 240, np.uint8)
    rgb[box[0]:box[1], box[2]:box[3]] = 20
    return rgb


def test_a_dark_rectangle_is_found_where_it_is(dark_is_gland):
    result = dark_is_gland().predict(picture(), post=PostProcessing(min_gland_area_px=0))
    assert result.class_map.dtype == np.uint8
    assert result.probabilities.dtype == result.confidence.dtype == np.float32
    assert result.instances.dtype == np.int32
    assert result.class_map.shape == result.confidence.shape == result.instances.shape == (92, 120)
    assert result.probabilities.shape == (2, 92, 120)
    np.testing.assert_allclose(result.probabilities.sum(0), 1, atol=1e-5)
    (gland,) = result.glands
    assert gland.area_px == pytest.approx(40 * 70, rel=0.03)
    assert (gland.centroid_x_px, gland.centroid_y_px) == pytest.approx((65, 40), abs=0.5)


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0, 1.3])
def test_the_result_has_the_pictures_own_size_and_micrometres_at_any_magnification(dark_is_gland, mpp):
    k = 0.5 / mpp
    box = [round(v * k) for v in (40, 120, 60, 200)]
    seen = []
    segmenter = dark_is_gland(mpp=0.5)
    segmenter.model.register_forward_hook(lambda module, args, kwargs, out: seen.append(
        tuple(kwargs["pixel_values"].shape[2:])), with_kwargs=True)
    result = segmenter.predict(picture((round(180 * k), round(240 * k)), box), mpp)
    assert result.class_map.shape == (round(180 * k), round(240 * k))
    assert result.mpp == mpp
    assert seen[0] == (192, 256)  # what the network saw: 180×240 px, continued to whole strides of 32 px
    (gland,) = result.glands
    assert gland.area_um2 == pytest.approx(80 * 140 * 0.25, rel=0.05)


def test_the_pixel_size_that_a_file_states_is_used_where_none_is_given(dark_is_gland, tmp_path):
    for name, dpi in (("a.png", (50_800, 50_800)), ("b.png", (25_400, 25_400)), ("c.png", (72, 72))):
        Image.fromarray(picture()).save(tmp_path / name, dpi=dpi)
    segmenter = dark_is_gland(mpp=0.5)
    with pytest.warns(PixelSizeWarning, match=r"c\.png: no pixel size given"):
        found = list(segmenter.predict_many(sorted(tmp_path.glob("*.png"))))
    assert [result.prediction.mpp for result in found] == [0.5, 1.0, None]
    alone = segmenter.predict(tmp_path / "b.png")
    assert alone.mpp == 1.0
    assert np.array_equal(alone.instances, found[1].prediction.instances)
    assert segmenter.predict(tmp_path / "b.png", 0.25).mpp == 0.25


def test_a_missing_pixel_size_is_assumed_with_a_warning_and_gives_no_micrometres(dark_is_gland):
    segmenter = dark_is_gland(mpp=0.5)
    with pytest.warns(PixelSizeWarning, match=r"scan\.png: no pixel size given; assuming 0\.5"):
        result = segmenter.predict(picture(), name="scan.png")
    assert result.mpp is None
    assert result.glands[0].area_um2 is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dark_is_gland(mpp=None).predict(picture())  # nothing to assume
        segmenter.predict(picture(), 0.5)


def test_what_training_assumed_of_images_without_a_pixel_size_is_assumed_again(dark_is_gland):
    """Trained at 1 µm per pixel on images that were taken for 0.5: shown such an image, it must see it as it did then."""
    segmenter, rgb = dark_is_gland(mpp=1.0, missing_mpp=0.5), picture()
    with pytest.warns(PixelSizeWarning, match=r"assuming 0\.5 µm per pixel, as the model took such images for in training"):
        assumed = segmenter.predict(rgb)
    assert np.array_equal(assumed.probabilities, segmenter.predict(rgb, 0.5).probabilities)
    assert not np.array_equal(assumed.probabilities, segmenter.predict(rgb, 1.0).probabilities)
    assert assumed.mpp is None


def test_small_glands_and_holes_go_by_area_in_either_unit(dark_is_gland):
    segmenter = dark_is_gland(mpp=0.5)
    rgb = picture()
    rgb[36:44, 60:68] = 240  # a hole of about 64 px = 16 µm²
    rgb[70:80, 8:18] = 20  # a speck of about 100 px = 25 µm²

    def count(**options):
        result = segmenter.predict(rgb, 0.5, post=PostProcessing(**options))
        return len(result.glands), int(result.class_map[40, 64])

    assert count() == (1, 1)  # both are smaller than any gland
    assert count(min_gland_area_um2=5, max_hole_area_um2=5) == (2, 0)
    assert count(min_gland_area_um2=50, max_hole_area_um2=5) == (1, 0)
    assert count(min_gland_area_px=20, max_hole_area_px=200) == (2, 1)


def test_areas_in_micrometres_need_a_pixel_size(dark_is_gland):
    with pytest.raises(PixelSizeError, match="needs the image's µm per pixel"):
        dark_is_gland().predict(picture(), post=PostProcessing(min_gland_area_um2=10))
    with pytest.raises(PixelSizeError, match="not a plausible pixel size"):
        dark_is_gland().predict(picture(), 250)


def test_temperature_softens_the_confidence_and_nothing_else(dark_is_gland):
    rgb = np.linspace(60, 200, 60 * 80 * 3).reshape(60, 80, 3).astype(np.uint8)
    plain, soft = (dark_is_gland(temperature=t).predict(rgb, tiling=EXACT) for t in (1.0, 2.0))
    expected = np.sqrt(plain.probabilities) / np.sqrt(plain.probabilities).sum(0)
    np.testing.assert_allclose(soft.probabilities, expected, atol=1e-5)
    assert np.array_equal(plain.class_map, soft.class_map)
    assert soft.confidence.mean() < plain.confidence.mean()


@pytest.mark.parametrize(("device", "reason"), [
    ("gpu", "Expected one of cpu, cuda"), ("cuda:999", ""), ("meta", "cannot be called on meta"), ("mps", ""), ("hpu", "")])
def test_a_device_that_cannot_be_used_is_told_with_the_reason_and_the_remedy(model_folder, device, reason):
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("can be used here")
    with pytest.raises(HfGlandError) as caught:
        GlandSegmenter.from_pretrained(model_folder, device=device)
    said = str(caught.value)
    assert said.startswith(f"device '{device}' cannot be used here: ")
    assert reason in said
    assert said.endswith("; leave --device out, or give cpu or cuda:0")
    assert "\n" not in said


def test_views_are_averaged(model_folder):
    segmenter = GlandSegmenter.from_pretrained(model_folder, device="cpu")
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)

    def probabilities(rgb, views):
        return segmenter.probabilities(np.ascontiguousarray(rgb), tiling=Tiling(64, views=views, precision="float32"))

    one, two, four = (probabilities(rgb, views) for views in (1, 2, 4))
    np.testing.assert_allclose(four, probabilities(rgb[::-1, ::-1], 4)[:, ::-1, ::-1], atol=1e-5)  # a half turn
    assert min(np.abs(one - two).max(), np.abs(two - four).max()) > 1e-4
    np.testing.assert_allclose(four.sum(0), 1, atol=1e-5)


def test_the_whole_path_equals_transformers_by_hand(model_folder):
    rgb = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    model = AutoModelForSemanticSegmentation.from_pretrained(model_folder).eval()
    normal = (rgb / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.2, 0.1]
    with torch.no_grad():
        logits = model(pixel_values=torch.tensor(normal, dtype=torch.float32).permute(2, 0, 1)[None]).logits
    by_hand = torch.nn.functional.interpolate(logits, (64, 96), mode="bilinear").softmax(1)[0].numpy()
    result = GlandSegmenter.from_pretrained(model_folder, device="cpu").predict(rgb, 0.5, EXACT)
    np.testing.assert_allclose(result.probabilities, by_hand, atol=1e-5)
    assert result.id2label == {0: "background", 1: "gland"}


def test_bfloat16_is_close_to_float32(model_folder):
    rgb = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    segmenter = GlandSegmenter.from_pretrained(model_folder, device="cpu")
    exact, half = (segmenter.probabilities(rgb, tiling=Tiling(precision=p)) for p in ("float32", "bfloat16"))
    assert half.dtype == np.float32
    assert 0 < np.abs(exact - half).max() < 0.05


@pytest.mark.parametrize("hw", [(1, 1), (1, 3000), (3000, 1), (33, 7)])
def test_extreme_shapes_come_back_at_their_size(model_folder, hw):
    segmenter = GlandSegmenter.from_pretrained(model_folder, device="cpu")
    result = segmenter.predict(np.full((*hw, 3), 200, np.uint8), 0.5)
    assert result.class_map.shape == hw
    assert np.isfinite(result.probabilities).all()


@pytest.mark.parametrize("views", [1, 4])
def test_progress_rises_to_one(dark_is_gland, views):
    seen = []
    dark_is_gland().predict(picture((200, 150)), tiling=Tiling(tile_px=64, batch_size=2, views=views),
                            progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) > 3
    assert seen[-1] == 1.0


def test_a_bad_file_does_not_stop_the_rest(dark_is_gland, tmp_path):
    paths = [tmp_path / name for name in ("a.png", "broken.png", "c.png")]
    for path in (paths[0], paths[2]):
        Image.fromarray(picture()).save(path)
    paths[1].write_text("no image")
    results = dark_is_gland(mpp=0.5).predict_many(paths, 0.5)
    first, second, third = (next(results) for _ in range(3))
    assert first.path == paths[0]
    assert first.error is None
    assert np.array_equal(first.prediction.rgb, picture())
    assert first.prediction.name == "a.png"
    assert len(first.prediction.glands) == len(third.prediction.glands) == 1
    assert second.prediction is None
    assert "broken.png: not an image" in second.error


def test_a_size_in_micrometres_without_a_pixel_size_is_the_error_of_every_file(model_folder, tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        Image.fromarray(picture()).save(path)
    segmenter = GlandSegmenter.from_pretrained(edited(model_folder, tmp_path / "copy", mpp=None))
    results = list(segmenter.predict_many(paths, post=PostProcessing(min_gland_area_um2=50.0)))
    assert [r.path for r in results] == paths
    assert all(r.prediction is None and "min_gland_area_um2 needs the image's µm per pixel" in r.error for r in results)


@pytest.mark.parametrize(("cores", "hw", "ahead"), [
    (1, (60, 80), 6), (2, (60, 80), 5), (1, (60, 200), 2), (4, (60, 200), 2)])
def test_files_are_read_three_batches_ahead_large_ones_alone_and_none_once_the_results_are_left(
        dark_is_gland, tmp_path, set_threads, cores, hw, ahead):
    set_threads(cores)
    threads = threading.active_count()
    asked: list[int] = []

    def files():
        for i in range(40):
            Image.fromarray(picture(hw)).save(tmp_path / f"{i}.png")
            asked.append(i)
            yield tmp_path / f"{i}.png"

    results = dark_is_gland(mpp=0.5).predict_many(files(), 0.5, SMALL_TILES)
    next(results)
    assert len(asked) == ahead
    assert threading.active_count() > threads
    results.close()
    assert len(asked) == ahead
    assert threading.active_count() == threads


def bridged(hw=(92, 120)):
    """Two dark squares, joined by a strip that is gland with a probability of 0.7."""
    rgb = picture(hw, (15, 77, 4, 50))
    rgb[15:77, 70:116] = 20
    rgb[42:50, 50:70] = 117
    return rgb


def test_glands_that_touch_are_told_apart_whatever_the_temperature_unless_told_not_to(dark_is_gland):
    found = [dark_is_gland(mpp=0.5, temperature=t).predict(bridged(), 0.5) for t in (1.0, 2.0)]
    assert not np.allclose(found[0].confidence, found[1].confidence)
    assert len(found[0].glands) == 2
    assert np.array_equal(found[0].instances, found[1].instances)
    joined = dark_is_gland(mpp=0.5).predict(bridged(), 0.5, post=PostProcessing(split_touching=False))
    assert len(joined.glands) == 1
    assert np.array_equal(joined.class_map, found[0].class_map)


def test_cores_are_the_same_pixels_at_any_temperature(dark_is_gland):
    rgb = bridged()
    rgb[rgb == 20] = 96  # gland with a probability of 0.92, which a temperature of 2 makes 0.78
    small = PostProcessing(min_gland_area_um2=200)
    found = [dark_is_gland(mpp=0.5, temperature=t).predict(rgb, 0.5, EXACT, small) for t in (1.0, 2.0)]
    assert found[1].confidence[40, 30] < 0.8
    assert [len(prediction.glands) for prediction in found] == [2, 2]
    assert np.array_equal(found[0].instances, found[1].instances)


def test_a_smaller_limit_on_glands_makes_no_smaller_cores(dark_is_gland):
    rgb = bridged()
    rgb[20:60, 72:108] = 117
    rgb[30:50, 78:98] = 20  # 400 px of 0.25 µm²: more than its share of the region, and less than a gland
    assert len(dark_is_gland(mpp=0.5).predict(rgb, 0.5, post=PostProcessing(min_gland_area_px=20)).glands) == 1


def test_each_picture_of_a_folder_is_computed_in_the_same_way_and_one_alone_with_all_cores(
        dark_is_gland, tmp_path, set_threads):
    set_threads(2)
    segmenter, cores = dark_is_gland(mpp=0.5), []
    network = segmenter.model.forward

    def counted(pixel_values):
        cores.append(torch.get_num_threads())
        return network(pixel_values=pixel_values)

    segmenter.model.forward = counted
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, hw in zip(paths, [(60, 80), (60, 80), (60, 200), (60, 80)], strict=True):
        Image.fromarray(picture(hw)).save(path)
    list(segmenter.predict_many(paths, 0.5, SMALL_TILES))
    assert cores == [1, 1, 2, 1]  # the third is larger than a tile
    list(segmenter.predict_many(paths[:1], 0.5, SMALL_TILES))
    assert cores[4:] == [2]


@pytest.mark.parametrize(("cores", "passes"), [(1, [2, 1, 1, 2, 1, 1]), (2, [1, 1, 1, 1, 2, 1, 1])])
def test_neighbours_of_one_size_go_through_the_network_together_or_side_by_side_with_the_result_they_have_alone(
        dark_is_gland, tmp_path, set_threads, cores, passes):
    set_threads(cores)
    segmenter, seen, steps = dark_is_gland(), [], []
    network = segmenter.model.forward
    segmenter.model.forward = lambda pixel_values: seen.append(len(pixel_values)) or network(pixel_values=pixel_values)
    sizes = [(60, 80), (60, 80), (60, 80), (40, 80), (300, 80), (60, 80)]
    paths = [tmp_path / f"{i}.png" for i in range(len(sizes))]
    for path, hw in zip(paths, sizes, strict=True):
        Image.fromarray(picture(hw)).save(path)
    results = list(segmenter.predict_many(paths, None, SMALL_TILES, progress=steps.append))
    assert seen == passes
    assert steps == sorted(steps)
    assert set(steps) >= {4, 4 + 2 / 3, 5}  # two of the three tiles of the large one are a step
    assert steps[-1] == len(paths)
    assert torch.get_num_threads() == cores
    assert [r.path for r in results] == paths
    for result, hw in zip(results, sizes, strict=True):
        set_threads(cores if max(hw) > SMALL_TILES.tile_px else 1)  # what it was computed with
        alone = segmenter.predict(result.path, tiling=SMALL_TILES)
        assert np.array_equal(result.prediction.probabilities, alone.probabilities)
        assert result.prediction.class_map.shape == result.prediction.rgb.shape[:2]
        assert result.seconds > 0


def test_a_prediction_says_what_it_is_and_becomes_whatever_is_needed(dark_is_gland, tmp_path):
    path = tmp_path / "biopsy.png"
    Image.fromarray(picture()).save(path)
    found = dark_is_gland(mpp=0.5).predict(path, 0.5)
    words = repr(found)
    assert words.startswith("<GlandPrediction of biopsy.png: 120×92 px, 0.5 µm per pixel; glands: 1, on 2")
    assert len(words) < 200
    table = found.to_dataframe()
    assert (table["image"].tolist(), table["class_name"].tolist()) == (["biopsy.png"], ["gland"])
    assert table["area_um2"].tolist() == [found.glands[0].area_um2]
    (feature,) = found.to_geojson()["features"]
    assert feature["properties"]["measurements"]["Area px^2"] == found.glands[0].area_px
    drawn = found.overlay()
    assert drawn.shape == (92, 120, 3)
    assert (drawn != picture()).any()
    assert [p.name for p in found.save(tmp_path / "out" / "biopsy", ["mask", "csv"])] == [
        "biopsy_mask.png", "biopsy_glands.csv"]
    assert "pixel size unknown" in repr(dark_is_gland().predict(picture()))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_gives_no_numbers_is_an_error_and_not_an_image_without_glands(dark_is_gland, tmp_path, value):
    segmenter = dark_is_gland(mpp=0.5)
    network = segmenter.model.forward
    whole = picture((60, 80), (0, 60, 0, 80))

    def damaged(pixel_values):
        logits = network(pixel_values=pixel_values).logits
        logits[pixel_values.mean(dim=(1, 2, 3)) < 0.1] = value
        return type("Output", (), {"logits": logits})

    segmenter.model.forward = damaged
    with pytest.raises(ModelError, match=r"bad\.png: the model gives probabilities that are no numbers"):
        segmenter.predict(whole, 0.5, name="bad.png")
    paths = [tmp_path / name for name in ("a.png", "bad.png", "c.png")]
    for path, rgb in zip(paths, (picture((60, 80)), whole, picture((60, 80))), strict=True):
        Image.fromarray(rgb).save(path)
    results = list(segmenter.predict_many(paths, 0.5))
    assert [result.path for result in results] == paths
    assert [result.error is None for result in results] == [True, False, True]
    assert "bad.png: the model gives" in results[1].error


def test_an_unreadable_picture_raises_when_asked_for_alone(dark_is_gland, tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        dark_is_gland().predict(tmp_path / "none.png")


def test_pixel_size_and_temperature_come_from_the_config(model_folder, tmp_path):
    assert GlandSegmenter.from_pretrained(model_folder).mpp == 0.5
    assert GlandSegmenter.from_pretrained(model_folder).temperature == 1.0
    copy = edited(model_folder, tmp_path / "copy", mpp=None, confidence_temperature=1.7)
    segmenter = GlandSegmenter.from_pretrained(copy)
    assert (segmenter.mpp, segmenter.temperature) == (None, 1.7)
    with pytest.raises(ModelError, match=r"mpp in config\.json must be a positive number"):
        GlandSegmenter.from_pretrained(edited(model_folder, tmp_path / "bad", mpp="0.5"))


def test_the_student_lies_in_a_subfolder(model_folder, tmp_path):
    shutil.copytree(model_folder, tmp_path / "m")
    edited(model_folder, tmp_path / "m" / "student", mpp=0.25)
    assert GlandSegmenter.from_pretrained(tmp_path / "m", subfolder="student").mpp == 0.25
    with pytest.raises(ModelError, match="not a model folder"):
        GlandSegmenter.from_pretrained(tmp_path / "m", subfolder="teacher")


def test_equal_weights_have_equal_checksums_wherever_they_lie(model_folder, tmp_path):
    sums = [GlandSegmenter.from_pretrained(folder).weights_sha256()
            for folder in (model_folder, edited(model_folder, tmp_path / "copy", mpp=None))]
    assert sums[0] == sums[1]
    copy = shutil.copytree(model_folder, tmp_path / "changed")
    weights = load_file(copy / "model.safetensors")
    weights["decode_head.classifier.bias"] += 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert GlandSegmenter.from_pretrained(copy).weights_sha256() != sums[0]


def test_folders_that_are_no_model_are_named(tmp_path, model_folder):
    with pytest.raises(ModelError, match="not a model folder"):
        GlandSegmenter.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        GlandSegmenter.from_pretrained(tmp_path / "nothing")
    with pytest.raises(ModelError, match="a file, not a model folder"):
        GlandSegmenter.from_pretrained(model_folder / "config.json")


def test_a_folder_without_safetensors_is_refused(tmp_path, model_folder):
    copy = shutil.copytree(model_folder, tmp_path / "pickled")
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="cannot be loaded as a segmentation model"):
        GlandSegmenter.from_pretrained(copy)


def test_a_damaged_weights_file_is_refused(tmp_path, model_folder):
    copy = shutil.copytree(model_folder, tmp_path / "damaged")
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded as a segmentation model"):
        GlandSegmenter.from_pretrained(copy)


def test_a_bare_encoder_is_refused_rather_than_given_a_random_head(tmp_path, model_folder):
    config = SegformerConfig.from_pretrained(model_folder)
    SegformerModel(config).save_pretrained(tmp_path / "encoder")
    shutil.copy(model_folder / "preprocessor_config.json", tmp_path / "encoder")
    with pytest.raises(ModelError, match="a pretrained encoder, not a trained segmentation model"):
        GlandSegmenter.from_pretrained(tmp_path / "encoder")
    copy = shutil.copytree(model_folder, tmp_path / "headless")
    weights = {k: v for k, v in load_file(copy / "model.safetensors").items() if "classifier" not in k}
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="2 weights are missing"):
        GlandSegmenter.from_pretrained(copy)


def edited(folder, to, **values):
    """A copy of a model folder with `values` in its config.json."""
    shutil.copytree(folder, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, **values}))
    return to


def test_a_picture_stained_otherwise_than_the_training_images_is_told(dark_is_gland, tmp_path):
    rng = np.random.default_rng(0)
    drawn = [rng.normal((220, 150, 190), (12, 30, 14), (48, 64, 3)) + rng.normal(0, 5, 3) for _ in range(20)]
    pictures = [pixels.clip(0, 255).astype(np.uint8) for pixels in drawn]
    segmenter = dark_is_gland(mpp=0.5)
    other = pictures[3][..., ::-1] // 2
    assert segmenter.look(other, 0.5).curves is None  # a model of before knows nothing of it
    segmenter.appearance = learn_appearance(pictures)
    assert segmenter.look(pictures[3], 0.5).curves is None
    for name, rgb in (("usual.png", pictures[3]), ("other.png", other)):
        Image.fromarray(rgb).save(tmp_path / name)
    paths, as_it_is = [tmp_path / "usual.png", tmp_path / "other.png"], Tiling(match_stain=False)
    usual, told = segmenter.predict_many(paths, 0.5)
    assert usual.prediction.look.sentence() is None
    assert "unlike that of the training images" in told.prediction.look.sentence()
    assert "with their stain" in told.prediction.look.sentence()
    plain = [result.prediction.look.sentence() for result in segmenter.predict_many(paths, 0.5, as_it_is)]
    assert (plain[0], "with their stain" in plain[1]) == (None, False)
    for tiling in (Tiling(), as_it_is):  # a single picture is told alike
        found = segmenter.predict(other, 0.5, tiling).look
        assert found.distance == told.prediction.look.distance > 1
        assert (found.curves is None) == (tiling is as_it_is)
    seen = segmenter.look(other, 0.5).matched(other)
    wanted = segmenter.probabilities(seen, 0.5, as_it_is)
    assert not np.allclose(wanted, segmenter.probabilities(other, 0.5, as_it_is))
    for found in (told.prediction.probabilities, segmenter.probabilities(other, 0.5),
                  segmenter.predict(other, 0.5).probabilities):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(told.prediction.rgb, other)  # what is drawn and saved is the picture as it is
