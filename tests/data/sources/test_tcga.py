"""TCGA slides as gdc-client downloads them, made small."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from slide_files import aperio, damage_tile, texture, write_slide

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local, load_provenance
from hf_gland.data.source import Item
from hf_gland.data.sources.tcga import Cutting, find_slides, plan_tiles, read_manifest, read_tiles
from hf_gland.errors import DatasetError, HfGlandError, PixelSizeError

FIRST = "TCGA-AA-3488-01Z-00-DX1.9a2e0b5c-6f2f-4a7e-8f0a-0d1e2f3a4b5c"
SECOND = "TCGA-AG-A002-11A-01-DX1.00000000-1111-2222-3333-444444444444"
FROZEN = "TCGA-AA-3488-01A-01-TS1.ffffffff-1111-2222-3333-444444444444"
CUTTING = Cutting(tile_px=128, mpp=1.0, min_tissue=0.5, per_slide=0)


def tissue(hw: tuple[int, int] = (768, 1024), seed: int = 0) -> np.ndarray:
    """Glass, and stained tissue in the right half."""
    rgb = np.full((*hw, 3), 245, np.uint8)
    rgb[:, hw[1] // 2:] = texture((hw[0], hw[1] // 2), seed) // 3 + np.array([150, 60, 120], np.uint8)
    return rgb


def add_slide(root: Path, name: str, mpp: float | None = 0.5, seed: int = 0) -> Path:
    folder = root / f"id-{name[-4:]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    return write_slide(folder / f"{name}.svs", tissue(seed=seed), levels=2, description=aperio(mpp))


@pytest.fixture
def download(tmp_path: Path) -> Path:
    root = tmp_path / "gdc"
    add_slide(root, FIRST)
    add_slide(root, SECOND, seed=1)
    return root


def write_table(path: Path, head: str, *lines: tuple[object, ...]) -> Path:
    path.write_text("\n".join([head, *("\t".join(map(str, line)) for line in lines)]) + "\n")
    return path


def manifest(root: Path, *paths: Path, size: int = 0) -> Path:
    return write_table(root.parent / "gdc_manifest.2026-01-01.txt", "id\tfilename\tmd5\tsize\tstate",
                       *((p.parent.name, p.name, "0" * 32, size or p.stat().st_size, "released") for p in paths))


def test_slides_are_found_as_the_client_leaves_them(download: Path) -> None:
    slides = find_slides(download)
    assert [(s.barcode, s.patient_id, s.grade, s.project) for s in slides] == [
        ("TCGA-AA-3488-01Z-00-DX1", "TCGA-AA-3488", "tumour", ""), ("TCGA-AG-A002-11A-01-DX1", "TCGA-AG-A002", "normal", "")]
    frozen = add_slide(download, FROZEN)
    with pytest.warns(UserWarning, match=r"left out: 1 frozen sections \(--frozen takes them\)"):
        assert len(find_slides(download)) == 2
    assert len(find_slides(download, frozen=True)) == 3
    assert [s.barcode for s in find_slides(download, manifest(download, frozen), frozen=True)] == ["TCGA-AA-3488-01A-01-TS1"]
    sheet = write_table(download.parent / "gdc_sample_sheet.2026-01-01.tsv", "File ID\tFile Name\tData Category\tData Type\t"
                        "Project ID\tCase ID\tSample ID\tSample Type",
                        *((p.parent.name, p.name, "Biospecimen", "Slide Image", project, "", "", "") for p, project in
                          zip(sorted(download.rglob("*.svs"), key=lambda p: p.name), ("TCGA-COAD", "TCGA-COAD", "TCGA-BRCA"),
                              strict=True)))
    with pytest.warns(UserWarning, match="left out: 1 slides of other projects, such as TCGA-BRCA"):
        assert [s.project for s in find_slides(download, sheet, frozen=True)] == ["TCGA-COAD", "TCGA-COAD"]


def test_wrong_downloads_are_named_with_a_remedy(download: Path, tmp_path: Path) -> None:
    first, second = sorted(download.rglob("*.svs"), key=lambda p: p.name)
    with pytest.raises(DatasetError, match=rf"{FIRST}.svs: has \d+ bytes, but gdc_manifest.* says 7; download it again"):
        find_slides(download, manifest(download, first, size=7))
    listed = manifest(download, first, second)
    second.unlink()
    with pytest.raises(DatasetError, match=rf"{SECOND}.svs: is missing, and 0 more.*gdc-client download -m again"):
        find_slides(download, listed)
    (tmp_path / "other.txt").write_text("a\tb\n")
    with pytest.raises(DatasetError, match=r"other.txt: is neither a GDC manifest \(id, filename"):
        read_manifest(tmp_path / "other.txt")
    (tmp_path / "masks").mkdir()
    Image.new("L", (8, 6)).save(tmp_path / "masks" / "TCGA-XX-0000-01Z-00-DX1.png")
    with pytest.raises(DatasetError, match=r"0000-01Z-00-DX1.png: is no slide's mask.*TCGA-AA-3488-01Z-00-DX1.png"):
        find_slides(download, masks=tmp_path / "masks")
    (download / "copy").mkdir()
    first.rename(download / "copy" / "scan.svs")
    with pytest.raises(DatasetError, match=r"scan.svs: its name holds no TCGA barcode"):
        find_slides(download)
    with pytest.raises(DatasetError, match="no such folder; give the one into which gdc-client"):
        find_slides(download / "nowhere")
    (download / "copy" / "scan.svs").unlink()
    with pytest.raises(DatasetError, match=r"holds no slide \(.svs\)"):
        find_slides(download)


def test_tiles_lie_on_tissue_at_the_wanted_pixel_size(download: Path) -> None:
    slide = find_slides(download)[0]
    tiles, source = plan_tiles(slide, None, CUTTING, 2)
    assert "aperio" in source
    assert {tuple(t.box) for t in tiles} == {(x, y, 256, 256) for x in (512, 768) for y in (0, 256, 512)}
    everywhere, _ = plan_tiles(slide, None, Cutting(128, 1.0, 0.0, 0), 2)
    assert len(everywhere) == 12
    few, _ = plan_tiles(slide, None, Cutting(128, 1.0, 0.5, 2), 2)
    assert len(few) == 2
    assert {tuple(t.box) for t in few} < {tuple(t.box) for t in tiles}
    with pytest.warns(UserWarning, match="The file states 0.5 µm per pixel"):
        assert {t.box.width for t in plan_tiles(slide, 0.25, CUTTING, 2)[0]} == {512.0}
    (sample,) = read_tiles([Item("a", slide.patient_id, slide.grade, tiles[0])], CUTTING, 2)
    sample.check(2)
    box = tiles[0].box
    part = tissue()[int(box.top):int(box.top) + 256, int(box.left):int(box.left) + 256]
    expected = part.reshape(128, 2, 128, 2, 3).mean((1, 3))
    assert np.abs(sample.image.astype(float) - expected).mean() < 2
    assert (sample.mask, sample.mpp, sample.patient_id, sample.source) == (None, 1.0, "TCGA-AA-3488", "tcga")


def test_masks_of_slides_become_masks_of_tiles_where_they_are_labelled(download: Path, tmp_path: Path) -> None:
    labels = np.full((96, 128), 255, np.uint8)  # an eighth of the slide's size
    labels[32:64, 64:96] = 0
    labels[40:50, 70:90] = 1
    (tmp_path / "masks").mkdir()
    Image.fromarray(labels).save(tmp_path / "masks" / "TCGA-AA-3488-01Z-00-DX1.png")
    slide = find_slides(download, masks=tmp_path / "masks")[0]
    tiles, _ = plan_tiles(slide, None, CUTTING, 2)
    assert [tuple(t.box) for t in tiles] == [(512, 256, 256, 256)]
    (sample,) = read_tiles([Item("a", files=tiles[0])], CUTTING, 2)
    np.testing.assert_array_equal(sample.check(2).mask, labels[32:64, 64:96].repeat(4, 0).repeat(4, 1))
    for wrong, message in ((labels[:, :100], "100×96 px are not the shape of the slide, 1024×768 px"),
                           (np.where(labels == 1, 255, labels), "holds no gland, only 0 or 255"),
                           (np.where(labels == 1, 3, labels), "mask values 3 are not classes")):
        Image.fromarray(wrong).save(tmp_path / "masks" / "TCGA-AA-3488-01Z-00-DX1.png")
        with pytest.raises(HfGlandError, match=message):
            plan_tiles(slide, None, CUTTING, 2)


def test_a_slide_without_a_pixel_size_or_with_a_hole_is_named(download: Path) -> None:
    bare = add_slide(download, FIRST, mpp=None)
    slide = find_slides(download)[0]
    with pytest.raises(PixelSizeError, match=r"states no pixel size; give it with --mpp"):
        plan_tiles(slide, None, CUTTING, 2)
    tiles, source = plan_tiles(slide, 0.5, CUTTING, 2)
    assert source == "given by the user"
    damage_tile(bare, 5, page=0)  # the tile from 640 px
    damage_tile(bare, 5, page=1)
    hit = [t for t in tiles if t.box.left == 512 and t.box.top == 0]
    with pytest.raises(DatasetError, match="is damaged at 512, 0 px; download it again, or remove it"):
        list(read_tiles([Item("a", files=hit[0])], Cutting(256, 0.5, 0.5, 0), 2))


def test_builds_tiles_by_patient_with_licence_and_citation(download: Path, tmp_path: Path, capsys) -> None:
    add_slide(download, "TCGA-AF-0001-01Z-00-DX1.00000000-0000-0000-0000-00000000abcd", mpp=None)
    arguments = ["tcga", "--slides", str(download), "--tile-px", "128", "--tile-mpp", "1", "--per-slide", "3", "--out"]
    assert run_command("build_dataset", [*arguments, str(tmp_path / "set"), "--val-fraction", "0.5"]) == 0
    assert "abcd.svs: the file states no pixel size" in capsys.readouterr().err
    rows = load_local(tmp_path / "set")
    assert {split: (len(part), len(set(part["patient_id"]))) for split, part in rows.items()} == {
        "train": (3, 1), "validation": (3, 1)}
    row = rows["train"][0]
    assert row["mask"] is None
    assert row["image"].size == (128, 128)
    assert row["mpp"] == 1.0
    provenance = load_provenance(tmp_path / "set")
    assert provenance["sources"]["slides"] == 2
    assert sum(provenance["sources"]["pixel_size_from"].values()) == 2
    card = (tmp_path / "set/README.md").read_text("utf-8")
    assert "NIH Genomic Data Sharing Policy" in card
    assert "@article{tcga2012colon" in card
    assert run_command("build_dataset", [*arguments, str(tmp_path / "none"), "--min-tissue", "1.5"]) != 0
    assert "--min-tissue between 0 and 1" in capsys.readouterr().err
