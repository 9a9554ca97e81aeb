import dataclasses
import gzip
import json
import time
import tracemalloc
import uuid

import numpy as np
import pytest
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hf_gland.export import geojson_masks, geojson_read, polygons
from hf_gland.export.formats import FORMATS
from hf_gland.export.geojson import glands_to_geojson
from hf_gland.export.geojson_masks import masks_from_geojson
from hf_gland.export.geojson_read import GeoJsonError, GeoJsonWarning, read_annotations
from hf_gland.labels import class_colour
from hf_gland.options import ExportOptions

CLASS_IDS = {"background": 0, "benign": 1, "malignant": 2, "Ignore*": 255}
CLASS_MAPS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 16), st.integers(1, 16)), elements=st.integers(0, 2))


def square(left, top, side, label="gland"):
    ring = [[left, top], [left + side, top], [left + side, top + side], [left, top + side], [left, top]]
    properties = {"objectType": "annotation"} | ({"classification": {"name": label}} if label else {})
    return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": properties}


def collection(*features):
    return {"type": "FeatureCollection", "features": list(features)}


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(class_map=CLASS_MAPS)
def test_every_gland_comes_back_pixel_by_pixel(predicted, class_map):
    prediction = predicted(class_map, mpp=0.5)
    features = glands_to_geojson(prediction)["features"]
    assert len(features) == len(prediction.glands)
    for feature, gland in zip(features, prediction.glands, strict=True):
        geometry = shapely.geometry.shape(feature["geometry"])
        assert geometry.is_valid
        assert geometry.area == gland.area_px
        assert geometry.area * 0.5**2 == feature["properties"]["measurements"]["Area µm^2"]
        assert (geometry.centroid.x, geometry.centroid.y) == pytest.approx((gland.centroid_x_px, gland.centroid_y_px))
    instances, classes = masks_from_geojson(json.loads(json.dumps(collection(*features))), class_map.shape, CLASS_IDS,
                                            outside=0)
    assert np.array_equal(classes, prediction.class_map)
    assert np.array_equal(instances, prediction.instances)


def test_a_feature_is_what_qupath_expects(written, two_glands):
    read = json.loads(written(FORMATS["geojson"].write, two_glands).decode("ascii"))
    assert read["type"] == "FeatureCollection"
    ring, block = read["features"]
    assert ring["type"] == "Feature"
    uuid.UUID(ring["id"])
    outer, hole = ring["geometry"]["coordinates"]
    assert outer == [[4, 5], [16, 5], [16, 15], [4, 15], [4, 5]]
    assert hole[0] == hole[-1]
    assert shapely.Polygon(hole).area == 8
    assert shapely.LinearRing(outer).is_ccw
    assert not shapely.LinearRing(hole).is_ccw
    properties = block["properties"]
    assert properties["objectType"] == "annotation"
    assert properties["classification"] == {"name": "malignant", "color": list(class_colour(2))}
    assert properties["isLocked"] is False
    assert properties["measurements"]["Area px^2"] == 36
    assert properties["measurements"]["Area µm^2"] == 9
    assert properties["measurements"]["Perimeter µm"] == properties["measurements"]["Perimeter px"] / 2
    assert all(isinstance(value, int | float) for value in properties["measurements"].values())


def test_micrometres_are_left_out_where_unknown(predicted):
    (feature,) = glands_to_geojson(predicted(np.ones((4, 4), np.uint8)))["features"]
    assert not [key for key in feature["properties"]["measurements"] if "µm" in key]


def test_ids_are_the_same_every_time_and_differ_between_images(two_glands):
    ids = [[f["id"] for f in glands_to_geojson(dataclasses.replace(two_glands, name=name))["features"]]
           for name in ("a.png", "a.png", "b.png")]
    assert ids[0] == ids[1]
    assert len({*ids[0], *ids[2]}) == 4


def test_pixels_that_touch_at_a_corner_are_one_gland_of_two_polygons(predicted):
    (feature,) = glands_to_geojson(predicted(np.eye(2, dtype=np.uint8)))["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    assert len(feature["geometry"]["coordinates"]) == 2


def test_simplified_outlines_have_fewer_points_stay_near_and_keep_holes(predicted):
    y, x = np.mgrid[:120, :120]
    radius = np.hypot(y - 60, x - 60)
    prediction = predicted(((radius < 50) & (radius > 15)).astype(np.uint8))
    exact, thinned = (glands_to_geojson(prediction, ExportOptions(simplify_px=s))["features"][0] for s in (0, 1.0))
    shapes = [shapely.geometry.shape(f["geometry"]) for f in (exact, thinned)]
    assert shapely.get_num_coordinates(shapes[1]) < shapely.get_num_coordinates(shapes[0]) / 3
    assert shapes[1].is_valid
    assert len(shapes[1].interiors) == 1
    assert shapely.LinearRing(thinned["geometry"]["coordinates"][0]).is_ccw
    assert shapely.hausdorff_distance(*shapes) <= 1.0 + 1e-9
    assert shapes[1].area == pytest.approx(shapes[0].area, rel=0.02)
    assert thinned["properties"]["measurements"] == exact["properties"]["measurements"]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(class_map=CLASS_MAPS, tolerance=st.floats(0.1, 5))
def test_simplified_outlines_are_always_valid(predicted, class_map, tolerance):
    for feature in glands_to_geojson(predicted(class_map), ExportOptions(simplify_px=tolerance))["features"]:
        geometry = shapely.geometry.shape(feature["geometry"])
        assert geometry.is_valid
        assert geometry.area > 0


def test_coordinates_are_pixels_of_the_file_and_unsure_glands_say_so(two_glands):
    ring, block = glands_to_geojson(two_glands, ExportOptions(unsure_below=0.95, scale_xy=(2.5, 3.0)))["features"]
    assert ring["geometry"]["coordinates"][0] == [[10, 15], [40, 15], [40, 45], [10, 45], [10, 15]]
    assert (block["properties"]["name"], block["properties"]["measurements"]["Unsure"]) == ("malignant 2 (unsure)", 1)
    sure = glands_to_geojson(two_glands, ExportOptions(unsure_below=0.89))["features"][1]["properties"]
    assert (sure["name"], sure["measurements"]["Unsure"]) == ("malignant 2", 0)


def test_what_nobody_drew_is_unlabelled_unless_told_otherwise():
    _, classes = masks_from_geojson(collection(square(2, 3, 4)), (10, 10))
    assert sorted(np.unique(classes)) == [1, 255]
    assert (classes[3:7, 2:6] == 1).all()
    _, classes = masks_from_geojson(collection(square(2, 3, 4)), (10, 10), outside=0)
    assert (classes == 1).sum() == 16
    assert (classes == 0).sum() == 84


def test_stroma_and_ignore_regions_are_no_glands_and_the_smaller_annotation_wins():
    drawn = collection(square(3, 3, 2, "IGNORE*"), square(2, 2, 4, "Gland"), square(0, 0, 10, "background"))
    instances, classes = masks_from_geojson(drawn, (12, 12))
    assert (classes == 0).sum() == 100 - 16
    assert (classes == 1).sum() == 16 - 4
    assert (classes[3:5, 3:5] == 255).all()
    assert np.array_equal(instances == 1, classes == 1)
    assert instances.max() == 1


def test_a_file_a_list_and_a_single_feature_are_all_read(tmp_path):
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps(collection(square(1, 1, 3))), "utf-8")
    expected = masks_from_geojson(path, (6, 6))
    for source in (str(path), [square(1, 1, 3)], square(1, 1, 3), collection(square(1, 1, 3, label=None))):
        for got, want in zip(masks_from_geojson(source, (6, 6)), expected, strict=True):
            assert np.array_equal(got, want)


def test_annotations_of_a_slide_are_mapped_to_a_region():
    instances, _ = masks_from_geojson(collection(square(1000, 2000, 40)), (50, 60), origin_px=(960, 1920), downsample=4)
    y, x = np.nonzero(instances)
    assert (x.min(), x.max() + 1, y.min(), y.max() + 1) == (10, 20, 20, 30)


def test_annotations_beyond_the_border_are_cut_off_and_ids_have_no_gaps():
    drawn = collection(square(-50, -50, 10), square(-2, -2, 4), square(8, 8, 100))
    instances, _ = masks_from_geojson(drawn, (10, 10))
    assert (instances == 1).sum() == 4
    assert (instances == 2).sum() == 4
    assert instances.max() == 2


def test_annotations_of_another_image_and_shapes_without_area_are_warned_about():
    with pytest.warns(GeoJsonWarning, match="no annotation lies inside"):
        masks_from_geojson(collection(square(500, 500, 10)), (10, 10))
    line = {"type": "Feature", "geometry": {"type": "LineString", "coordinates": [[0, 0], [5, 5]]}, "properties": {}}
    with pytest.warns(GeoJsonWarning, match="1 × LineString geometries, which enclose no area"):
        instances, _ = masks_from_geojson(collection(square(0, 0, 3), line), (10, 10))
    assert (instances == 1).sum() == 9


@pytest.mark.parametrize(("source", "message"), [
    ({"type": "FeatureCollection"}, "holds no list of features"),
    (collection("x"), "feature 1 is not a GeoJSON object"),
    (collection(square(0, 0, 3), square(0, 0, 3, "Tumour")), "feature 2 is classified as 'Tumour'"),
    (collection({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, float("nan")], [1, 1]]]}}), "malformed"),
    (collection({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}}), "malformed"),
    (collection({"geometry": {"type": "Polygon", "coordinates": [[0, 0], [1, 1]]}}), "malformed"),
    (collection({"geometry": {"type": "MultiPolygon", "coordinates": None}}), "malformed"),
])
def test_bad_geojson_is_named(source, message):
    with pytest.raises(GeoJsonError, match=message):
        masks_from_geojson(source, (5, 5))


@pytest.mark.parametrize("classification", ["gland", {"name": "Gland"}, {"names": ["Gland"]},
                                            {"name": None, "names": ["gland"]}, {"name": "GLAND", "color": [1, 2, 3]}])
def test_a_classification_is_a_word_or_an_object(classification):
    feature = square(5, 5, 10)
    feature["properties"]["classification"] = classification
    _, classes = masks_from_geojson(collection(feature), (40, 40))
    assert (classes == 1).sum() == 100


def test_a_number_for_a_class_is_mapped_or_refused_by_name():
    feature = square(5, 5, 10)
    feature["properties"]["classification"] = {"name": 3}
    with pytest.raises(GeoJsonError, match="feature 1 is classified as '3', which is none of background, gland"):
        masks_from_geojson(collection(feature), (40, 40))
    assert (masks_from_geojson(collection(feature), (40, 40), {"3": 1})[1] == 1).sum() == 100


@pytest.mark.parametrize(("kind", "label", "words"), [
    ("annotation", None, "1 × annotations without a classification"), ("tmaCore", None, "1 × TMA cores"),
    ("cell", None, "1 × cells"), ("cell", "Immune cells", "1 × cells"), ("tile", "gland", "1 × tiles")])
def test_what_is_no_gland_is_left_out_and_said(kind, label, words):
    other = square(0, 0, 40, label)
    other["properties"]["objectType"] = kind
    with pytest.warns(GeoJsonWarning, match=words):
        instances, classes = masks_from_geojson(collection(other, square(5, 5, 10)), (40, 40))
    assert ((instances > 0).sum(), instances.max(), (classes == 1).sum()) == (100, 1, 100)


@pytest.mark.parametrize(("about", "properties", "words"), [
    ({"id": "PathCellObject"}, {}, "1 × cells"), ({"nucleusGeometry": square(1, 1, 2)["geometry"]}, {}, "1 × cells"),
    ({}, {"object_type": "cell"}, "1 × cells"), ({"id": "PathDetectionTile"}, {}, "1 × tiles"),
    ({"id": "TMACoreObject"}, {}, "1 × TMA cores")])
def test_what_older_versions_of_qupath_call_no_annotation_is_left_out_too(about, properties, words):
    other = square(0, 0, 40, "gland") | about
    other["properties"] = {"classification": {"name": "gland"}} | properties
    with pytest.warns(GeoJsonWarning, match=words):
        _, classes = masks_from_geojson(collection(other, square(5, 5, 10)), (40, 40))
    assert (classes == 1).sum() == 100
    other["properties"]["objectType"] = "annotation"  # as other programs write it beside such an id
    assert (masks_from_geojson(collection(other), (40, 40))[1] == 1).sum() == 1600


def test_a_polygon_without_rings_has_no_shape():
    empty = square(0, 0, 5)
    empty["geometry"]["coordinates"] = []
    drawn, _ = read_annotations(collection(empty, square(5, 5, 10)))
    assert [len(annotation.polygons) for annotation in drawn] == [0, 1]


def test_of_a_stack_the_first_plane_is_taken():
    lower, upper = square(5, 5, 10), square(25, 25, 4)
    lower["geometry"]["plane"], upper["geometry"]["plane"] = {"c": -1, "z": 0, "t": 0}, {"c": -1, "z": 3, "t": 0}
    with pytest.warns(GeoJsonWarning, match="1 × annotations of other planes"):
        _, classes = masks_from_geojson(collection(upper, lower), (40, 40))
    assert (classes == 1).sum() == 100
    assert (masks_from_geojson(collection(upper), (40, 40))[1] == 1).sum() == 16  # the only one there is


def test_polygons_in_a_geometry_collection_are_one_annotation():
    parts = [square(5, 5, 10)["geometry"], {"type": "GeometryCollection", "geometries": [square(20, 20, 4)["geometry"]]},
             {"type": "Point", "coordinates": [1, 1]}]
    feature = {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": parts}, "properties": None}
    instances, classes = masks_from_geojson(collection(feature), (40, 40))
    assert (instances.max(), (classes == 1).sum()) == (1, 116)
    assert (masks_from_geojson(square(5, 5, 10)["geometry"], (40, 40))[1] == 1).sum() == 100  # a bare geometry


@pytest.mark.parametrize("pack", [gzip.compress, lambda text: b"\xef\xbb\xbf" + text])
def test_a_packed_file_and_a_byte_order_mark_are_read(tmp_path, pack):
    path = tmp_path / "export.geojson"
    path.write_bytes(pack(json.dumps(collection(square(5, 5, 10))).encode()))
    assert (masks_from_geojson(path, (40, 40))[1] == 1).sum() == 100


@pytest.mark.parametrize(("text", "message"), [
    (b"[" * 200_000, "not GeoJSON"), (gzip.compress(b"[]" * 1000)[:30], "damaged or cut short"),
    (b'{"features": [{"properties": 3}]}', "feature 1: its properties is not a GeoJSON object"),
    (b'{"features": [{"geometry": [1]}]}', "feature 1: its geometry is not a GeoJSON object"),
    (b'{"features": [{"geometry": {"type": "GeometryCollection"}}]}', "feature 1: the coordinates of its GeometryColl"),
    (b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1e300, 1], [1, 1]]]}}]}', "feature 1: "),
    (b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [NaN, 1], [1, 1]]]}}]}', "feature 1: "),
    (b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[1,0],[1,1]]], "plane": {"z": [1]}}}]}', "its"),
    (b'{"features": [{"geometry": {"type": "Polygon", "coordinates": [[[0,0],[1,0],[1,1]]]},'
     b'"properties": {"classification": [1]}}]}', "feature 1: its classification is neither"),
])
def test_hostile_files_are_named(tmp_path, text, message):
    (tmp_path / "a.geojson").write_bytes(text)
    with pytest.raises(GeoJsonError, match=rf"a\.geojson: .*{message}|a\.geojson: {message}"):
        masks_from_geojson(tmp_path / "a.geojson", (40, 40))


def test_a_small_packed_file_that_unpacks_to_much_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(geojson_read, "MAX_BYTES", 2**20)
    (tmp_path / "a.geojson.gz").write_bytes(gzip.compress(b"[" + b" " * 2**21 + b"]"))
    with pytest.raises(GeoJsonError, match="holds more than 1 MiB"):
        masks_from_geojson(tmp_path / "a.geojson.gz", (40, 40))


def test_memory_stays_bounded_whatever_is_drawn(monkeypatch):
    zigzag = np.array([[x / 50, (x % 2) * 1e6] for x in range(4_000)])  # each edge crosses every row
    feature = {"geometry": {"type": "Polygon", "coordinates": [[*zigzag.tolist(), *np.add(zigzag[::-1], (0, 1)).tolist()]]}}
    tracemalloc.start()
    with pytest.warns(GeoJsonWarning, match="no annotation lies inside"):
        masks_from_geojson(collection(feature), (600, 160))
    assert tracemalloc.get_traced_memory()[1] < 100e6  # at once it would be 5 million crossings of some 50 bytes
    tracemalloc.stop()
    monkeypatch.setattr(polygons, "MAX_CROSSINGS", 1_000_000)
    with pytest.raises(GeoJsonError, match="feature 1: its outline crosses 8 million rows"):
        masks_from_geojson(collection(feature), (600, 160))
    monkeypatch.setattr(geojson_masks, "MAX_DRAWN_PX", 10_000)
    with pytest.raises(GeoJsonError, match="feature 7: up to here annotations cover the image of 40×40 px 7 times over"):
        masks_from_geojson(collection(*[square(-1, -1, 50)] * 9), (40, 40))


@pytest.mark.parametrize("kind", ["spikes", "zigzag", "scattered"])
def test_hostile_outlines_take_no_longer_than_their_size(kind):
    rng, side = np.random.default_rng(1), np.arange(40_000) % 2
    spikes = np.stack([np.arange(40_000) / 20 + 3_000 * side, 3_000.0 * side], axis=1)  # side by side: none crosses another
    outlines = {"spikes": [np.concatenate([spikes, [[6_000, 3_010], [-10, 3_010], [-10, -10]]])],
                "zigzag": [rng.uniform(0, 3_000, (5_000, 2))],
                "scattered": list(np.add(rng.uniform(0, 2_990, (2_000, 1, 2)), [[0, 0], [9, 0], [9, 9]]))}[kind]
    feature = {"geometry": {"type": "MultiPolygon", "coordinates": [[ring.tolist()] for ring in outlines]}}
    begun = time.process_time()  # at the square of the size these take minutes
    if kind == "scattered":
        _, classes = masks_from_geojson([feature], (3_000, 3_000))
        assert 60_000 < (classes == 1).sum() < 2_000 * 45
    else:
        with pytest.raises(GeoJsonError, match="its outline crosses " + {"spikes": "20 million", "zigzag": "itself"}[kind]):
            masks_from_geojson([feature], (3_000, 3_000))
    assert time.process_time() - begun < 10


@pytest.mark.slow
def test_a_million_points_take_seconds(tmp_path):
    turns = np.linspace(0, 2 * np.pi, 1_000, endpoint=False)
    disc = 100 + 90 * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    features = [{"geometry": {"type": "Polygon", "coordinates": [np.add(disc, (200 * i, 0)).round(2).tolist()]}}
                for i in range(1_000)]
    (tmp_path / "a.geojson").write_text(json.dumps(collection(*features)))
    begun = time.process_time()
    instances, _ = masks_from_geojson(tmp_path / "a.geojson", (200, 20_000))
    assert time.process_time() - begun < 10
    assert len(np.unique(instances)) == 1 + 100


def test_outlines_that_take_long_to_check_together_are_refused(monkeypatch):
    monkeypatch.setattr(geojson_read, "MAX_EFFORT", 100_000)
    turns = np.linspace(0, 2 * np.pi, 100)
    disc = {"geometry": {"type": "Polygon",
                         "coordinates": [(500 + 450 * np.stack([np.cos(turns), np.sin(turns)], axis=1)).tolist()]}}
    with pytest.raises(GeoJsonError, match=r"feature 56: up to here the outlines cross 0\.1 million rows"):
        masks_from_geojson([disc] * 60, (1_000, 1_000))


def test_an_unclassified_annotation_needs_a_single_gland_class():
    with pytest.raises(GeoJsonError, match="no classification, and there are 2 gland classes"):
        masks_from_geojson(collection(square(0, 0, 3, None)), (5, 5), CLASS_IDS)


@pytest.mark.parametrize("content", ["", "not json", '{"type": "FeatureColl'])
def test_an_unreadable_file_is_named(tmp_path, content):
    (tmp_path / "a.geojson").write_text(content)
    with pytest.raises(GeoJsonError, match=r"a\.geojson: not GeoJSON"):
        masks_from_geojson(tmp_path / "a.geojson", (5, 5))
    with pytest.raises(GeoJsonError, match=r"none\.geojson: cannot be read"):
        masks_from_geojson(tmp_path / "none.geojson", (5, 5))
