import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local, load_provenance
from hf_gland.data.sources.spider import plan_spider, stitch_region
from hf_gland.errors import DatasetError, HfGlandError


def patch(folder: Path, name: str, value: int) -> str:
    Image.fromarray(np.full((224, 224, 3), value, np.uint8)).save(folder / f"{name}.png", compress_level=1)
    return f"{name}.png"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """SPIDER-colorectal as its parts unpack: 4 records, whose grids share patches; the last lies at a slide's corner."""
    root = tmp_path / "SPIDER-colorectal"
    (root / "images").mkdir(parents=True)
    shared = {f"{row}_{column}": patch(root / "images", f"c{row}{column}", 10 * row + column)
              for row in range(5) for column in range(5) if (row, column) != (2, 2)}
    corner = {cell: name for cell, name in shared.items() if cell[0] >= "2" and cell[2] >= "2"}
    records = [
        {"slide_id": "s7", "image_name": patch(root / "images", "a", 200), "context_info": shared, "class": "Fat",
         "split": "train"},
        {"slide_id": "s7", "image_name": patch(root / "images", "b", 201), "context_info": shared, "class": "Fat",
         "split": "train"},
        {"slide_id": "s8", "image_name": patch(root / "images", "d", 202), "context_info": shared, "split": "train",
         "class": "Adenocarcinoma low grade"},
        {"slide_id": "s9", "image_name": patch(root / "images", "e", 203), "context_info": corner, "class": "Fat",
         "split": "test"}]
    (root / "metadata.json").write_text(json.dumps(records))
    return tmp_path


def test_reads_the_published_layout(release: Path) -> None:
    plan, images = plan_spider(release)
    assert list(plan) == ["train", "test"]
    assert {(i.image_id, i.patient_id, i.grade) for i in plan["train"]} == {
        ("a", "spider-s7", "Fat"), ("b", "spider-s7", "Fat"), ("d", "spider-s8", "Adenocarcinoma low grade")}
    record = next(i for i in plan["train"] if i.image_id == "d").files
    whole = stitch_region(record, images, 5)
    assert whole.shape == (1120, 1120, 3)
    assert whole[112::224, 112::224, 0].tolist() == [
        [0, 1, 2, 3, 4], [10, 11, 12, 13, 14], [20, 21, 202, 23, 24], [30, 31, 32, 33, 34], [40, 41, 42, 43, 44]]
    assert stitch_region(record, images, 3)[112::224, 112::224, 1].tolist() == [[11, 12, 13], [21, 202, 23], [31, 32, 33]]
    assert set(np.unique(stitch_region(record, images, 1))) == {202}
    (corner,) = plan["test"]
    assert stitch_region(corner.files, images, 3)[112::224, 112::224, 2].tolist() == [
        [255, 255, 255], [255, 203, 23], [255, 32, 33]]
    few, _ = plan_spider(release, ["Fat"], per_class=1)
    assert {split: len(items) for split, items in few.items()} == {"train": 1, "test": 1}


def test_wrong_layouts_are_named_with_a_remedy(release: Path) -> None:
    root = release / "SPIDER-colorectal"
    with pytest.raises(DatasetError, match="has no class 'Colon'; it has Adenocarcinoma low grade, Fat"):
        plan_spider(release, ["Colon"])
    (corner,) = plan_spider(root)[0]["test"]
    (root / "images/c33.png").unlink()
    with pytest.raises(DatasetError, match=r"c33.png: is missing, which e.png needs; unpack all parts"):
        stitch_region(corner.files, root / "images", 5)
    Image.new("RGB", (224, 200)).save(root / "images/e.png")
    with pytest.raises(DatasetError, match=r"e.png: is 224×200 px; SPIDER's patches are 224×224 px"):
        stitch_region(corner.files, root / "images", 1)
    for text, message in (("[", "cannot be read as JSON"), ("{}", "not the list of records"),
                          ('[{"image_name": "a.png"}]', "record 0 lacks an image_name, a class"),
                          ('[{"image_name": "../a.png", "class": "Fat"}]', "names '../a.png', which is no file of images/")):
        (root / "metadata.json").write_text(text)
        with pytest.raises(HfGlandError, match=message):
            plan_spider(release)
    (root / "metadata.json").unlink()
    with pytest.raises(DatasetError, match=r"expected metadata.json beside images/.*tar -xf"):
        plan_spider(release)


def test_builds_unlabelled_images_with_licence_and_citation(release: Path, tmp_path: Path, capsys) -> None:
    arguments = ["spider", "--root", str(release), "--grid", "1", "--out", str(tmp_path / "set")]
    assert run_command("build_dataset", arguments) == 0
    assert "20×) alone, which is taken as 0.5 µm" in capsys.readouterr().err
    row = load_local(tmp_path / "set")["test"][0]
    assert row["mask"] is None
    assert row["mpp"] == 0.5
    assert row["labelled_fraction"] == 0.0
    assert set(np.unique(row["sparse_mask"])) == {255}
    assert load_provenance(tmp_path / "set")["sources"]["grid"] == 1
    card = (tmp_path / "set/README.md").read_text("utf-8")
    assert "license: cc-by-nc-4.0" in card
    assert "nechaev2025spider" in card
