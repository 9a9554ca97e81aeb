"""Slides by the same command as pictures: what is written, what is skipped, and what goes wrong."""

import csv
import errno
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from processes import run_script, start_together
from slide_files import aperio, texture, write_dicom, write_slide
from tiny_model import save_tiny_model

from hf_gland.cli.main import run_command
from hf_gland.imaging.appearance import learn_appearance
from hf_gland.inference.segmenter import GlandSegmenter

ENDINGS = (".geojson", ".json", "_glands.csv", "_mask.ome.tif", "_confidence.ome.tif", "_overlay.png")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), mpp=0.5)


@pytest.fixture(scope="module")
def pixels():
    rgb = np.full((260, 420, 3), 245, np.uint8)
    rgb[60:200, 80:340] = texture((260, 420))[60:200, 80:340]
    return rgb


@pytest.fixture
def slides(tmp_path, pixels):
    """A folder with two slides."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_slide(folder / "a.svs", pixels, levels=2, description=aperio(0.5))
    write_slide(folder / "b.svs", pixels[:, ::-1], levels=2, description=aperio(0.8))
    return folder


@pytest.fixture
def predict(model, monkeypatch, capsys):
    """`predict(arguments…)` runs the command; returns exit status, stdout and stderr."""
    monkeypatch.setenv("HF_GLAND_THREADS", "1")

    def run(*arguments):
        words = ["--model", str(model), *map(str, arguments), "--tile-px", "128", "--min-gland-um2", "0",
                 "--min-confidence", "0"]
        try:
            status = run_command("predict", words)
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()
    return run


@pytest.fixture
def networks_runs(monkeypatch):
    """How often a network was asked for."""
    calls = []
    network = GlandSegmenter.network
    monkeypatch.setattr(GlandSegmenter, "network", lambda self, tiling: calls.append(1) or network(self, tiling))
    return calls


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def summary(out):
    with (out / "slides.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_slides_and_pictures_in_one_run(predict, slides, pixels, tmp_path):
    Image.fromarray(pixels[60:200, 80:340]).save(slides / "p.png")
    out = tmp_path / "out"
    status, stdout, stderr = predict(slides, "--out", out)
    assert status == 0, stderr
    assert set(files(out)) == {*(name + ending for name in "ab" for ending in ENDINGS), "slides.csv", "slides.png",
                               "predictions.json",
                               "glands.csv", "p.geojson", "p_glands.csv", "p_overlay.png", "p_mask.png", "p_confidence.png"}
    one, other = summary(out)
    assert [row["image"] for row in (one, other)] == [str(slides / "a.svs"), str(slides / "b.svs")]
    assert (one["mpp"], other["mpp"], one["mpp_source"]) == ("0.5", "0.8", "the slide's header (aperio)")
    record = json.loads((out / "b.json").read_text())
    assert record["predicted_mpp"] == 0.5
    assert record["seconds"].keys() >= {"network", "finding glands", "writing", "waiting for the reader"}
    assert int(other["glands"]) == record["figures"]["glands"] > 0
    points = np.concatenate([np.array(ring, float) for feature in json.loads((out / "b.geojson").read_text())["features"]
                             for part in (feature["geometry"]["coordinates"] if feature["geometry"]["type"] == "MultiPolygon"
                                          else [feature["geometry"]["coordinates"]]) for ring in part])
    assert 340 < points[:, 0].max() <= 420  # pixels of the slide, not of the prediction, which is 672 wide
    assert f"glands: {one['glands']}" in stdout


def test_a_dicom_slide_gives_what_the_same_slide_gives_as_svs(predict, pixels, tmp_path):
    (tmp_path / "in").mkdir()
    write_slide(tmp_path / "in" / "a.svs", pixels, levels=2, description=aperio(0.5))
    write_dicom(tmp_path / "in" / "b", pixels, levels=2)
    status, _, told = predict(tmp_path / "in", "--out", tmp_path / "out", "--formats", "csv", "geojson")
    assert (status, "level_1.dcm" in told) == (0, True)
    one, other = ((tmp_path / "out" / f"{stem}_glands.csv").read_text() for stem in ("a", "b/level_0"))
    assert one.count("a.svs") > 1
    assert one.replace("a.svs", "level_0.dcm") == other
    assert [row["image"].rpartition("/")[2] for row in summary(tmp_path / "out")] == ["a.svs", "level_0.dcm"]


def test_a_dicom_slide_is_known_by_all_its_levels(predict, pixels, tmp_path):
    folder, words = tmp_path / "in", [tmp_path / "in", "--out", tmp_path / "out", "--formats", "csv", "--skip-existing"]
    levels = write_dicom(folder, pixels, levels=2, series="1.2.3")
    levels[0].rename(folder / "z.dcm")
    assert predict(*words)[0] == 0
    assert "nothing to do" in predict(*words)[1]
    other = write_dicom(tmp_path / "other", pixels[:, ::-1], levels=2, series="1.2.3")
    shutil.copy(other[0], folder / "z.dcm")
    assert "segmented: 1, failed: 0" in predict(*words)[1]
    write_slide(folder / "a.svs", pixels, levels=1, description=aperio(0.5))
    assert "segmented: 1, skipped: 1" in predict(*words)[1]


def test_results_stay_where_the_pixels_beside_the_named_file_are_no_longer_there(predict, slides, tmp_path):
    from hf_gland.inference.slides.cohort import slide_sha256

    out, slide, data = tmp_path / "out", slides / "a.mrxs", slides / "a" / "Data0000.dat"
    assert predict(slides / "a.svs", "--out", out, "--formats", "csv")[0] == 0
    (slides / "a.svs").rename(slide)
    data.parent.mkdir()
    data.write_bytes(b"pixels")
    record = json.loads((out / "a.json").read_text())
    (out / "a.json").write_text(json.dumps(record | {"sha256": slide_sha256(slide)}))
    assert "nothing to do" in predict(slide, "--out", out, "--formats", "csv", "--skip-existing")[1]
    shutil.rmtree(data.parent)
    slide.write_bytes(b"no pixels")
    before = files(out)
    status, _, stderr = predict(slide, "--out", out, "--formats", "csv", "--skip-existing")
    assert (status, "its results of before stay as they are" in stderr) == (1, True), stderr
    assert {name: files(out)[name] for name in ("a.json", "a_glands.csv")} == {
        name: before[name] for name in ("a.json", "a_glands.csv")}


def test_a_picture_above_the_limit_goes_through_as_a_slide_does(predict, pixels, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    write_slide(tmp_path / "in" / "a.svs", pixels, levels=1, description=aperio(0.5))
    Image.fromarray(pixels).save(tmp_path / "in" / "b.png", dpi=(50_800, 50_800))
    Image.fromarray(pixels).save(tmp_path / "in" / "c.png")
    monkeypatch.setattr("hf_gland.imaging.slides.MAX_PIXELS", pixels[..., 0].size - 1)
    status, _, told = predict(tmp_path / "in", "--out", tmp_path / "out", "--formats", "csv")
    assert (status, "c.png: the file states no pixel size; give it with --mpp" in told) == (1, True)
    one, other = ((tmp_path / "out" / f"{stem}_glands.csv").read_text() for stem in "ab")
    assert one.count("a.svs") > 1
    assert one.replace("a.svs", "b.png") == other
    monkeypatch.setattr("hf_gland.inference.slides.cohort.MOST_PICTURE_PX", pixels[..., 0].size - 1)
    status, _, told = predict(tmp_path / "in" / "b.png", "--out", tmp_path / "other")
    assert (status, "b.png: 420×260 px, above the limit of" in told) == (1, True)


def test_a_slide_stained_otherwise_than_the_training_images_is_told(predict, model, pixels, tmp_path):
    rng = np.random.default_rng(0)
    tiles = [pixels[y:y + 128, x:x + 128] for x, y in rng.integers((20, 10), (280, 130), (40, 2))]
    usual = [(tile * rng.normal(1, 0.03, 3)).clip(0, 255).astype(np.uint8) for tile in tiles]
    config = json.loads((model / "config.json").read_text())
    config["training_appearance"] = learn_appearance(usual).to_json()
    told = shutil.copytree(model, tmp_path / "told")
    (told / "config.json").write_text(json.dumps(config))
    restained = np.where(pixels == 245, pixels, pixels[..., ::-1] // 2)
    for name, rgb in (("usual", pixels), ("other", restained)):
        write_slide(tmp_path / f"{name}.svs", rgb, levels=2, description=aperio(0.5))
    status, stdout, stderr = predict(tmp_path / "usual.svs", tmp_path / "other.svs", "--out", tmp_path / "out",
                                     "--model", told)
    assert status == 0, stderr
    notes = {name: json.loads((tmp_path / "out" / f"{name}.json").read_text())["notes"] for name in ("usual", "other")}
    assert [note for note in notes["usual"] if "unlike" in note] == []
    (note,) = notes["other"]
    assert "Its stain, sharpness or magnification is unlike that of the training images (" in note
    assert stdout.count(note) == 1
    assert {row["image"].split("/")[-1]: note in row["warnings"] for row in summary(tmp_path / "out")} == {
        "usual.svs": False, "other.svs": True}
    status, *_ = predict(tmp_path / "other.svs", "--out", tmp_path / "kept", "--model", told, "--keep-stain")
    (plain,) = json.loads((tmp_path / "kept" / "other.json").read_text())["notes"]
    assert (status, "with their stain" in note, "with their stain" in plain) == (0, True, False)


def test_a_table_says_pixel_size_and_region_of_each(predict, slides, pixels, tmp_path):
    Image.fromarray(pixels[60:200, 80:340]).save(slides / "p.png")
    square = {"type": "Polygon", "coordinates": [[[100, 70], [228, 70], [228, 198], [100, 198], [100, 70]]]}
    (slides / "region.geojson").write_text(json.dumps(square))
    table = tmp_path / "in" / "cohort.csv"
    table.write_text("path,mpp,roi\na.svs,0.5,region.geojson\nb.svs,0.5,\np.png,0.8,\n")
    out = tmp_path / "out"
    status, _, stderr = predict(table, "--out", out, "--formats", "csv")
    assert status == 0, stderr
    one, other = summary(out)
    assert float(one["predicted_mm2"]) == round(128**2 * 0.25 / 1e6, 4)
    with (out / "a_glands.csv").open(encoding="utf-8", newline="") as file:
        assert "1" in [row["touches_border"] for row in csv.DictReader(file)]  # cut by the region, amid the slide
    assert (other["mpp"], other["mpp_source"]) == ("0.5", "given by the user")
    assert other["warnings"] == "The file states 0.8 µm per pixel (the slide's header (aperio)), not 0.5."
    assert json.loads((out / "predictions.json").read_text())["images"][str(slides / "p.png")]["mpp"] == 0.8
    status, stdout, _ = predict(table, "--out", out, "--formats", "csv", "--skip-existing")
    assert (status, "nothing to do" in stdout) == (0, True)
    (slides / "region.geojson").write_text(json.dumps(square | {"extra": 1}))
    table.write_text("path,mpp,roi\na.svs,0.5,region.geojson\nb.svs,0.5,\np.png,0.7,\n")
    assert "segmented: 2, skipped: 1" in predict(table, "--out", out, "--formats", "csv", "--skip-existing")[1]
    for text, message in (("slide\na.svs\n", "the columns must be path"), ("path\n\"\"\n", "line 2: no path"),
                          ("path,mpp\na.svs,x\n", "line 2: mpp 'x' is no number"), ("path\n", "lists no file"),
                          ("path,mpp\na.svs,900\n", "line 2: 900 µm per pixel is not a plausible"),
                          ("path,roi\na.svs,x.geojson\nb.svs,\n./a.svs,y.geojson\n",
                           f"line 4: {slides / 'a.svs'} is listed already; give it one row, with all its outlines in"),
                          ("path,mpp\n../in,0.5\n", f"line 2: mpp and roi are for files; list those of {slides / '../in'}"),
                          ("path,roi\n../in,x.geojson\n", "line 2: mpp and roi are for files")):
        table.write_text(text)
        status, _, stderr = predict(table, "--out", out)
        assert (status, message in stderr) == (2, True), stderr
    table.write_text("path,mpp\na.svs,0.5\n")
    shutil.copy(table, slides / "more.csv")
    status, _, stderr = predict(table, slides / "more.csv", "--out", out)
    assert (status, f"more.csv, line 2: {slides / 'a.svs'} is listed already" in stderr) == (2, True), stderr
    table.write_text("path,mpp\n.,\n")
    assert "segmented: 3, failed: 0" in predict(table, "--out", tmp_path / "all", "--formats", "csv")[1]
    status, _, stderr = predict(slides / "*.ndpi", "--out", out)
    assert (status, "no file matches" in stderr) == (2, True)
    assert "nothing to do" in predict(slides / "b.*", "--out", out, "--formats", "csv", "--skip-existing", "--mpp", 0.5)[1]


def test_finished_slides_are_skipped_by_what_they_hold(predict, slides, tmp_path, networks_runs):
    out = tmp_path / "out"
    assert predict(slides / "*.svs", "--out", out)[0] == 0
    first = files(out)
    status, _, stderr = predict(slides, "--out", out)
    assert (status, "exists already" in stderr) == (2, True)

    def again(*options):
        networks_runs.clear()
        status, _, stderr = predict(slides, "--out", out, *(options or ["--skip-existing"]))
        now = files(out)
        changed = {name for name in first if name.rsplit(".", 1)[1] not in ("json", "csv") and now[name] != first[name]}
        return status, len(networks_runs), changed, stderr

    assert again()[:3] == (0, 0, set())
    (out / "a_overlay.png").unlink()
    status, _, stderr = predict(slides, "--out", out, "--skip-existing", "--formats", "geojson", "csv")
    assert (status, (out / "a_overlay.png").exists()) == (0, False), stderr
    assert again()[:3] == (0, 1, set())
    with (out / "a_mask.ome.tif").open("r+b") as file:
        file.write(b"broken")
    status, runs, changed, stderr = again()
    assert (status, runs, changed) == (1, 0, {"a_mask.ome.tif"})
    assert f"a.svs: {out / 'a_mask.ome.tif'} is no longer as it was written and is not replaced; move it away" in stderr
    assert [row["error"] for row in summary(out)] == ["", ""]
    (out / "a_mask.ome.tif").unlink()
    assert again()[:3] == (0, 1, set())
    (out / "b.json").unlink()
    status, runs, changed, stderr = again()
    assert (status, runs, changed) == (2, 0, set())
    assert f"b.geojson: exists already, and no record in {out} tells of it; move it away" in stderr
    for path in out.glob("b*"):
        path.unlink()
    assert again()[:3] == (0, 1, set())
    with (slides / "b.svs").open("ab") as file:
        file.write(b"more")
    assert again()[:3] == (0, 1, set())
    status, runs, _, stderr = again("--skip-existing", "--no-tissue-mask")
    assert (status, runs, "made with other settings (tissue_mask)" in stderr) == (2, 0, True)
    assert again("--overwrite", "--no-tissue-mask")[:2] == (0, 2)


def test_results_in_another_format_are_kept_as_long_as_they_are_of_the_same_run(predict, slides, tmp_path):
    out, words = tmp_path / "out", [slides / "a.svs", "--out", tmp_path / "out", "--skip-existing", "--formats"]

    def listed():
        there = set(files(out)) - {"a.json", "slides.csv", "slides.png"}
        assert there == set(json.loads((out / "a.json").read_text())["files"])
        return there

    assert predict(*words, "geojson", "csv")[0] == 0
    first = files(out)
    assert predict(*words, "overlay")[0] == 0
    assert listed() == {"a.geojson", "a_glands.csv", "a_overlay.png"}
    assert {name: files(out)[name] for name in ("a.geojson", "a_glands.csv")} == {
        name: first[name] for name in ("a.geojson", "a_glands.csv")}
    assert "nothing to do" in predict(*words, "geojson", "csv", "overlay")[1]
    words[3:4] = ["--overwrite", "--no-tissue-mask"]
    assert predict(*words, "csv")[0] == 0
    assert listed() == {"a_glands.csv"}
    assert predict(*words, "csv", "geojson")[0] == 0
    words[3] = "--skip-existing"
    write_slide(slides / "a.svs", np.full((200, 200, 3), 240, np.uint8), levels=1, description=aperio(None))
    assert predict(*words, "csv")[0] == 1
    assert set(files(out)) == {"a.json", "slides.csv", "slides.png"}


@pytest.mark.parametrize("name", ["a.geojson", "a.json"])
def test_a_file_drawn_by_hand_is_replaced_only_if_asked(predict, slides, tmp_path, name):
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text(drawn := '{"drawn": "by hand"}')
    for options in ([], ["--skip-existing"]):
        status, _, stderr = predict(slides, "--out", out, "--formats", "geojson", *options)
        assert (status, f"error: {out / name}: exists already" in stderr) == (2, True), stderr
        assert files(out) == {name: drawn.encode()}
    assert predict(slides, "--out", out, "--formats", "geojson", "--overwrite")[0] == 0
    assert (out / name).read_text() != drawn


def test_a_slide_that_fails_takes_no_hand_work_with_it(predict, slides, tmp_path, monkeypatch):
    out = tmp_path / "out"
    assert predict(slides / "a.svs", "--out", out, "--formats", "geojson", "csv")[0] == 0
    (out / "a_glands.csv").unlink()

    def draws(self, tiling):
        (out / "a_glands.csv").write_text("drawn meanwhile")
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(GlandSegmenter, "network", draws)
        status, _, stderr = predict(slides / "a.svs", "--out", out, "--formats", "geojson", "csv", "--skip-existing")
    assert (status, "not enough memory" in stderr) == (1, True)
    assert ((out / "a.geojson").exists(), (out / "a_glands.csv").read_text()) == (False, "drawn meanwhile")


def test_a_table_that_a_spreadsheet_program_saved_goes_on_or_is_refused_before_the_first_slide(
        predict, slides, tmp_path, networks_runs):
    out, table = tmp_path / "out", tmp_path / "out" / "slides.csv"
    assert predict(slides / "a.svs", "--out", out, "--formats", "csv", "--mpp", 0.8)[0] == 0
    text = table.read_text("utf-8")
    assert "µ" in text
    networks_runs.clear()
    for encoding, separator, message in (("utf-8", ";", "no longer separated by commas"),
                                         ("cp1252", ",", "no table in UTF-8")):
        table.write_text(text.replace(",", separator), encoding)
        status, _, stderr = predict(slides / "b.svs", "--out", out, "--formats", "csv")
        assert (status, f"error: {table}: " in stderr, message in stderr) == (2, True, True), stderr
    assert (networks_runs, (out / "b.json").exists()) == ([], False)
    table.write_text(text, "utf-8-sig")
    assert predict(slides / "b.svs", "--out", out, "--formats", "csv")[0] == 0
    assert [row["image"] for row in summary(out)] == [str(slides / "a.svs"), str(slides / "b.svs")]


def test_slides_named_another_way_are_the_same_slides(predict, slides, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert predict("in", "--out", "out", "--formats", "csv")[0] == 0
    assert "nothing to do" in predict(slides, "--out", "out", "--formats", "csv", "--skip-existing")[1]
    assert [(row["image"], row["record"]) for row in summary(tmp_path / "out")] == [("in/a.svs", "a.json"),
                                                                                   ("in/b.svs", "b.json")]
    assert predict(slides / "a.svs", "--out", "out", "--formats", "csv", "--overwrite")[0] == 0
    assert [row["image"] for row in summary(tmp_path / "out")] == ["in/b.svs", str(slides / "a.svs")]
    table = (tmp_path / "out" / "slides.csv").read_text().replace(",record", ",was_not_there_before")
    (tmp_path / "out" / "slides.csv").write_text(table)
    assert predict(slides / "a.svs", "--out", "out", "--formats", "csv", "--overwrite")[0] == 0
    assert [row["image"] for row in summary(tmp_path / "out")] == ["in/b.svs", str(slides / "a.svs")]


def test_one_that_fails_is_told_and_the_rest_go_on(predict, slides, tmp_path, monkeypatch):
    write_slide(slides / "c.svs", np.full((200, 200, 3), 240, np.uint8), levels=1, description=aperio(0.5))
    write_slide(slides / "d.svs", texture((300, 300)), levels=1, description=aperio(None))
    (slides / "e.svs").write_bytes(b"no slide at all, whatever it is called")
    out = tmp_path / "out"
    status, stdout, stderr = predict(slides, "--out", out, "--formats", "csv")
    assert status == 1
    assert "segmented: 2, failed: 3" in stdout
    errors = {row["image"].rsplit("/", 1)[1]: row["error"] for row in summary(out)}
    assert errors["a.svs"] == errors["b.svs"] == ""
    for name, message in (("c.svs", "no tissue found"), ("d.svs", "states no pixel size"),
                          ("e.svs", "no slide that can be read")):
        assert message in errors[name]
        assert message in stderr
        assert "error" in json.loads((out / name.replace("svs", "json")).read_text())
    network = GlandSegmenter.network
    monkeypatch.setattr(GlandSegmenter, "network", lambda self, tiling: (_ for _ in ()).throw(MemoryError()))
    assert "not enough memory" in predict(slides / "d.svs", "--out", out, "--formats", "csv", "--mpp", 0.5)[2]
    monkeypatch.setattr(GlandSegmenter, "network", network)
    status, stdout, _ = predict(slides / "[ad].svs", "--out", out, "--formats", "csv", "--mpp", 0.5, "--skip-existing")
    assert (status, "failed: 0" in stdout) == (0, True)
    assert sum(row["error"] == "" for row in summary(out)) == 3
    assert len(summary(out)) == 5


@pytest.mark.parametrize("option", ["--skip-existing", "--overwrite"])
@pytest.mark.parametrize("length", [246, 251])  # room for a record, and not even for that
def test_a_slide_whose_name_is_too_long_is_told_and_the_rest_go_on(predict, slides, tmp_path, networks_runs, option, length):
    long, out = slides / f"{'a' * length}.svs", tmp_path / "out"
    (slides / "a.svs").rename(long)
    status, stdout, stderr = predict(slides, "--out", out, "--formats", "csv", option)
    assert (status, "segmented: 1, failed: 1" in stdout, len(networks_runs)) == (1, True, 1), stderr
    message = f"{long}: its name is too long for the names of its results; give the file a shorter one"
    assert f"error: {message}" in stderr
    assert {row["image"]: row["error"] for row in summary(out)} == {str(long): message, str(slides / "b.svs"): ""}
    assert (f"{'a' * length}.json" in files(out)) == (length == 246)
    assert predict(slides, "--out", out, "--formats", "csv", option)[0] == 1
    assert len(summary(out)) == 2


@pytest.mark.parametrize("option", ["--skip-existing", "--overwrite"])
@pytest.mark.parametrize("lost", ["b.svs", "region.geojson"])
def test_what_is_finished_stays_where_the_slide_is_no_longer_there(predict, slides, tmp_path, option, lost):
    square = {"type": "Polygon", "coordinates": [[[100, 70], [228, 70], [228, 198], [100, 198], [100, 70]]]}
    (slides / "region.geojson").write_text(json.dumps(square))
    table, out = slides / "cohort.csv", tmp_path / "out"
    table.write_text("path,roi\na.svs,\nb.svs,region.geojson\n")
    assert predict(table, "--out", out)[0] == 0
    before = files(out)
    (slides / lost).unlink()
    status, stdout, stderr = predict(table, "--out", out, option)
    assert (status, f"error: {slides / lost}: " in stderr, "o such file" in stderr) == (1, True, True), stderr
    assert "; its results of before stay as they are" in stderr
    assert f"segmented: {0 if option == '--skip-existing' else 1}" in stdout
    assert "failed: 1" in stdout
    now = files(out)
    kept = [name for name in before if name.startswith("b")] + (["slides.csv"] if option == "--skip-existing" else [])
    assert len(kept) >= len(ENDINGS)
    assert {name: now.get(name) for name in kept} == {name: before[name] for name in kept}
    assert [row["error"] for row in summary(out)] == ["", ""]


def test_two_processes_share_the_slides_and_both_know_of_one_that_failed(predict, model, slides, tmp_path):
    out, words = tmp_path / "out", ["--model", str(model), "--formats", "csv", "--device", "cpu"]
    assert predict(slides, "--out", out, *words)[0] == 0
    (slides / "a.svs").rename(slides / "lost.svs")
    shared = [str(slides / "a.svs"), str(slides / "b.svs"), "--out", str(out), *words, "--tile-px", "128", "--overwrite",
              "--min-gland-um2", "0", "--min-confidence", "0"]
    processes = start_together(2, run_script, "predict.py", shared)
    assert [process.wait() for process in processes] == [1, 1], [process.stderr for process in processes]
    assert "segmented: 1, failed: 1" in processes[0].stdout
    assert sum(process.stderr.count("its results of before stay") for process in processes) == 1
    assert [row["error"] for row in summary(out)] == ["", ""]


def test_an_interrupted_slide_begins_anew_and_ends_the_same(predict, slides, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict(slides, "--out", whole)
    from hf_gland.inference.slides.outputs import SlideOutputs

    with monkeypatch.context() as patch:
        patch.setattr(SlideOutputs, "finish", lambda self, record: (_ for _ in ()).throw(KeyboardInterrupt()))
        assert predict(slides, "--out", out)[0] == 130
        assert set(files(out)) == set()
        patch.setattr(SlideOutputs, "finish", lambda self, record: (_ for _ in ()).throw(OSError(errno.ENOSPC, "disk full")))
        status, _, stderr = predict(slides, "--out", out)
        assert (status, "disk full" in stderr) == (2, True)
    assert predict(slides, "--out", out, "--skip-existing")[0] == 0
    one, other = files(whole), files(out)
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name] and not name.endswith((".json", "slides.csv"))] == []


def test_two_runs_in_one_folder_do_not_work_at_the_same_time(predict, slides, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    hold = ("import sys, pathlib; from hf_gland.locks import only_writer\n"
            "with only_writer(pathlib.Path(sys.argv[1])): print(1, flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", hold, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        status, _, stderr = predict(slides, "--out", out)
        other.communicate(b"\n")
    assert (status, "is writing there" in stderr) == (2, True)
    out.mkdir(exist_ok=True)
    (out / ".slides.csv.part").write_text("half a ta")  # of a run killed as it wrote
    status, _, stderr = predict(slides / "a.svs", "--out", out, "--formats", "csv", "instances", "heatmap")
    assert status == 0
    assert "note: instances, heatmap: not written of slides" in stderr
    assert not (out / ".slides.csv.part").exists()
