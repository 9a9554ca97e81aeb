"""scripts/suggest.py as its users call it: suggestions, corrected in QuPath, become a dataset."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from tiny import picture
from tiny_model import save_tiny_model

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local
from hf_gland.export.geojson_masks import masks_from_geojson
from hf_gland.inference import suggest_image
from hf_gland.inference.segmenter import GlandSegmenter


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(np.kron(picture(index, 2)[0], np.ones((4, 4, 1), np.uint8))).save(folder / f"tile{index}.png")
    return folder


def suggest(images, model, out, *options):
    return run_command("suggest", [str(images), "--model", str(model), "--out", str(out), "--mpp", "0.5", "--device", "cpu",
                                   *map(str, options)])


def features_of(out):
    return [feature for path in sorted(out.glob("*.geojson")) for feature in json.loads(path.read_text())["features"]]


def test_suggestions_are_ranked_and_corrections_become_a_dataset(images, tmp_path, capsys):
    model, out = save_tiny_model(tmp_path / "model"), tmp_path / "out"
    assert suggest(images, model, out, "--count", 6, "--by", "uncertainty") == 0
    assert "suggested: 6 places" in capsys.readouterr().out
    assert sorted(feature["properties"]["measurements"]["Rank"] for feature in features_of(out)) == [1, 2, 3, 4, 5, 6]
    rows = list(csv.DictReader((out / "suggestions.csv").open()))
    assert [row["rank"] for row in rows] == list("123456")
    assert suggest(images, model, out) == 2
    assert "exists already" in capsys.readouterr().err

    path = next(path for path in out.glob("*.geojson") if len(json.loads(path.read_text())["features"]) > 1)
    drawn = json.loads(path.read_text())
    for feature, name in zip(drawn["features"], ("Gland", "Stroma"), strict=False):
        feature["properties"]["classification"]["name"] = name
    path.write_text(json.dumps(drawn))
    built = ["qupath", "--images", str(images), "--annotations", str(out), "--out", str(tmp_path / "data")]
    assert run_command("build_dataset", built) == 0
    (row,) = load_local(tmp_path / "data")["train"]
    assert row["image_id"] == path.stem
    assert sorted(np.unique(row["sparse_mask"])) == [0, 1, 255]
    assert row["annotated_glands"] == 1


@pytest.mark.parametrize("by", ["random", "uncertainty"])
def test_what_is_outlined_already_is_not_suggested(images, tmp_path, by):
    model, annotated = save_tiny_model(tmp_path / "model"), tmp_path / "annotated"
    annotated.mkdir()
    with Image.open(images / "tile1.png") as tile:
        width, height = tile.size
    ring = [[0, 0], [width * 0.6, 0], [width * 0.6, height], [0, height], [0, 0]]
    outline = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
               "properties": {"objectType": "annotation", "classification": {"name": "gland"}}}
    (annotated / "tile1.geojson").write_text(json.dumps([outline]))
    assert suggest(images, model, tmp_path / "out", "--count", 200, "--annotated", annotated, "--by", by) == 0
    ids, _ = masks_from_geojson(tmp_path / "out" / "tile1.geojson", (height, width), {"Suggested": 1})
    assert (ids > 0)[:, int(width * 0.7):].any()
    assert (ids > 0)[:, :int(width * 0.6)].mean() < 0.25
    other, _ = masks_from_geojson(tmp_path / "out" / "tile0.geojson", (256, 320), {"Suggested": 1})
    assert (other > 0)[:, :150].mean() > 0.4


def test_a_picture_that_cannot_be_read_is_named_and_the_rest_goes_on(images, tmp_path, capsys):
    (images / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert suggest(images, save_tiny_model(tmp_path / "model"), tmp_path / "out", "--count", 2) == 1
    said = capsys.readouterr()
    assert "broken.png" in said.err
    assert "suggested: 2 places" in said.out


def test_of_a_large_image_blocks_with_tissue_are_looked_at_and_an_unknown_pixel_size_is_said(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    tile = np.kron(picture(0, 2)[0], np.ones((4, 4, 1), np.uint8))[:250, :300]
    wide = np.full((250, 1200, 3), 245, np.uint8)
    wide[:, -300:] = tile
    Image.fromarray(wide).save(folder / "wide.png", dpi=(50_800, 50_800))  # 0.5 µm per pixel
    monkeypatch.setattr(suggest_image, "BLOCK_PX", 300)
    looked = []
    predict = GlandSegmenter.predict
    monkeypatch.setattr(GlandSegmenter, "predict", lambda self, rgb, *rest, **more: (
        looked.append(rgb), predict(self, rgb, *rest, **more))[1])
    model = save_tiny_model(tmp_path / "model", mpp=0.5)
    command = [str(folder), "--model", str(model), "--device", "cpu", "--count", "3", "--out"]
    assert run_command("suggest", [*command, str(tmp_path / "out")]) == 0
    assert "pixel size" not in capsys.readouterr().err
    assert 1 <= len(looked) <= 2  # the mask of tissue has a margin
    assert np.array_equal(looked[-1], tile)
    Image.fromarray(tile).save(folder / "other.png")
    assert run_command("suggest", [*command, str(tmp_path / "both")]) == 0
    said = capsys.readouterr().err
    assert f"warning: {folder / 'other.png'}: no pixel size is stated, and no --mpp was given; assuming 0.5 µm" in said


def test_grades_that_random_suggestions_would_not_heed_are_refused(images, tmp_path, capsys):
    (tmp_path / "metadata.csv").write_text("image_id,grade\ntile0,2\n")
    assert suggest(images, tmp_path / "none", tmp_path / "out", "--metadata", tmp_path / "metadata.csv") == 2
    assert "give --by uncertainty" in capsys.readouterr().err


def test_a_region_that_glands_lie_in_is_not_taken_for_an_outline(images, tmp_path, capsys):
    model, annotated = save_tiny_model(tmp_path / "model"), tmp_path / "annotated"
    annotated.mkdir()
    whole = {"type": "Polygon", "coordinates": [[[0, 0], [9999, 0], [9999, 9999], [0, 9999], [0, 0]]]}
    gland = {"type": "Polygon", "coordinates": [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]}
    for name, label in (("tile0", {"classification": {"name": "Region*"}}), ("tile1", {})):
        content = [{"type": "Feature", "geometry": geometry, "properties": {"objectType": "annotation", **properties}}
                   for geometry, properties in ((whole, label), (gland, {"classification": {"name": "Gland"}}))]
        (annotated / f"{name}.geojson").write_text(json.dumps(content))
    assert suggest(images, model, tmp_path / "out", "--count", 200, "--annotated", annotated) == 0
    places = [row["image"] for row in csv.DictReader((tmp_path / "out" / "suggestions.csv").open())]
    assert {name.rpartition("/")[2] for name in places} == {"tile0.png", "tile1.png", "tile2.png"}


def test_overwriting_replaces_suggestions_and_leaves_outlines(images, tmp_path, capsys):
    model, out = save_tiny_model(tmp_path / "model"), tmp_path / "out"
    assert suggest(images, model, out, "--count", 6) == 0
    assert suggest(images, model, out, "--count", 6, "--overwrite", "--seed", 1) == 0
    path = next(path for path in out.glob("*.geojson") if json.loads(path.read_text())["features"])
    drawn = json.loads(path.read_text())
    drawn["features"][0]["properties"]["classification"]["name"] = "Gland"
    path.write_text(json.dumps(drawn))
    assert suggest(images, model, out, "--overwrite") == 2
    assert f"{path}: holds outlines that are not suggestions" in capsys.readouterr().err
    assert json.loads(path.read_text()) == drawn


def test_grades_are_found_by_the_names_of_files_too(images, tmp_path, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr("hf_gland.inference.suggest_image.image_places",
                        lambda segmenter, slide, mpp, drawn, grade: (seen.append(grade), (1.0, []))[1])
    model, table = save_tiny_model(tmp_path / "model"), tmp_path / "table.csv"
    table.write_text("image_id,grade\ntile0,benign\ntile1.png,malignant\ntile2.png,benign\n")
    assert suggest(images, model, tmp_path / "out", "--by", "uncertainty", "--metadata", table) == 0
    assert seen == ["benign", "malignant", "benign"]
    table.write_text("image_id,grade\ntile0,benign\n")
    assert suggest(images, model, tmp_path / "again", "--by", "uncertainty", "--metadata", table) == 2
    assert "has no line for tile1" in capsys.readouterr().err
