import base64
import io
import json
import runpy
import shlex
import sys
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gland_space.annotation import (
    AnnotationError,
    budget,
    build_command,
    dataset_file,
    decode_mask,
    encode_mask,
    geojson_file,
    make_drawing,
    mask_file,
)
from PIL import Image
from space_tools import discs
from training import forget_accelerator

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local, load_provenance
from hf_gland.errors import PixelSizeError
from hf_gland.imaging.pictures import Picture
from hf_gland.labels import MaskError

ROOT = Path(__file__).resolve().parents[2]


def picture(**options):
    pixels = discs(2)
    return Picture(pixels, "slide-1.png", **{"full_hw": pixels.shape[:2]} | options)


def drawn():
    mask = np.full((200, 260), 255, np.uint8)
    mask[30:70, 10:45] = 1
    mask[30:70, 60:100] = 1
    mask[120:125, 50:200] = 0
    return mask


def uri(mask, kind="PNG"):
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(mask[..., None], 3, 2)).save(buffer, kind)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def run_script(command, monkeypatch):
    """Run `python scripts/…` in this process; returns its exit status."""
    python, script, *words = shlex.split(command)
    assert python == "python"
    monkeypatch.setattr(sys, "argv", [script, *words])
    forget_accelerator()
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except SystemExit as end:
        return end.code
    finally:
        forget_accelerator()


def test_the_drawing_comes_through_exactly():
    assert np.array_equal(decode_mask(encode_mask(drawn()), picture(), 2), drawn())
    assert np.array_equal(decode_mask(uri(drawn()), picture(), 2), drawn())


@pytest.mark.parametrize(("text", "words"), [
    ("", "Nothing has been drawn"), (None, "Nothing has been drawn"), ("data:image/png;base64,****", "could not be read"),
    ("data:image/png;base64,aGVsbG8=", "could not be read"), (uri(drawn(), "JPEG"), "could not be read"),
    (uri(drawn()[:100]), "another picture")])
def test_a_drawing_that_cannot_be_used_says_why(text, words):
    with pytest.raises(AnnotationError, match=words):
        decode_mask(text, picture(), 2)


def test_labels_beyond_the_classes_are_refused():
    mask = drawn()
    mask[0, 0] = 7
    with pytest.raises(MaskError, match="mask values 7"):
        decode_mask(uri(mask), picture(), 2)


def test_the_budget_counts_glands_and_shares():
    text = budget(drawn(), 2)
    assert "2 glands outlined" in text
    gland, stroma = 40 * 75 / 52000, 5 * 150 / 52000
    assert f"{100 * (gland + stroma):.2f} % of the pixels labelled" in text
    assert f"({100 * gland:.2f} % gland, {100 * stroma:.2f} % stroma)" in text
    assert budget(np.full((9, 9), 255, np.uint8), 2) == "Nothing labelled yet."
    assert "add a stroke of stroma" in budget(np.where(drawn() == 0, 255, drawn()).astype(np.uint8), 2)


def test_the_mask_file_is_the_mask(tmp_path):
    path = mask_file(make_drawing(picture(), drawn(), "", "", None), tmp_path)
    assert path.name == "slide-1_sparse_mask.png"
    assert np.array_equal(np.asarray(Image.open(path)), drawn())


def test_the_drawing_as_geojson_is_in_pixels_of_the_file(tmp_path):
    drawing = make_drawing(picture(full_hw=(400, 520)), drawn(), "", "", None)
    features = json.loads(geojson_file(drawing, ("background", "benign gland"), tmp_path).read_text())["features"]
    found = [(f["properties"]["classification"]["name"], np.ptp(f["geometry"]["coordinates"][0], axis=0).tolist())
             for f in features]
    assert found == [("stroma", [300, 10]), ("benign gland", [70, 80]), ("benign gland", [80, 80])]


def test_what_is_downloaded_is_what_build_dataset_takes(tmp_path):
    full_hw = tuple(2 * side for side in discs(2).shape[:2])
    drawing = make_drawing(picture(full_hw=full_hw), drawn(), "biopsy-7", "P03", 0.25)
    with zipfile.ZipFile(dataset_file(drawing, ("background", "gland"), tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked")
    assert (tmp_path / "unpacked" / "README.txt").read_text().count(build_command(("background", "gland"))) == 1

    assert run_command("build_dataset", ["folder", "--root", str(tmp_path / "unpacked" / "annotations"), "--style", "as-is",
                                         "--out", str(tmp_path / "built")]) == 0
    for folder in (tmp_path / "built", tmp_path / "unpacked" / "dataset"):
        (row,) = load_local(folder)["train"]
        assert np.array_equal(np.asarray(row["image"]), discs(2))
        assert np.array_equal(np.asarray(row["sparse_mask"]), drawn())
        assert (row["mask"], row["instances"], row["total_glands"]) == (None, None, None)
        assert (row["image_id"], row["patient_id"], row["annotated_glands"]) == ("biopsy-7", "P03", 2)
        assert row["mpp"] == pytest.approx(0.5)  # of the reduced picture
        assert row["labelled_fraction"] == pytest.approx(float((drawn() != 255).mean()))
        assert load_provenance(folder)["class_names"] == ["background", "gland"]


@pytest.mark.parametrize(("stroma", "mpp"), [(True, None), (False, 0.5)])
def test_the_commands_of_the_readme_in_the_zip_train_a_model(tmp_path, monkeypatch, stroma, mpp):
    mask = drawn() if stroma else np.where(drawn() == 0, 255, drawn()).astype(np.uint8)
    drawing = make_drawing(picture(), mask, "", "", mpp)
    with zipfile.ZipFile(dataset_file(drawing, ("background", "gland"), tmp_path)) as archive:
        archive.extractall(tmp_path / "unpacked")
    monkeypatch.chdir(tmp_path / "unpacked")
    commands = [line for line in Path("README.txt").read_text().splitlines() if line.startswith("  python")]
    assert len(commands) == 2
    for command, quickly in zip(commands, ("", " --steps 2 --batch_size 2 --crop_px 64"), strict=True):
        assert run_script(command + quickly, monkeypatch) == 0
    assert Path("runs/mine/model/model.safetensors").is_file()


def test_several_classes_go_into_the_file_and_hostile_names_stay_words_of_the_command(tmp_path):
    mask = drawn()
    mask[30:70, 60:100] = 2
    names = ("background", "benign", "it's; $(touch evil)\n  python evil.py")
    with zipfile.ZipFile(dataset_file(make_drawing(picture(), mask, "a", "", None), names, tmp_path)) as archive:
        archive.extractall(tmp_path)
    (row,) = load_local(tmp_path / "dataset")["train"]
    assert (row["image_id"], row["mpp"]) == ("a", None)
    words = shlex.split(build_command(names))
    assert words[-6:-2] == ["--class-names", "background", "benign", "it's; $(touch evil) python evil.py"]
    lines = (tmp_path / "README.txt").read_text().splitlines()
    assert [line.split()[1] for line in lines if line.startswith("  python")] == ["scripts/build_dataset.py",
                                                                                  "scripts/train.py"]


@pytest.mark.parametrize(("image_id", "patient_id", "words"), [
    ("../x", "", "image id may hold"), ("a,b", "", "image id may hold"), ("a" * 81, "", "image id"),
    ("a", "P 1", "patient id"), ("a", "=1+1", "patient id"), ("a.", "", "image id"), ("é" * 41, "", "80 bytes"),
    ("a\nb", "", "image id"), ("nul", "", "device on Windows"), ("COM1.png", "", "device on Windows"),
    ("a", "<b>", "patient id"), ("a\u202eb", "", "image id")])
def test_ids_that_would_break_paths_or_tables_are_refused(image_id, patient_id, words):
    with pytest.raises(AnnotationError, match=words):
        make_drawing(picture(), drawn(), image_id, patient_id, None)


@pytest.mark.parametrize("identifier", ["007", "1e5", "nan", "NA", "null", "é" * 40, "_", "e\u0301"])
def test_ids_stay_the_text_that_was_typed(tmp_path, identifier):
    drawing = make_drawing(picture(), drawn(), identifier, identifier, None)
    with zipfile.ZipFile(dataset_file(drawing, ("background", "gland"), tmp_path)) as archive:
        archive.extractall(tmp_path)
    assert run_command("build_dataset", ["folder", "--root", str(tmp_path / "annotations"), "--style", "as-is",
                                         "--out", str(tmp_path / "built")]) == 0
    for folder in ("built", "dataset"):
        (row,) = load_local(tmp_path / folder)["train"]
        assert row["image_id"] == row["patient_id"] == unicodedata.normalize("NFC", identifier)


@pytest.mark.parametrize("mpp", [-1, 0, 1000, float("nan")])
def test_an_absurd_pixel_size_is_refused(mpp):
    with pytest.raises(PixelSizeError, match="not a plausible pixel size"):
        make_drawing(picture(), drawn(), "a", "", mpp)


def test_an_empty_drawing_is_refused():
    with pytest.raises(AnnotationError, match="Nothing has been drawn"):
        make_drawing(picture(), np.full((200, 260), 255, np.uint8), "a", "", None)
