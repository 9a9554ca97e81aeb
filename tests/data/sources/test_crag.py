import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local
from hf_gland.data.sources.crag import plan_crag, read_crag
from hf_gland.errors import DatasetError


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """CRAG as its archive unpacks, with 3 train and 2 test images."""
    rng = np.random.default_rng(0)
    for folder, names in (("train", ["train_1", "train_2", "train_10"]), ("valid", ["test_1", "test_2"])):
        for name in names:
            ids = np.zeros((40, 52), np.uint8)
            ids[4:18, 3:20], ids[22:36, 28:50] = 3, 1
            save(tmp_path / "CRAG_v2/CRAG" / folder / "Images" / f"{name}.png", rng.integers(0, 256, (40, 52, 3), np.uint8))
            save(tmp_path / "CRAG_v2/CRAG" / folder / "Annotation" / f"{name}.png", ids)
            save(tmp_path / "CRAG_v2/CRAG" / folder / "Overlay" / f"{name}.png", np.zeros((40, 52, 3), np.uint8))
    save(tmp_path / "CRAG_v2/__MACOSX/train/Images/._train_1.png", np.zeros((2, 2, 3), np.uint8))
    return tmp_path / "CRAG_v2"


def test_reads_the_published_layout(release: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = plan_crag(release)
        samples = [sample.check(2) for sample in read_crag(plan["train"])]
    assert {split: [item.image_id for item in items] for split, items in plan.items()} == {
        "train": ["train_1", "train_2", "train_10"], "test": ["test_1", "test_2"]}
    first = samples[0]
    np.testing.assert_array_equal(first.image, np.asarray(Image.open(release / "CRAG/train/Images/train_1.png")))
    assert (first.mpp, first.patient_id, first.source) == (0.55, "", "crag")
    assert first.instances.dtype == np.uint16
    assert [int((first.instances == i).sum()) for i in (1, 2, 3)] == [14 * 22, 0, 14 * 17]
    np.testing.assert_array_equal(first.mask, first.instances > 0)
    # The folder itself, and the names that the release's readme uses.
    inner = release / "CRAG"
    (inner / "valid").rename(inner / "test")
    (inner / "test/Annotation").rename(inner / "test/Annotations")
    assert [item.image_id for item in plan_crag(inner, ["test"])["test"]] == ["test_1", "test_2"]


def test_wrong_layouts_are_named_with_a_remedy(release: Path, tmp_path: Path) -> None:
    inner = release / "CRAG"
    with pytest.raises(DatasetError, match="nowhere: no such folder"):
        plan_crag(tmp_path / "nowhere")
    shutil.copytree(inner, tmp_path / "CRAG_v2/copy")
    with pytest.raises(DatasetError, match="holds the release twice"):
        plan_crag(release)
    shutil.rmtree(tmp_path / "CRAG_v2/copy")
    save(inner / "train/Annotation/train_99.png", np.zeros((40, 52), np.uint8))
    with pytest.warns(UserWarning, match=r"train_99.png \(and 0 more\) belongs to no picture"):
        plan_crag(release)
    (inner / "train/Annotation/train_99.png").unlink()
    save(inner / "train/Annotation/train_2.png", np.full((40, 52), 255, np.uint8) * (np.arange(52) > 9).astype(np.uint8))
    with pytest.raises(DatasetError, match=r"train_2.png: holds 0 and 255 alone.*original release"):
        list(read_crag(plan_crag(inner)["train"]))
    save(inner / "train/Annotation/train_1.png", np.zeros((40, 50), np.uint8))
    with pytest.raises(DatasetError, match=r"train_1.png: is 50×40 px but train_1.png is 52×40 px"):
        list(read_crag(plan_crag(inner)["train"]))
    (inner / "train/Annotation/train_1.png").unlink()
    with pytest.raises(DatasetError, match=r"Images/train_1.png: has no annotation"):
        plan_crag(inner)
    shutil.rmtree(inner / "train/Annotation")
    with pytest.raises(DatasetError, match="train/Annotation: no such folder; unpack the release again"):
        plan_crag(inner)
    shutil.rmtree(inner / "train")
    with pytest.raises(DatasetError, match=r"has no folder train/"):
        plan_crag(inner, ["train"])
    with pytest.raises(DatasetError, match=r"valid: expected CRAG's folders train/Images.*it holds Annotation, Images"):
        plan_crag(inner / "valid")


def test_builds_with_licence_and_citation(release: Path, tmp_path: Path) -> None:
    assert run_command("build_dataset", ["crag", "--root", str(release), "--out", str(tmp_path / "set")]) == 0
    rows = load_local(tmp_path / "set")
    assert {split: len(part) for split, part in rows.items()} == {"train": 3, "test": 2}
    assert rows["test"][0]["total_glands"] == 2
    card = (tmp_path / "set/README.md").read_text("utf-8")
    assert "license: other" in card
    assert "the release states no licence" in card
    assert "@article{graham2019mild" in card
