"""scripts/predict.py, from the command line to the files it leaves."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from processes import run_script, start
from tiny_model import save_tiny_model

from hf_gland.cli import predict as predict_command
from hf_gland.cli.main import run_command
from hf_gland.export import formats
from hf_gland.export.formats import FORMATS
from hf_gland.export.geojson_masks import masks_from_geojson
from hf_gland.files import write_atomically
from hf_gland.imaging.appearance import learn_appearance


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model"), mpp=0.5)


@pytest.fixture
def images(tmp_path):
    """Two images in a folder, one of them deeper, and a text file that calls itself an image."""
    folder = tmp_path / "slides"
    for name, hw in (("a.png", (64, 96)), ("deep/b.tif", (80, 64))):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(len(name))
        coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
        coarse.resize(hw[::-1], Image.Resampling.BICUBIC).save(path)
    (folder / "notes.txt").write_text("not an image, and does not say so")
    return folder


@pytest.fixture
def predict(model, monkeypatch, capsys):
    """`predict(arguments…)` runs the script on the model; returns exit status, stdout and stderr."""
    monkeypatch.setenv("HF_GLAND_THREADS", "1")
    def run(*arguments, mpp="0.5"):
        defaults = ["--model", str(model), *(["--mpp", mpp] if mpp else [])]
        words = [str(arguments[0]), *defaults, *map(str, arguments[1:])]  # of an option given twice the last counts
        try:
            status = run_command("predict", words)
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()
    run.model = model
    return run


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_gives_every_format_for_every_image(predict, images, tmp_path):
    out = tmp_path / "out"
    status, stdout, stderr = predict(images, "--out", out, "--formats", *FORMATS, "--min-gland-um2", 0,
                                     "--min-confidence", 0)
    assert status == 0
    assert "error" not in stderr
    assert set(tree(out)) == {"predictions.json", "glands.csv",
                              *(stem + f.ending for stem in ("a", "deep/b") for f in FORMATS.values())}
    record = json.loads((out / "predictions.json").read_text("utf-8"))
    total = 0
    for path, hw in ((images / "a.png", (64, 96)), (images / "deep/b.tif", (80, 64))):
        stem = out / path.relative_to(images).with_suffix("")
        mask = np.asarray(Image.open(f"{stem}_mask.png"))
        instances, classes = masks_from_geojson(f"{stem}.geojson", hw, outside=0)
        table = pd.read_csv(f"{stem}_glands.csv")
        assert np.array_equal(classes, mask)
        assert np.array_equal(instances, np.asarray(Image.open(f"{stem}_instances.png")))
        assert table["area_px"].sum() == (mask > 0).sum()
        assert table["area_um2"].sum() == pytest.approx((mask > 0).sum() * 0.25, rel=1e-4)
        entry = record["images"][str(path)]
        assert entry["glands"] == len(table)
        assert (entry["height_px"], entry["width_px"]) == hw
        assert all((out / file).is_file() for file in entry["files"])
        assert f"{path}: glands: {len(table)}" in stdout
        total += len(table)
    assert f"segmented: 2, failed: 0, glands: {total}; written to {out}" in stdout
    combined = pd.read_csv(out / "glands.csv")
    assert len(combined) == total > 2
    for path in (images / "a.png", images / "deep/b.tif"):
        alone = pd.read_csv(f"{out / path.relative_to(images).with_suffix('')}_glands.csv")
        rows = combined[combined["image"] == str(path)].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows.drop(columns="image"), alone.drop(columns="image"))


def test_a_bad_file_is_reported_and_the_rest_goes_on(predict, images, tmp_path):
    (images / "a0_broken.png").write_text("no image")
    status, stdout, stderr = predict(images, "--out", tmp_path / "out")
    assert status == 1
    assert "segmented: 2, failed: 1" in stdout
    assert "a0_broken.png: not an image" in stderr
    record = json.loads((tmp_path / "out" / "predictions.json").read_text("utf-8"))
    assert "not an image" in record["images"][str(images / "a0_broken.png")]["error"]
    assert not list((tmp_path / "out").glob("a0_broken*"))


def test_results_are_never_clobbered_unasked(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images, "--out", out)[0] == 0
    before = tree(out)
    status, _, stderr = predict(images, "--out", out)
    assert status == 2
    assert "exists already" in stderr
    assert "--skip-existing" in stderr
    assert tree(out) == before
    assert predict(images, "--out", out, "--overwrite", "--threshold", 0.01)[0] == 0
    assert tree(out)["a_mask.png"] != before["a_mask.png"]


def test_a_picture_that_fails_leaves_no_results_that_look_current(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images, "--out", out)[0] == 0
    before = tree(out)
    (images / "a.png").write_text("no image any more")
    status, stdout, _ = predict(images, "--out", out, "--skip-existing")
    assert (status, "segmented: 0, skipped: 1, failed: 1" in stdout) == (1, True)
    assert tree(out).keys() == {name for name in before if not name.startswith("a")}
    (out / "a.geojson").write_text("of nobody knows what")
    status, stdout, _ = predict(images, "--out", out, "--overwrite")
    assert (status, "segmented: 1, failed: 1" in stdout) == (1, True)
    assert tree(out).keys() == {name for name in before if not name.startswith("a")}


def test_results_in_another_format_are_kept_as_long_as_they_are_of_the_same_run(predict, images, tmp_path):
    out, words = tmp_path / "out", [images / "a.png", "--out", tmp_path / "out", "--min-confidence", 0, "--formats"]
    assert predict(*words, "geojson", "csv")[0] == 0
    first = tree(out)
    assert predict(*words, "mask")[0] == 0
    entry, = json.loads((out / "predictions.json").read_text())["images"].values()
    assert entry["files"].keys() == {"a.geojson", "a_glands.csv", "a_mask.png"}
    assert {name: content for name, content in tree(out).items() if name in ("a.geojson", "a_glands.csv")} == {
        name: first[name] for name in ("a.geojson", "a_glands.csv")}
    (out / "a.geojson").write_text("mended by hand")
    assert predict(*words, "mask", "--overwrite", "--min-gland-um2", 0)[0] == 0
    assert tree(out).keys() == {"a.geojson", "a_mask.png", "glands.csv", "predictions.json"}
    assert (out / "a.geojson").read_text() == "mended by hand"
    (out / "a.geojson").unlink()
    status, stdout, stderr = predict(*words, "geojson", "mask", "--skip-existing", "--min-gland-um2", 0)
    assert (status, "segmented: 1" in stdout) == (0, True), stderr
    Image.open(images / "a.png").rotate(180).save(images / "a.png")
    assert predict(*words, "csv", "--min-gland-um2", 0)[0] == 0
    assert tree(out).keys() == {"a_glands.csv", "glands.csv", "predictions.json"}


@pytest.mark.parametrize("option", ["--skip-existing", "--overwrite"])
def test_what_is_finished_stays_where_the_picture_is_no_longer_there(predict, images, tmp_path, option):
    out, table, lost = tmp_path / "out", images / "cohort.csv", images / "a.png"
    table.write_text("path\na.png\ndeep/b.tif\n")
    assert predict(table, "--out", out, "--min-gland-um2", 0, "--min-confidence", 0)[0] == 0
    before, rows = tree(out), pd.read_csv(out / "glands.csv")
    record = json.loads((out / "predictions.json").read_text("utf-8"))["images"]
    lost.unlink()
    status, stdout, stderr = predict(table, "--out", out, "--min-gland-um2", 0, "--min-confidence", 0, option)
    assert (status, "failed: 1" in stdout) == (1, True)
    assert f"error: {lost}: cannot be read; its results of before stay as they are" in stderr
    assert set(rows["image"]) == {str(lost), str(images / "deep" / "b.tif")}
    pd.testing.assert_frame_equal(pd.read_csv(out / "glands.csv"), rows)
    assert json.loads((out / "predictions.json").read_text("utf-8"))["images"][str(lost)] == record[str(lost)]
    assert {name: content for name, content in tree(out).items() if name.startswith("a")} == {
        name: content for name, content in before.items() if name.startswith("a")}


def test_a_stopped_run_goes_on_with_what_is_missing(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images, "--out", out)[0] == 0
    whole = tree(out)
    (out / "deep" / "b_mask.png").unlink()
    kept = (out / "a_mask.png").stat().st_mtime_ns
    status, stdout, _ = predict(images, "--out", out, "--skip-existing")
    assert status == 0
    assert "segmented: 1, skipped: 1" in stdout
    again = tree(out)
    assert sorted(again.pop("glands.csv").splitlines()) == sorted(whole.pop("glands.csv").splitlines())
    for files in (whole, again):
        files.pop("predictions.json")  # it notes the seconds
    assert again == whole
    assert (out / "a_mask.png").stat().st_mtime_ns == kept
    assert set(json.loads((out / "predictions.json").read_text("utf-8"))["images"]) == {
        str(images / "a.png"), str(images / "deep/b.tif")}
    assert "nothing to do" in predict(images, "--out", out, "--skip-existing")[1]


def test_results_of_other_settings_are_not_mixed(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images / "a.png", "--out", out)[0] == 0
    status, _, stderr = predict(images, "--out", out, "--skip-existing", mpp="0.25")
    assert status == 2
    assert "other settings (mpp)" in stderr
    assert not (out / "deep").exists()


@pytest.mark.parametrize(("option", "setting"), [
    (["--threshold", 0.2], "post_processing.gland_threshold"), (["--views", 2], "tiling.views"),
    (["--stride-px", 100], "tiling.stride_px"), (["--unsure-below", 0.5], "export.unsure_below")])
def test_skipping_goes_by_the_settings(predict, images, tmp_path, option, setting):
    out = tmp_path / "out"
    assert predict(images, "--out", out)[0] == 0
    status, stdout, stderr = predict(images, "--out", out, "--skip-existing", *option)
    assert (status, stdout) == (2, "")
    assert f"other settings ({setting})" in stderr
    assert "nothing to do" in predict(images, "--out", out, "--skip-existing", "--batch-size", 1)[1]


def test_skipping_goes_by_the_model(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images, "--out", out)[0] == 0
    other = save_tiny_model(tmp_path / "other", mpp=0.5)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"confidence_temperature": 2.0}))
    status, _, stderr = predict(images, "--out", out, "--skip-existing", "--model", other)
    assert status == 2
    assert "other settings (temperature" in stderr


def test_another_picture_of_the_same_name_is_segmented_again(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images, "--out", out)[0] == 0
    before = tree(out)
    Image.new("RGB", (50, 40), "white").save(images / "a.png")
    status, stdout, stderr = predict(images, "--out", out, "--skip-existing")
    assert status == 0
    assert "segmented: 1, skipped: 1" in stdout
    assert "1 images are segmented again" in stderr
    assert Image.open(out / "a_mask.png").size == (50, 40)
    assert tree(out)["deep/b_mask.png"] == before["deep/b_mask.png"]
    rows = pd.read_csv(out / "glands.csv")
    record = json.loads((out / "predictions.json").read_text("utf-8"))["images"]
    assert rows.groupby("image").size().to_dict() == {i: e["glands"] for i, e in record.items() if e["glands"]}
    assert "nothing to do" in predict(images, "--out", out, "--skip-existing")[1]


def test_pictures_named_another_way_are_the_same_pictures(predict, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, options = tmp_path / "out", ["--min-gland-um2", 0, "--min-confidence", 0]

    def known():
        record = json.loads((out / "predictions.json").read_text("utf-8"))["images"]
        counts = pd.read_csv(out / "glands.csv").groupby("image").size().to_dict()
        assert counts == {image: entry["glands"] for image, entry in record.items() if entry["glands"]}
        return set(record)

    assert predict("slides", "--out", out, "--formats", "csv", *options)[0] == 0
    assert known() == {"slides/a.png", "slides/deep/b.tif"}
    before = tree(out)
    assert "nothing to do" in predict(images, "--out", out, "--formats", "csv", "--skip-existing", *options)[1]
    assert tree(out) == before
    Image.open(images / "a.png").rotate(180).save(images / "a.png")
    assert "segmented: 1, skipped: 1" in predict(images, "--out", out, "--formats", "csv", "--skip-existing", *options)[1]
    assert known() == {str(images / "a.png"), "slides/deep/b.tif"}
    assert predict(Path("slides", "..", "slides"), "--out", out, "--formats", "mask", *options)[0] == 0
    assert known() == {"slides/../slides/a.png", "slides/../slides/deep/b.tif"}


def test_results_that_the_record_does_not_know_are_neither_taken_on_trust_nor_replaced(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images, "--out", out)[0] == 0
    (out / "predictions.json").unlink()
    (out / "deep" / "b.geojson").write_text("drawn by hand")
    before = tree(out)
    status, _, stderr = predict(images, "--out", out, "--skip-existing")
    assert (status, f"error: {out / 'a.geojson'}: exists already, and no record in {out} tells of it" in stderr) == (2, True)
    assert tree(out) == before
    assert "segmented: 2, failed" in predict(images, "--out", out, "--overwrite")[1]
    assert tree(out)["deep/b.geojson"] != before["deep/b.geojson"]


def test_results_that_were_mended_are_not_replaced_unasked(predict, images, tmp_path):
    out = tmp_path / "out"
    assert predict(images, "--out", out)[0] == 0
    (out / "a.geojson").write_text("mended by hand")
    before = tree(out)
    assert "nothing to do" in predict(images, "--out", out, "--skip-existing")[1]
    for name in ("a.png", "deep/b.tif"):
        Image.new("RGB", (50, 40), "white").save(images / name)
    status, stdout, stderr = predict(images, "--out", out, "--skip-existing")
    assert (status, "segmented: 1, failed: 1" in stdout) == (1, True)
    assert f"error: {images / 'a.png'}: {out / 'a.geojson'} is no longer as it was written and is not replaced" in stderr
    now = tree(out)
    assert {name for name in before if now[name] != before[name] and name.startswith("a")} == set()
    assert now["deep/b_mask.png"] != before["deep/b_mask.png"]
    images_before, images_now = (json.loads(one["predictions.json"])["images"] for one in (before, now))
    assert images_now[str(images / "a.png")] == images_before[str(images / "a.png")]
    (out / "a.geojson").rename(tmp_path / "kept.geojson")
    assert "segmented: 1, skipped: 1" in predict(images, "--out", out, "--skip-existing")[1]


def die_after_four(words):
    finish, calls = predict_command.finish, iter(range(5))

    def dies(*arguments):
        if next(calls) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return finish(*arguments)

    predict_command.finish = dies
    run_command("predict", words)


def test_a_killed_run_loses_nothing_that_was_finished(predict, images, tmp_path):
    """Killed by the system, for which no program can prepare."""
    out = tmp_path / "out"
    for i in range(4):
        shutil.copy(images / "a.png", images / f"z{i}.png")
    died = start(die_after_four, [str(images), "--model", str(predict.model), "--mpp", "0.5", "--out", str(out)])
    assert died.wait() == -signal.SIGKILL, died.stderr
    assert sum("image" in json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()) == 4
    with (out / "predictions.jsonl").open("a") as journal, (out / "glands.csv").open("a") as table:
        journal.write('{"image": "cut')
        table.write(f"{images / 'z3.png'},1,1,gland")
    status, stdout, _ = predict(images, "--out", out, "--skip-existing")
    assert (status, stdout.count("skipped: 4")) == (0, 1)
    record = json.loads((out / "predictions.json").read_text("utf-8"))
    assert len(record["images"]) == 6
    assert not (out / "predictions.jsonl").exists()
    table = pd.read_csv(out / "glands.csv")
    assert table.groupby("image").size().to_dict() == {
        image: entry["glands"] for image, entry in record["images"].items() if entry["glands"]}
    assert not table.isna().any().any()


def test_a_full_disk_ends_the_run_and_what_was_finished_stays_known(predict, images, tmp_path, monkeypatch):
    write, out = predict_command.write_outputs, tmp_path / "out"

    def full(stem, *arguments):
        if stem.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device", str(stem))
        return write(stem, *arguments)

    monkeypatch.setattr(predict_command, "write_outputs", full)
    status, _, stderr = predict(images, "--out", out)
    assert status == 2
    assert "No space left on device" in stderr
    assert set(json.loads((out / "predictions.json").read_text("utf-8"))["images"]) == {str(images / "a.png")}


@pytest.mark.parametrize("again", [False, True])
def test_a_run_stopped_as_it_wrote_goes_on_over_what_it_left(predict, images, tmp_path, monkeypatch, again):
    out, written, options = tmp_path / "out", [], ["--min-gland-um2", 0, "--min-confidence", 0]
    if again:
        assert predict(images, "--out", out, *options)[0] == 0
        for name in ("a.png", "deep/b.tif"):
            Image.open(images / name).rotate(180).save(images / name)

    def stopped(path, write):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write_atomically(path, write)

    with monkeypatch.context() as patch:
        patch.setattr(formats, "write_atomically", stopped)
        assert predict(images, "--out", out, "--skip-existing", *options)[0] == 130
    assert all(path.exists() for path in written[:2])
    assert "unfinished" in json.loads((out / "predictions.json").read_text("utf-8"))
    status, stdout, stderr = predict(images, "--out", out, "--skip-existing", *options)
    assert (status, "segmented: 2, failed: 0" in stdout) == (0, True), stderr
    assert predict(images, "--out", tmp_path / "whole", *options)[0] == 0
    now, whole = tree(out), tree(tmp_path / "whole")
    assert json.loads(now.pop("predictions.json")).keys() == json.loads(whole.pop("predictions.json")).keys()
    assert now == whole


@pytest.mark.parametrize("name", [b"b\xe9.png", b"n" * 246 + b".png"])
def test_a_strange_name_stops_nobody(predict, images, tmp_path, name):
    path = Path(os.fsdecode(bytes(images) + b"/" + name))
    shutil.copy(images / "a.png", path)
    status, stdout, stderr = predict(images, "--out", tmp_path / "out")
    record = json.loads((tmp_path / "out" / "predictions.json").read_text("utf-8"))["images"]
    assert len(record) == 3
    assert "segmented: 3, failed: 0" in stdout or "segmented: 2, failed: 1" in stdout
    if name.startswith(b"b"):
        assert status == 0
        assert record[f"{images}/b\\xe9.png"]["glands"] == record[str(images / "a.png")]["glands"]
    else:
        assert status == 1
        assert "its name is too long" in stderr


def test_damaged_files_are_named_and_the_rest_goes_on(predict, images, tmp_path):
    whole = (images / "a.png").read_bytes()
    text = PngInfo()
    text.add_text("note", "x" * 3_000_000, zip=True)
    Image.open(images / "a.png").save(images / "bomb.png", pnginfo=text)
    (images / "cut.png").write_bytes(whole[:len(whole) // 2])
    Image.open(images / "a.png").save(images / "j.jpg")
    damaged = bytearray((images / "j.jpg").read_bytes())
    start = damaged.index(b"\xff\xc0")
    damaged[start + 2:start + 4] = b"\0\3"  # the header of the frame is too short to hold a size
    (images / "j.jpg").write_bytes(damaged)
    status, stdout, stderr = predict(images, "--out", tmp_path / "out")
    assert status == 1
    assert "segmented: 2, failed: 3" in stdout
    for name in ("bomb.png", "cut.png", "j.jpg"):
        assert stderr.count(f"error: {images / name}: ") == 1
    assert (tmp_path / "out" / "deep" / "b_mask.png").exists()


def test_glands_left_out_as_unsure_are_counted(predict, images, tmp_path):
    counts = []
    for bound in (0, 1):
        _, stdout, _ = predict(images / "a.png", "--out", tmp_path / str(bound), "--min-gland-um2", 0,
                               "--min-confidence", bound)
        entry = json.loads((tmp_path / str(bound) / "predictions.json").read_text())["images"][str(images / "a.png")]
        counts.append((entry["glands"], entry["glands_left_out"]))
    assert counts[0][0] > 0
    assert counts == [(counts[0][0], 0), (0, counts[0][0])]
    assert f"a.png: glands: 0 ({counts[0][0]} more left out as unsure), on 0.0% of the area" in stdout


def test_what_is_left_out_is_said(predict, images, tmp_path):
    (images / ".cache").mkdir()
    shutil.copy(images / "a.png", images / ".cache" / "h.png")
    (images / "linked").symlink_to(images / "deep")
    status, stdout, stderr = predict(images, "--out", tmp_path / "out")
    assert status == 0
    assert "segmented: 2," in stdout
    for words in ("notes.txt", "hidden: ", "a link to another folder"):
        assert words in stderr


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_results_count_the_pixels_that_the_file_stores(predict, tmp_path, orientation):
    rgb = np.full((64, 96, 3), 250, np.uint8)
    rgb[:20, :50] = (90, 30, 120)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(rgb).save(tmp_path / "slide.png", exif=exif)
    out = tmp_path / "out"
    status, stdout, _ = predict(tmp_path / "slide.png", "--threshold", 0, "--out", out, "--formats", "geojson", "mask",
                                "overlay", "--keep-joined")
    assert status == 0
    assert Image.open(out / "slide_mask.png").size == Image.open(out / "slide_overlay.png").size == (96, 64)
    features = json.loads((out / "slide.geojson").read_text())["features"]
    (ring,) = features[0]["geometry"]["coordinates"]
    assert np.max(ring, axis=0).tolist() == [96, 64]
    entry = json.loads((out / "predictions.json").read_text("utf-8"))["images"][str(tmp_path / "slide.png")]
    assert entry["orientation"] == orientation
    assert ("as stored" in stdout) == ("as stored" in " ".join(entry["notes"])) == (orientation != 1)


def test_what_a_large_picture_takes_is_said_before_it_starts(predict, images, tmp_path, monkeypatch):
    monkeypatch.setattr(predict_command, "LARGE_PX", 5000)
    _, _, stderr = predict(images, "--out", tmp_path / "out", "--tile-px", 48)
    assert "2 of the pictures are large; the largest, " in stderr
    assert "a.png, has 96×64 px: 6 tiles, and about 0.0 GB of memory" in stderr
    monkeypatch.setattr(predict_command, "LARGE_PX", 7000)
    assert "are large" not in predict(images, "--out", tmp_path / "out2")[2]


def test_a_pixel_size_that_the_file_contradicts_is_noted(predict, images, tmp_path):
    Image.open(images / "a.png").save(images / "own.tif", dpi=(101_600, 101_600))  # 0.25 µm
    _, stdout, _ = predict(images, "--out", tmp_path / "out")
    assert stdout.count("The file states 0.25 µm per pixel, not 0.5.") == 1


def test_a_picture_stained_otherwise_than_the_training_images_is_told(predict, images, tmp_path):
    usual = np.asarray(Image.open(images / "a.png")).astype(float)
    rng = np.random.default_rng(0)
    learned = learn_appearance([(usual * rng.normal(1, 0.03, 3)).clip(0, 255).astype(np.uint8) for _ in range(20)])
    model = shutil.copytree(predict.model, tmp_path / "told")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"training_appearance": learned.to_json()}))
    Image.fromarray((usual[..., ::-1] // 2).astype(np.uint8)).save(images / "other.png")
    (images / "deep" / "b.tif").unlink()
    status, stdout, stderr = predict(images, "--out", tmp_path / "out", "--model", model)
    assert status == 0, stderr
    told = json.loads((tmp_path / "out" / "predictions.json").read_text("utf-8"))["images"]
    assert {Path(name).name: [note for note in entry["notes"] if "unlike that of the training images" in note] != []
            for name, entry in told.items()} == {"a.png": False, "other.png": True}
    assert stdout.count("unlike that of the training images") == 1


def test_the_stride_is_three_quarters_of_a_tile(predict, images, tmp_path):
    assert predict(images / "a.png", "--out", tmp_path / "out", "--tile-px", "64")[0] == 0
    record = json.loads((tmp_path / "out" / "predictions.json").read_text("utf-8"))
    assert (record["settings"]["tiling"]["tile_px"], record["settings"]["tiling"]["stride_px"]) == (64, 48)


def test_its_own_output_inside_the_input_is_not_segmented(predict, images):
    out = images / "predictions"
    assert predict(images, "--out", out)[0] == 0
    status, stdout, _ = predict(images, "--out", out, "--overwrite")
    assert status == 0
    assert "segmented: 2," in stdout


@pytest.mark.parametrize("linked", [False, True])
def test_the_folder_of_the_results_is_no_input(predict, images, tmp_path, linked):
    out = images
    if linked:
        out = tmp_path / "link"
        out.symlink_to(images)
    before = tree(images)
    for source in (images, images / "*.png", images / "**"):
        status, _, stderr = predict(source, "--out", out)
        assert (status, "give --out a folder of its own" in stderr) == (2, True), stderr
    assert tree(images) == before
    assert predict(images / "deep" / "*.tif", "--out", out)[0] == 0  # nothing of it is written there


def test_a_pattern_that_reaches_into_the_results_leaves_them_out(predict, images):
    pattern, out = images / "**" / "*.*[gf]", images / "deep" / "predictions"
    assert "segmented: 2, failed: 0" in predict(pattern, "--out", out, "--formats", "mask", "overlay")[1]
    status, stdout, stderr = predict(pattern, "--out", out, "--formats", "mask", "overlay", "--skip-existing")
    assert (status, "nothing to do: the results of all 2 images" in stdout) == (0, True), stderr


def test_a_missing_pixel_size_is_said_once(predict, images, tmp_path):
    status, _, stderr = predict(images, "--out", tmp_path / "out", mpp=None)
    assert status == 0
    assert stderr.count("assuming 0.5 µm per pixel") == 1
    assert pd.read_csv(tmp_path / "out" / "a_glands.csv")["area_um2"].isna().all()


def test_two_images_of_one_name_are_refused(predict, images, tmp_path):
    Image.new("RGB", (40, 40)).save(images / "a.jpg")
    status, _, stderr = predict(images, "--out", tmp_path / "out")
    assert status == 2
    assert "would both be written as a" in stderr


@pytest.mark.parametrize(("arguments", "message"), [
    (["--mpp", "250"], "not a plausible pixel size"),
    (["--threshold", "7"], "gland_threshold must lie between 0 and 1"),
    (["--tile-px", "8"], "tiles of 8 px"),
    (["--simplify-px", "-1"], "simplify_px must be"),
    (["--formats", "pdf"], "invalid choice"),
    (["--precision", "int4"], "precision must be one of"),
    (["--model", "no/such/folder"], "no such folder"),
])
def test_mistakes_are_told_plainly(predict, images, tmp_path, arguments, message):
    status, _, stderr = predict(images, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert message in stderr
    assert not list((tmp_path / "out").rglob("*.png"))


def test_from_a_shell_a_mistake_gives_status_2_and_no_stack_trace(tmp_path):
    done = start(run_script, "predict.py", [str(tmp_path), "--model", "x", "--out", str(tmp_path / "o")])
    assert done.wait() == 2
    assert done.stderr.splitlines() == [
        f"error: {tmp_path}: holds no image (png, jpg, jpeg, tif, tiff, bmp, webp, svs, ndpi, mrxs, scn, vms, vmu, svslide, "
        "bif, dcm, qptiff, isyntax, i2syntax, czi, vsi)"]


def test_overwriting_with_other_settings_keeps_what_is_not_redone(predict, images, tmp_path):
    out = tmp_path / "out"
    predict(images, "--out", out, "--formats", "csv", "--min-gland-um2", 0, "--min-confidence", 0)
    before = pd.read_csv(out / "glands.csv")
    status, _, _ = predict(images / "a.png", "--out", out, "--formats", "csv", "--min-gland-um2", 1, "--min-confidence", 0,
                           "--overwrite")
    assert status == 0
    after = pd.read_csv(out / "glands.csv")
    deep = str(images / "deep" / "b.tif")
    assert len(before[before.image == deep]) > 0
    assert before[before.image == deep].reset_index(drop=True).equals(after[after.image == deep].reset_index(drop=True))
    entries = json.loads((out / "predictions.json").read_text())["images"]
    assert entries[deep]["other_settings"] == {"post_processing.min_gland_area_um2": 0.0}
    assert "other_settings" not in entries[str(images / "a.png")]
    stdout = predict(images, "--out", out, "--formats", "csv", "--min-gland-um2", 1, "--min-confidence", 0,
                     "--skip-existing")[1]
    assert "segmented: 1, skipped: 1" in stdout
    assert not any("other_settings" in e for e in json.loads((out / "predictions.json").read_text())["images"].values())


@pytest.mark.parametrize("when", ["looking", "predicting"])
def test_a_picture_too_large_for_the_memory_does_not_end_the_batch(predict, images, tmp_path, monkeypatch, when):
    from hf_gland.inference import segmenter

    where, name = (segmenter.GlandSegmenter, "look") if when == "looking" else (segmenter, "picture_probabilities")
    real = getattr(where, name)

    def short_of_memory(first, second, *arguments):
        if when == "looking" and second.shape[0] == 64:
            raise MemoryError
        if when == "predicting" and second[0].shape[0] == 64:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return real(first, second, *arguments)

    monkeypatch.setattr(where, name, short_of_memory)
    status, stdout, stderr = predict(images, "--out", tmp_path / "out", "--formats", "csv")
    assert (status, "segmented: 1, failed: 1" in stdout) == (1, True)
    assert "a.png: too large for the memory of this machine" in stderr
