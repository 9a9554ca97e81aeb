from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local
from hf_gland.data.sources.ebhi import plan_ebhi, read_ebhi
from hf_gland.errors import DatasetError

FILES = {
    "Adenocarcinoma": ["GT2012149-2-400-001", "GTxc2014144-1-400-002", "GTXC2014144-1-400-010", "GT2001837-1-400-001"],
    "Low-grade IN": ["GT2012149-2-400-001", "GTDC2100276-3-400-001"],
    "Serrated adenoma": ["GT2100276-1-400-001", "GT2018001-1-400-001"],
}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """EBHI-Seg as its archive unpacks: names of its style, grey labels with smoothed edges."""
    rng = np.random.default_rng(1)
    for stage, names in FILES.items():
        for part in ("image", "label"):
            (tmp_path / "EBHI-SEG" / stage / part).mkdir(parents=True)
        (tmp_path / "EBHI-SEG" / stage / ".DS_Store").write_bytes(b"x")
        for name in names:
            grey = np.zeros((30, 30), np.uint8)
            grey[5:20, 4:15], grey[5:20, 3], grey[5:20, 15] = 255, 127, 128
            Image.fromarray(rng.integers(0, 256, (30, 30, 3), np.uint8)).save(
                tmp_path / "EBHI-SEG" / stage / "image" / f"{name}.png")
            Image.fromarray(grey).save(tmp_path / "EBHI-SEG" / stage / "label" / f"{name}.png")
    return tmp_path


def test_reads_the_published_layout(release: Path) -> None:
    items = plan_ebhi(release)
    assert [item.image_id for item in items] == [
        "Adenocarcinoma_GT2001837-1-400-001", "Adenocarcinoma_GT2012149-2-400-001", "Adenocarcinoma_GTXC2014144-1-400-010",
        "Adenocarcinoma_GTxc2014144-1-400-002", "Low-grade-IN_GT2012149-2-400-001", "Low-grade-IN_GTDC2100276-3-400-001",
        "Serrated-adenoma_GT2018001-1-400-001", "Serrated-adenoma_GT2100276-1-400-001"]
    assert [item.patient_id for item in items] == [f"ebhi-{number}" for number in (
        2001837, 2012149, 2014144, 2014144, 2012149, 2100276, 2018001, 2100276)]
    sample = next(read_ebhi(items[4:5])).check(2)
    assert (sample.grade, sample.mpp, sample.source, sample.instances) == ("Low-grade IN", None, "ebhi", None)
    assert sample.mask[10].tolist() == [0] * 4 + [1] * 12 + [0] * 14  # 127 is not gland, 128 is
    assert {item.grade for item in plan_ebhi(release, ["Serrated adenoma"])} == {"Serrated adenoma"}


def test_wrong_layouts_are_named_with_a_remedy(release: Path, tmp_path: Path) -> None:
    root = release / "EBHI-SEG"
    (root / "Low-grade IN/label/GTDC2100276-3-400-001.png").unlink()
    with pytest.warns(UserWarning, match=r"left out, as they have no label: .*GTDC2100276-3-400-001.png and 0 more"):
        assert len(plan_ebhi(release)) == 7
    with pytest.raises(DatasetError, match=r"has no folder 'Polyp'; it has Adenocarcinoma, Low-grade IN, Serrated"):
        plan_ebhi(release, ["Polyp"])
    with pytest.raises(DatasetError, match=r"expected EBHI-Seg's folders <stage>/image .*it holds image, label"):
        plan_ebhi(root / "Serrated adenoma")
    for part in ("image", "label"):
        (root / "Adenocarcinoma" / part / "GT2001837-1-400-001.png").rename(root / "Adenocarcinoma" / part / "scan1.png")
    with pytest.raises(DatasetError, match=r"scan1.png: is not named as EBHI-Seg's images"):
        plan_ebhi(release)


def test_builds_split_by_patient_with_licence_and_citation(release: Path, tmp_path: Path) -> None:
    assert run_command("build_dataset", ["ebhi", "--root", str(release), "--out", str(tmp_path / "set"),
                                         "--val-fraction", "0.3"]) == 0
    rows = load_local(tmp_path / "set")
    patients = {split: set(part["patient_id"]) for split, part in rows.items()}
    assert set(patients) == {"train", "validation"}
    assert not patients["train"] & patients["validation"]
    card = (tmp_path / "set/README.md").read_text("utf-8")
    assert "license: cc-by-4.0" in card
    assert "@article{shi2023ebhi" in card
