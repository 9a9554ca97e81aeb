"""scripts/predict.py, from the command line to the files it leaves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tiny_model import save_tiny_model

from hf_gland.cli import predict as predict_command
from hf_gland.export.formats import FORMATS
from hf_gland.export.geojson_masks import masks_from_geojson

SCRIPT = Path(__file__).parents[2] / "scripts" / "predict.py"


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
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
        try:
            status = predict_command.main()
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()
    return run


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_gives_every_format_for_every_image(predict, images, tmp_path):
    out = tmp_path / "out"
    status, stdout, stderr = predict(images, "--out", out, "--formats", *FORMATS, "--min-gland-um2", 0)
    assert status == 0
    assert "error" not in stderr
    assert set(tree(out)) == {"predictions.json",
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


def test_its_own_output_inside_the_input_is_not_segmented(predict, images):
    out = images / "predictions"
    assert predict(images, "--out", out)[0] == 0
    status, stdout, _ = predict(images, "--out", out, "--overwrite")
    assert status == 0
    assert "segmented: 2," in stdout


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
    (["--model", "no/such/folder"], "no such folder"),
])
def test_mistakes_are_told_plainly(predict, images, tmp_path, arguments, message):
    status, _, stderr = predict(images, "--out", tmp_path / "out", *arguments)
    assert status == 2
    assert message in stderr
    assert not list((tmp_path / "out").rglob("*.png"))


def test_from_a_shell_a_mistake_gives_status_2_and_no_stack_trace(tmp_path):
    done = subprocess.run([sys.executable, str(SCRIPT), str(tmp_path), "--model", "x", "--out", str(tmp_path / "o")],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"error: {tmp_path}: holds no image (png, jpg, jpeg, tif, tiff, bmp, webp)"]
