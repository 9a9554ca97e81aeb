"""The README's commands for one's own images, read out of it and run as they stand, on small tiles with a small network."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import run_script, start
from slide_files import aperio, texture, write_slide
from tiny import NETWORK, picture
from tiny_model import assert_lines_agree, save_tiny_model

from hf_gland.export.polygons import region_polygons

README = Path(__file__).parents[1] / "README.md"
# What stands in for the README's recipe and its pretrained encoder, which would take minutes and a download.
SMALL = {"backbone": "random:segformer", "model_kwargs": json.dumps(NETWORK), "steps": 6, "batch_size": 2, "crop_px": 32,
         "refreshes": 1, "save_every": 0, "learning_rate": 1e-3, "mpp": 1.24}


def commands(marker: str) -> list[list[str]]:
    """The words of each command in the code block after `<!-- marker -->`."""
    block = re.search(rf"<!-- {marker} -->\n```bash\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert block is not None
    lines = block[1].replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip() and not line.startswith("#")]


def run(words: list[str]) -> tuple[int, str, str]:
    """A command of the README in a fork of a process that has the imports done; any launcher starts one process."""
    script = next(i for i, word in enumerate(words) if word.startswith("scripts/"))
    process = start(run_script, Path(words[script]).name, words[script + 1:])
    return process.wait(), process.stdout, process.stderr


@pytest.fixture
def thirty_tiles(tmp_path, monkeypatch):
    """my_images/ of ten patients, three tiles each, with masks of 0 and 255 and no word on the pixel size."""
    monkeypatch.chdir(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / "my_images" / name).mkdir(parents=True)
    for index in range(30):
        image, mask, _ = picture(index, 2)
        name = f"P{index // 3:02d}_tile{index % 3}.png"
        Image.fromarray(image).save(tmp_path / "my_images" / "images" / name)
        Image.fromarray(np.where(mask > 0, 255, 0).astype(np.uint8)).save(tmp_path / "my_images" / "masks" / name)
    (tmp_path / "small.json").write_text(json.dumps(SMALL))
    return tmp_path


def test_own_images_become_a_model_and_predictions_by_the_readmes_commands(thirty_tiles):
    shown = []
    for words in commands("own images"):
        words = ["small.json" if word == "bench" else word for word in words]
        status, stdout, stderr = run(words)
        assert status == 0, f"{shlex.join(words)}\n{stderr}"
        assert "Traceback" not in stderr
        shown.append(stdout + stderr)
    built, trained, measured, predicted = shown
    assert "255" in built
    assert "validation" in built
    assert "pixel size" in trained
    assert "runs/mine" in trained
    assert "mIoU" in measured
    assert list(Path("runs/mine/evaluation").glob("*_seed0.json"))
    assert len(list(Path("predictions").rglob("*.geojson"))) == 30
    assert "segmented: 30" in predicted


def test_the_lines_without_code_of_ours_give_the_same_glands(tmp_path):
    model = save_tiny_model(tmp_path / "model", mpp=0.5)
    assert_lines_agree(README.read_text("utf-8"), "runs/glas/model", model, "biopsy.png", tmp_path)


@pytest.fixture
def slides_and_outlines(tmp_path, monkeypatch):
    """slides/ with three pictures and drawn/ with their outlines as QuPath exports them: a gland, and a stroke of stroma."""
    monkeypatch.chdir(tmp_path)
    for name in ("slides", "drawn", "corrected"):
        (tmp_path / name).mkdir()
    for index in range(3):
        image, _, instances = (np.kron(array, np.ones((3, 3, 1)[:array.ndim], array.dtype)) for array in picture(index, 2))
        Image.fromarray(image).save(tmp_path / "slides" / f"s{index}.png", dpi=(50_800, 50_800))  # 0.5 µm per pixel
        outline = region_polygons(instances == 1)[0]
        gland = {"type": "Polygon", "coordinates": [ring.tolist() for ring in outline]}
        stroke = {"type": "LineString", "coordinates": [[2, 2], [image.shape[1] - 2, 2]]}
        features = [{"type": "Feature", "geometry": geometry, "properties": {
            "objectType": "annotation", "classification": {"name": name}}}
            for name, geometry in (("Gland", gland), ("Stroma", stroke))]
        (tmp_path / "drawn" / f"s{index}.geojson").write_text(json.dumps(features))
    (tmp_path / "small.json").write_text(json.dumps(SMALL | {"mpp": 0.5, "crop_px": 64}))
    return tmp_path


def correct(folder):
    """What a person does in QuPath: each suggestion gets a class, and all of an image is exported together."""
    for path in (folder / "drawn").glob("*.geojson"):
        suggested = json.loads((folder / "suggestions" / path.name).read_text())["features"]
        for feature, name in zip(suggested, ("Gland", "Ignore*"), strict=False):
            feature["properties"]["classification"]["name"] = name
        (folder / "corrected" / path.name).write_text(json.dumps(json.loads(path.read_text()) + suggested))


def test_the_loop_goes_round_by_the_readmes_commands(slides_and_outlines):
    shown = []
    for words in commands("the loop"):
        if "corrected" in words:
            correct(slides_and_outlines)
        words = ["small.json" if word in ("bench", "round") else word for word in words]
        status, stdout, stderr = run(words)
        assert status == 0, f"{shlex.join(words)}\n{stderr}"
        shown.append(stdout + stderr)
    built, _, predicted, suggested, rebuilt, _ = shown
    assert "3 / ?" in built
    assert "segmented: 3" in predicted
    assert "places on 3 of 3 images" in suggested
    assert "6 / ?" in rebuilt
    assert Path("runs/round-2/model/model.safetensors").exists()


def test_slides_by_the_readmes_commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny_model(tmp_path / "runs" / "glas" / "model", mpp=1.24)
    (tmp_path / "slides" / "deeper").mkdir(parents=True)
    for name, seed in (("CMU-1-Small-Region", 0), ("slides/a", 1), ("slides/deeper/b", 2)):
        write_slide(tmp_path / f"{name}.svs", texture((320, 400), seed), levels=2, description=aperio(1.0))
    square = [[30, 30], [200, 30], [200, 200], [30, 200], [30, 30]]
    (tmp_path / "regions.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [square]}))
    (tmp_path / "cohort.csv").write_text("path,mpp,roi\nslides/a.svs,,\nCMU-1-Small-Region.svs,0.8,regions.geojson\n")
    said = []
    for words in commands("slides"):
        status, stdout, stderr = run(words)
        assert status == 0, f"{shlex.join(words)}\n{stderr}"
        said.append(stdout)
    assert "segmented: 1" in said[0]
    assert "segmented: 2" in said[1]
    assert "segmented: 1, skipped: 1" in said[2]
    assert "the outlined regions" in said[3]
    assert "segmented: 1, skipped: 1" in said[4]  # deeper/b.svs goes by another name there
    assert "nothing to do" in said[5]  # so that Ray is not needed here
    assert len(Path("study/slides.csv").read_text().splitlines()) == 4
    assert Path("slides_out/CMU-1-Small-Region.geojson").exists()
