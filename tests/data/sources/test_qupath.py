"""Outlines drawn in QuPath as a dataset, in every form in which its GeoJSON comes."""

import gzip
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from slide_files import write_dicom

from hf_gland.cli.main import run_command
from hf_gland.data import outlines
from hf_gland.data.build import load_local
from hf_gland.data.sources.qupath import images_in, pair_files
from hf_gland.errors import DatasetError
from hf_gland.export.geojson import glands_to_geojson
from hf_gland.export.geojson_masks import Region, paint
from hf_gland.inference.glands import glands_from_probabilities
from hf_gland.metrics.evaluator import SplitEvaluator
from hf_gland.options import PostProcessing


def ring(left, top, width, height):
    return [[left, top], [left + width, top], [left + width, top + height], [left, top + height], [left, top]]


def feature(label, *rings, kind="annotation", geometry=None, **properties):
    geometry = geometry or {"type": "Polygon", "coordinates": list(rings)}
    classified = {} if label is None else {"classification": {"name": label, "color": [200, 0, 0]}}
    return {"type": "Feature", "id": "x", "geometry": geometry,
            "properties": {"objectType": kind, "isLocked": False, **classified, **properties}}


def build(tmp_path, content, *options, hw=(90, 140), name="a.png", encode=lambda text: text.encode(), ending=".geojson"):
    """The rows that `build_dataset qupath` makes of one picture and one file, and its status."""
    images = tmp_path / "images"
    images.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    Image.fromarray(rng.integers(0, 255, (*hw, 3), dtype=np.uint8)).save(images / name)
    text = content if isinstance(content, str) else json.dumps(content)
    (images / f"{name.split('.')[0]}{ending}").write_bytes(encode(text))
    status = run_command("build_dataset", ["qupath", "--images", str(images), "--out", str(tmp_path / "out"), "--overwrite",
                                           *options])
    return status, (load_local(tmp_path / "out")["train"] if status == 0 else [])


def labels(row):
    """The sparse mask and the ids of a row."""
    return np.asarray(row["sparse_mask"]), np.asarray(row["instances"])


def counts(rows):
    """Labelled pixels of each class, and the pixels of each id, of the only row."""
    (row,) = rows
    mask, ids = labels(row)
    found = {int(v): int((mask == v).sum()) for v in np.unique(mask) if v != 255}
    return found, [int((ids == i).sum()) for i in range(1, int(ids.max()) + 1)]


GLAND = ring(10, 10, 30, 20)  # 600 px
HOLE = ring(20, 15, 10, 5)  # 50 px of them
OTHER = ring(60, 40, 20, 10)  # 200 px


@pytest.mark.parametrize(("content", "expected"), [
    # what QuPath and others call the whole
    ({"type": "FeatureCollection", "features": [feature("Gland", GLAND)]}, ({1: 600}, [600])),
    ([feature("Gland", GLAND)], ({1: 600}, [600])),
    (feature("gland", GLAND), ({1: 600}, [600])),
    ({"features": [feature("GLAND", GLAND)], "type": "FeatureCollection", "more": {"features": []}}, ({1: 600}, [600])),
    # shapes
    ([feature("Gland", GLAND, HOLE)], ({1: 550}, [550])),
    ([feature("Gland", geometry={"type": "MultiPolygon", "coordinates": [[GLAND, HOLE], [OTHER]]})], ({1: 750}, [750])),
    ([feature("Gland", geometry={"type": "Polygon", "isEllipse": True, "coordinates": [
        [[50 + 20 * np.cos(t), 45 + 10 * np.sin(t)] for t in np.linspace(0, 2 * np.pi, 200)]]})], ({1: 632}, [632])),
    ([feature("Gland", [[*xy, 0] for xy in GLAND])], ({1: 600}, [600])),  # x, y, z
    ([feature("Gland", ring(-20, -20, 30, 40)), feature("Gland", OTHER)], ({1: 200 + 200}, [200, 200])),
    # classes
    ([feature("Gland: Positive", GLAND), feature("Stroma: Loose", OTHER)], ({0: 200, 1: 600}, [600])),
    ([feature(None, GLAND, classification={"names": ["Gland", "Dysplastic"], "colorRGB": -3670016})], ({1: 600}, [600])),
    ([feature(None, GLAND, classification=None), feature(None, OTHER, classification={"name": None})],
     ({1: 800}, [600, 200])),
    ([feature(None, GLAND), feature("Gland", OTHER)], ({1: 200}, [200])),
    ([feature("Gland", GLAND), feature("Ignore*", HOLE), feature("Stroma", OTHER)], ({0: 200, 1: 550}, [550])),
    ([feature("Gland", GLAND), feature("Suggested: gland", OTHER)], ({1: 600}, [600])),
    # objects
    ([feature("Gland", GLAND, kind="detection", isLocked=True), feature("Gland", OTHER, kind="cell")], ({1: 600}, [600])),
    ([feature("Gland", GLAND, measurements=[{"name": "Area", "value": 10**30}], color=-16711936)], ({1: 600}, [600])),
    ([feature("Gland", GLAND), feature("Gland", geometry={"type": "LineString", "coordinates": [[0, 80], [90, 80]]}),
      feature("Gland", geometry={"type": "Point", "coordinates": [5, 5]})], ({1: 600}, [600])),
])
def test_each_form_of_geojson_gives_its_labels(tmp_path, content, expected):
    status, rows = build(tmp_path, content)
    assert status == 0
    assert counts(rows) == expected
    assert rows[0]["annotated_glands"] == len(expected[1])
    assert rows[0]["total_glands"] is None
    assert rows[0]["mask"] is None


@pytest.mark.parametrize(("encode", "ending"), [
    (lambda text: gzip.compress(text.encode()), ".geojson.gz"), (lambda text: b"\xef\xbb\xbf" + text.encode(), ".geojson"),
    (lambda text: f" \n{text}\n".encode(), ".png.geojson")])
def test_packed_files_and_byte_order_marks_are_read(tmp_path, encode, ending):
    status, rows = build(tmp_path, [feature("Gland", GLAND)], encode=encode, ending=ending)
    assert (status, counts(rows)) == (0, ({1: 600}, [600]))


def test_strokes_are_labels_without_an_id_when_asked_for_and_counted_when_not(tmp_path, capsys):
    line = {"type": "LineString", "coordinates": [[20, 70], [80, 70]]}
    drawn = [feature("Gland", GLAND), feature("Stroma", geometry=line),
             feature("Gland", geometry={"type": "MultiPoint", "coordinates": [[100, 20], [120, 40]]})]
    _, rows = build(tmp_path, drawn)
    assert counts(rows) == ({1: 600}, [600])
    said = capsys.readouterr().err
    assert "1 × LineString objects (--stroke-px" in said
    assert "1 × MultiPoint objects" in said
    _, rows = build(tmp_path, drawn, "--stroke-px", "6")
    found, ids = counts(rows)
    assert ids == [600]
    assert found[0] == pytest.approx(60 * 6 + np.pi * 9, abs=12)
    assert found[1] == pytest.approx(600 + 2 * np.pi * 9, abs=8)
    assert rows[0]["annotated_glands"] == 1


def test_classes_are_mapped_by_name_and_unknown_ones_are_refused(tmp_path, capsys):
    drawn = [feature("Benign", GLAND), feature("Tumor: Positive", OTHER), feature("Necrosis", ring(90, 60, 10, 10)),
             feature("Artefact", ring(110, 60, 10, 10))]
    status, _ = build(tmp_path, drawn)
    assert status == 2
    assert "a.geojson: feature 1 is classified as 'Benign', which is none of" in capsys.readouterr().err
    status, rows = build(tmp_path, drawn, "--class", "benign=1", "tumor=2", "necrosis=0", "artefact=skip")
    assert counts(rows) == ({0: 100, 1: 600, 2: 200}, [600, 200])
    assert json.loads((tmp_path / "out" / "provenance.json").read_text())["class_names"] == ["background", "benign", "tumor"]
    assert "1 × objects of class Artefact" in capsys.readouterr().err
    assert build(tmp_path, drawn, "--class", "benign=1", "tumor=3")[0] == 2
    capsys.readouterr()
    assert build(tmp_path, drawn, "--class", "benign=1", "tumor=2", "Benign=2")[0] == 2
    assert "--class Benign=2: is 1 already; names count in any case" in capsys.readouterr().err


def test_a_rejected_prediction_is_a_label(tmp_path):
    drawn = [feature("Gland", GLAND), feature("Ignore*", OTHER), feature("Stroma", ring(100, 10, 10, 10))]
    _, rows = build(tmp_path, drawn, "--class", "gland=1", "ignore*=0")
    assert counts(rows) == ({0: 300, 1: 600}, [600])


def test_a_region_of_interest_is_labelled_wholly_when_asked_for(tmp_path, capsys):
    region = feature("ROI", ring(0, 0, 70, 60))
    drawn = [feature("Gland", GLAND), region, feature("Gland", ring(60, 50, 30, 30))]
    _, rows = build(tmp_path, drawn)
    assert counts(rows) == ({1: 1500}, [600, 900])
    assert "1 × objects of class ROI" in capsys.readouterr().err
    named = feature(None, ring(0, 0, 70, 60), name="ROI")
    for roi in (region, named):
        _, rows = build(tmp_path, [drawn[0], roi, drawn[2]], "--roi", "roi")
        assert counts(rows) == ({0: 70 * 60 - 600 - 100, 1: 1500}, [600, 900])
        truth = np.asarray(rows[0]["mask"])
        assert np.array_equal(truth, labels(rows[0])[0])


@pytest.mark.parametrize("drawn", [
    [feature("Gland", geometry={"type": "MultiPolygon", "coordinates": [[GLAND], [OTHER]]})],
    [feature("Gland", GLAND), feature("Stroma", ring(20, 5, 4, 30))],
    [feature("Gland", GLAND), feature("Stroma", ring(15, 5, 4, 30)), feature("Stroma", ring(25, 5, 4, 30))],
])
def test_a_lone_gland_in_pieces_is_one_gland_of_a_region_of_interest(tmp_path, drawn):
    status, rows = build(tmp_path, [*drawn, feature("ROI", ring(0, 0, 100, 60))], "--roi", "ROI")
    assert status == 0
    mask, ids = labels(rows[0])
    assert len(np.unique(ids)) == 2
    assert np.array_equal(ids > 0, mask == 1)
    evaluator = SplitEvaluator(2, bootstrap=0)
    evaluator.update_class_map((ids > 0).astype(np.uint8), np.asarray(rows[0]["mask"]), ids, predicted_instances=ids)
    assert evaluator.compute()["object_dice"] == 100


def test_a_rim_of_stroma_keeps_off_what_is_drawn(tmp_path):
    neighbour = ring(42, 10, 30, 20)  # two pixels to the right
    _, rows = build(tmp_path, [feature("Gland", GLAND), feature("Gland", neighbour)], "--rim-px", "4")
    mask, ids = labels(rows[0])
    assert ids.max() == 2
    assert (mask[10:30, 40:42] == 0).all()
    assert (mask[20, 6:10] == 0).all()
    assert (mask[20, 5], mask[34, 20]) == (255, 255)
    assert (mask == 1).sum() == 1200


@pytest.mark.parametrize("label", ["Ignore*", "Suggested: gland", "Necrosis"])
def test_a_rim_keeps_off_what_is_drawn_as_no_label(tmp_path, label):
    drawn = [feature("Gland", GLAND), feature(label, ring(40, 5, 30, 30)), feature("Ignore*", HOLE)]  # beside it, and in it
    _, rows = build(tmp_path, drawn, "--rim-px", "8", "--class", "gland=1", "necrosis=skip")
    mask, _ = labels(rows[0])
    assert (mask[5:35, 40:70] == 255).all()
    assert (mask[15:20, 20:30] == 255).all()
    assert (mask[15:25, 2:10] == 0).all()
    assert (mask[30:38, 15:35] == 0).all()


@pytest.mark.parametrize("label", ["ROI", "Tissue"])
def test_a_region_that_glands_lie_in_stops_no_rim(tmp_path, label):
    region = feature(label, ring(0, 0, 100, 60))
    _, rows = build(tmp_path, [feature("Gland", GLAND), region], "--rim-px", "8", "--class", "gland=1", "tissue=skip")
    assert (labels(rows[0])[0][15:25, 40:48] == 0).all()


def test_a_rim_is_no_truth(tmp_path):
    drawn = [feature("Gland", GLAND), feature("ROI", ring(0, 0, 40, 60)), feature("Ignore*", ring(10, 30, 30, 10))]
    _, rows = build(tmp_path, drawn, "--roi", "ROI", "--rim-px", "8")
    mask, truth = labels(rows[0])[0], np.asarray(rows[0]["mask"])
    assert (mask[15:25, 40:48] == 0).all()
    assert (truth[:, 40:] == 255).all()
    assert (truth[30:40, 10:40] == 255).all()
    assert (truth[:60, :40] != 255).sum() == 60 * 40 - 300


def test_tiles_hold_every_outline_whole_at_the_wanted_pixel_size(tmp_path, capsys):
    corners = [(100, 60), (130, 100), (900, 500), (870, 40), (400, 300)]
    drawn = [feature("Gland", ring(x, y, 40, 20)) for x, y in corners] + [feature("Gland", ring(-30, 580, 60, 40)),
                                                                          feature("Gland", ring(5000, 0, 9, 9))]
    status, rows = build(tmp_path, drawn, "--mpp", "0.5", "--tile-mpp", "1", "--tile-px", "100", "--context-px", "10",
                         hw=(600, 1000))
    said = capsys.readouterr()
    assert status == 0
    assert "1 × objects outside the image of 1000×600 px" in said.err
    assert "1 × parts of objects that reach beyond the image" in said.err
    assert all(row["image"].size == (100, 100) and row["mpp"] == 1.0 for row in rows)
    assert sum(row["annotated_glands"] for row in rows) == 6
    assert "6 / ?" in said.out  # the budget spent
    areas = sorted(int((labels(row)[1] == i).sum()) for row in rows for i in range(1, labels(row)[1].max() + 1))
    assert areas == [150, *[200] * 5]
    assert len({row["image_id"] for row in rows}) == len(rows) == 5
    whole = np.array(Image.open(tmp_path / "images" / "a.png").resize((500, 300), Image.Resampling.BOX))
    for row in rows:
        left, top = (int(part) // 2 for part in re.findall(r"_[xy](\d+)", row["image_id"]))
        difference = np.abs(np.asarray(row["image"]).astype(float) - whole[top:top + 100, left:left + 100])
        assert difference.mean() < 32  # 42 where it is another part


def test_a_tile_for_a_large_outline_and_a_usual_one_in_the_same_corner_have_names_of_their_own(tmp_path):
    small, large = feature("Gland", ring(1, 1, 15, 13)), feature("Gland", ring(2, 2, 78, 74))
    status, rows = build(tmp_path, [small, large], "--tile-px", "64", "--context-px", "2", hw=(200, 260))
    assert status == 0
    found = {row["image_id"]: (row["image"].size, row["annotated_glands"]) for row in rows}
    assert found == {"a_x0_y0_64x64": ((64, 64), 1), "a_x0_y0_82x78": ((82, 78), 1)}


def test_what_is_predicted_and_read_back_is_the_same_glands(tmp_path):
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:300, :400]
    truth = np.zeros((300, 400), np.uint8)
    for _ in range(25):
        cy, cx, a = rng.uniform(0, 300), rng.uniform(0, 400), rng.uniform(8, 30)
        truth[(np.hypot(y - cy, x - cx) < a) & (np.hypot(y - cy, x - cx) > a / 4)] = 1
    probabilities = np.stack([np.where(truth, 0.1, 0.9), np.where(truth, 0.9, 0.1)]).astype(np.float32)
    prediction = glands_from_probabilities(probabilities, {0: "background", 1: "gland"},
                                           PostProcessing(min_gland_area_px=0, max_hole_area_px=0, split_touching=False))
    _, rows = build(tmp_path, glands_to_geojson(prediction), hw=(300, 400))
    mask, ids = labels(rows[0])
    assert ((mask == 1) == (truth == 1)).all()
    assert np.array_equal(ids, prediction.instances)
    assert rows[0]["annotated_glands"] == len(prediction.glands)


@pytest.mark.parametrize(("text", "message"), [
    ('[{"properties": {}}, ' + "[" * 5000, "feature 2: it is nested too deeply"),
    (json.dumps([feature("Gland", GLAND), feature("Gland", [[0, 0], [1, float("nan")], [1, 1]])]), "feature 2: the coord"),
    (json.dumps([feature("Gland", [[0, 0], [40, 40], [40, 0], [0, 40]])]), "feature 1: its outline crosses itself near x "),
    (json.dumps([feature("Gland", GLAND, ring(30, 12, 30, 5))]), "feature 1: its outline crosses itself near x 40, y 12"),
    (json.dumps([feature("Gland", [[0, 0], [4e9, 0], [1, 1]])]), "feature 1: the coordinates of its Polygon"),
    ('[{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [' + "9" * 9000 + ', 1], [1, 1]]]}}]', "feature 1: the co"),
    (json.dumps([feature("Gland", GLAND)])[:-30], "feature 1: "),
    (json.dumps([feature("Gland", GLAND)]) + "]", "something follows its end: line 1"),
    ('{"features": 3}', "holds no list of features"), ("3", "not GeoJSON"), ("{3: 4}", "not GeoJSON"),
])
def test_hostile_files_are_refused_with_the_features_number(tmp_path, capsys, text, message):
    status, _ = build(tmp_path, text)
    assert status == 2
    said = capsys.readouterr().err
    assert f"a.geojson: {message}" in said or f"a.geojson: not GeoJSON: {message}" in said or f"({message}" in said, said


def test_more_strokes_than_anybody_draws_are_refused_with_the_features_number(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(outlines, "MOST_STROKE_POINTS", 50)
    line = {"type": "LineString", "coordinates": [[i, 70] for i in range(20)]}
    drawn = [feature("Gland", ring(10, 10, 30, 20)), *[feature("Stroma", geometry=line)] * 4]
    assert build(tmp_path, drawn[:3], "--stroke-px", "6")[0] == 0
    assert build(tmp_path, drawn, "--stroke-px", "6")[0] == 2
    assert "a.geojson: feature 4: up to here lines have 60 points" in capsys.readouterr().err


def test_edges_that_rounding_made_cross_are_passed_over(tmp_path):
    drawn = [[10, 10], [30, 10], [30.01, 30], [30, 10.02], [29.99, 30], [10, 30], [10, 10]]
    status, rows = build(tmp_path, [feature("Gland", drawn)])
    assert status == 0
    assert counts(rows)[0] == {1: 400}


def test_the_files_of_a_dicom_slide_are_one_image_named_after_its_annotations(tmp_path):
    write_dicom(tmp_path, np.zeros((300, 300, 3), np.uint8))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert [file.name for file in images_in([tmp_path])] == ["a.png", "level_0.dcm"]
    (tmp_path / "level_2.geojson").write_text("{}")
    assert [file.name for file in images_in([tmp_path])] == ["a.png", "level_2.dcm"]
    assert list(pair_files([tmp_path], None)[0]) == [tmp_path / "level_2.dcm"]
    (tmp_path / "a.png").unlink()
    assert list(pair_files([tmp_path], tmp_path / "level_2.geojson")[0]) == [tmp_path / "level_0.dcm"]


def test_files_are_paired_by_name_and_what_is_over_is_said(tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    notes = tmp_path / "notes"
    notes.mkdir()
    for stem in ("P1_a", "P2_b", "P3_c"):
        Image.new("RGB", (60, 50), "white").save(images / f"{stem}.png")
    for name in ("P1_a.geojson", "P2_b.png.geojson", "P9.geojson"):
        (notes / name).write_text(json.dumps([feature("Gland", ring(5, 5, 10, 10))]))
    command = ["qupath", "--images", str(images), "--annotations", str(notes), "--patient-pattern", "^(P[0-9])_",
               "--out", str(tmp_path / "out")]
    assert run_command("build_dataset", command) == 0
    rows = load_local(tmp_path / "out")["train"]
    assert [(row["image_id"], row["patient_id"]) for row in rows] == [("P1_a", "P1"), ("P2_b", "P2")]
    said = capsys.readouterr().err
    assert "no annotations were found for it: " in said
    assert "P3_c.png" in said
    assert "P9.geojson" in said
    (notes / "P1_a.png.geojson").write_text("[]")
    assert run_command("build_dataset", [*command, "--overwrite"]) == 2
    assert "has two files of annotations" in capsys.readouterr().err


def test_one_file_for_a_slide_and_its_thumbnail_is_refused(tmp_path):
    for name in ("S1.png", "S1.jpg"):
        Image.new("RGB", (60, 50), "white").save(tmp_path / name)
    (tmp_path / "S1.geojson").write_text("[]")
    with pytest.raises(DatasetError, match=r"S1.geojson: belongs to S1.jpg and to S1.png by its name; call it"):
        pair_files([tmp_path], None)
    (tmp_path / "S1.geojson").rename(tmp_path / "S1.png.geojson")
    assert list(pair_files([tmp_path], None)[0]) == [tmp_path / "S1.png"]


def test_the_smaller_of_two_annotations_wins_in_every_tile_wherever_it_is_cut(tmp_path):
    """A gland in a corner of a wide band of stroma, of which the gland's tile holds less than the gland."""
    drawn = [feature("Gland", ring(300, 0, 60, 60)), feature("Stroma", ring(-400, 30, 720, 10))]
    status, rows = build(tmp_path, drawn, hw=(60, 360))
    assert status == 0
    found, ids = counts(rows)
    assert ids == [3600]
    assert found == {0: 300 * 10, 1: 3600}
    regions = [Region(1, 1, [[np.array(ring(300.0, 0.0, 60.0, 60.0)[:-1])]]),
               Region(2, 0, [[np.array(ring(-400.0, 10.0, 720.0, 40.0)[:-1])]])]
    cut = [replace(r, polygons=[[polygon - (290, 0) for polygon in rings] for rings in r.polygons]) for r in regions]
    assert (paint(cut, (60, 70), "here")[1][:, 10:] == 1).all()  # 3600 px against 1200 of 28800
