"""The README's commands for one's own images, read out of it and run as they stand, on small tiles with a small network."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import run_script, start
from tiny import NETWORK, picture

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
