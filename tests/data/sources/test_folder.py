import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local
from hf_gland.data.sources.folder import FolderOptions, read_items, scan_folder, settle_masks
from hf_gland.errors import DatasetError, ImageError
from hf_gland.labels import MaskError


def picture(seed: int, shape: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def truth(seed: int, shape: tuple[int, int] = (24, 32)) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[3:12, 4 + seed:15 + seed] = 1
    return mask


def save(path: Path, pixels: np.ndarray, **how: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images a1, a2, a10 with masks, in images/ and masks/."""
    for index, stem in enumerate(("a1", "a2", "a10")):
        save(tmp_path / "images" / f"{stem}.png", picture(index))
        save(tmp_path / "masks" / f"{stem}.png", truth(index))
    return tmp_path


def samples(root: Path, **options: object) -> list:
    splits = scan_folder(root, FolderOptions(**options))
    return [sample for sample, _ in read_items(splits["train"], settle_masks(splits, FolderOptions(**options)))]


def test_images_and_masks_by_stem_in_natural_order(root: Path) -> None:
    (root / "images" / ".DS_Store").write_bytes(b"x")
    (root / "images" / "notes.txt").write_text("x")
    found = samples(root, mpp=0.5, source="mine")
    assert [s.image_id for s in found] == ["a1", "a2", "a10"]
    for index, sample in enumerate(found):
        np.testing.assert_array_equal(sample.check(2).image, picture(index))
        np.testing.assert_array_equal(sample.mask, truth(index))
        assert sample.instances is None
        assert (sample.patient_id, sample.grade, sample.source, sample.mpp) == ("", "", "mine", 0.5)


def test_name_beside_name_mask(tmp_path: Path) -> None:
    ids = np.arange(24 * 32).reshape(24, 32).astype(np.uint16)
    save(tmp_path / "b.tif", picture(0))
    save(tmp_path / "b_mask.png", truth(0))
    save(tmp_path / "b_instances.png", ids)
    (sample,) = samples(tmp_path)
    assert sample.image_id == "b"
    np.testing.assert_array_equal(sample.mask, truth(0))
    np.testing.assert_array_equal(sample.instances, ids)
    assert sample.instances.dtype == np.uint16


def test_one_folder_per_split(tmp_path: Path) -> None:
    for split in ("train", "test"):
        save(tmp_path / split / "images" / "1.png", picture(0))
        save(tmp_path / split / "masks" / "1_mask.png", truth(0))
    assert {split: [i.image_id for i in items] for split, items in scan_folder(tmp_path).items()} == {
        "test": ["test_1"], "train": ["train_1"]}


def two_splits(root: Path) -> None:
    for split in ("train", "val"):
        for stem in ("a", "b"):
            save(root / split / "images" / f"{stem}.png", picture(0))
            save(root / split / "masks" / f"{stem}.png", truth(0))


def test_each_folder_of_a_split_may_have_its_own_table(tmp_path: Path) -> None:
    two_splits(tmp_path)
    (tmp_path / "val" / "metadata.csv").write_text("image_id,patient_id,mpp\na,P1,0.5\nb.png,P2,0.25\n")
    found = {item.image_id: item.metadata for items in scan_folder(tmp_path).values() for item in items}
    assert {name: (known.patient_id, known.mpp) for name, known in found.items()} == {
        "train_a": ("", None), "train_b": ("", None), "val_a": ("P1", 0.5), "val_b": ("P2", 0.25)}
    table = tmp_path / "train" / "metadata.csv"
    table.write_text("image_id\na\n")
    with pytest.raises(DatasetError, match=rf"{table}: has no line for train_b"):
        scan_folder(tmp_path)
    table.write_text("image_id\na\nb\nc\n")
    with pytest.raises(DatasetError, match=rf"{table}: image_id 'train_c'"):
        scan_folder(tmp_path)
    (tmp_path / "metadata.csv").write_text("image_id\ntrain_a\ntrain_b\nval_a\nval_b\n")
    with pytest.raises(DatasetError, match=r"metadata.csv: .*metadata.csv is there too"):
        scan_folder(tmp_path)


def test_headings_of_a_table_in_any_case_and_those_left_out_are_named(root: Path) -> None:
    (root / "metadata.csv").write_text("Image_ID;Patient ID;MPP;Age\na1;P1;0.5;61\na2;P2;0.5;62\na10;P3;0.5;63\n")
    with pytest.warns(UserWarning, match="columns left out: age"):
        found = samples(root)
    assert [(s.patient_id, s.mpp) for s in found] == [("P1", 0.5), ("P2", 0.5), ("P3", 0.5)]


def test_a_split_val_is_the_validation_split(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    two_splits(tmp_path / "in")
    assert run_command("build_dataset", ["folder", "--root", str(tmp_path / "in"), "--out", str(tmp_path / "out")]) == 0
    assert set(load_local(tmp_path / "out")) == {"train", "validation"}
    assert "note: the split 'val' is called 'validation' here" in capsys.readouterr().err


@pytest.mark.parametrize(("suffix", "how"), [
    (".png", {}), (".bmp", {}), (".tif", {"compression": "tiff_lzw"}), (".TIFF", {}), (".jpg", {"quality": 95})])
def test_image_formats(root: Path, suffix: str, how: dict) -> None:
    (root / "images" / "a1.png").unlink()
    save(root / "images" / f"a1{suffix}", np.full((24, 32, 3), 130, np.uint8), **how)
    assert np.abs(samples(root)[0].image.astype(int) - 130).max() <= 2


def test_mask_values_are_mapped(root: Path) -> None:
    for stem, seed in (("a1", 0), ("a2", 1), ("a10", 2)):
        numbers = np.where(truth(seed) > 0, 255, 0).astype(np.uint8)
        numbers[0, 0] = 7
        save(root / "masks" / f"{stem}.png", numbers)
    found = samples(root, mask_values={0: 0, 255: 1, 7: 255})
    expected = truth(0)
    expected[0, 0] = 255
    np.testing.assert_array_equal(found[0].mask, expected)
    with pytest.raises(MaskError, match=r"a1\.png: mask values 7 have no class.*--mask-values"):
        samples(root, mask_values={0: 0, 255: 1})


def as_0_and_255(root: Path) -> list[np.ndarray]:
    masks = [np.where(truth(seed) > 0, 255, 0).astype(np.uint8) for seed in range(3)]
    for stem, mask in zip(("a1", "a2", "a10"), masks, strict=True):
        save(root / "masks" / f"{stem}.png", mask)
    return masks


def test_0_and_255_alone_are_background_and_gland_and_said_to_be(root: Path) -> None:
    as_0_and_255(root)
    with pytest.warns(UserWarning, match="0 and 255 alone.* background and gland"):
        found = samples(root)
    for seed, sample in enumerate(found):
        np.testing.assert_array_equal(sample.mask, truth(seed))
    assert (samples(root, mask_values={0: 0, 255: 255})[0].mask == 255).any()


def test_one_mask_with_a_class_makes_255_unlabelled_in_all_splits_and_thinning_it_again_is_warned_of(root: Path) -> None:
    as_0_and_255(root)
    save(root / "masks" / "a2.png", truth(1))
    (root / "metadata.csv").write_text("image_id,split\na1,train\na2,test\na10,train\n")
    with pytest.warns(UserWarning, match=r"unlabelled \(255\).*--style as-is"):
        found = samples(root)
    assert [np.unique(sample.mask).tolist() for sample in found] == [[0, 255], [0, 255]]


def test_0_and_255_alone_are_no_answer_where_255_must_mean_unlabelled(root: Path, tmp_path: Path) -> None:
    masks = as_0_and_255(root)
    for stem, mask in zip(("a1", "a2", "a10"), masks, strict=True):
        save(tmp_path / "drawn" / f"{stem}.png", mask)
    for options in ({"as_is": True}, {"num_classes": 3}, {"sparse_masks": tmp_path / "drawn"}):
        with pytest.raises(MaskError, match=r"hold 255 but no gland.*--mask-values 0=0,255=1"):
            samples(root, **options)
    for stem in ("a1", "a2", "a10"):
        save(root / "masks" / f"{stem}.png", np.full((24, 32), 255, np.uint8))
    with pytest.raises(MaskError, match="hold 255 but no gland"):
        samples(root)


def test_dense_masks_of_0_and_255_beside_sparse_ones_whose_255_is_unlabelled(root: Path, tmp_path: Path) -> None:
    as_0_and_255(root)
    for seed, stem in enumerate(("a1", "a2", "a10")):
        save(tmp_path / "drawn" / f"{stem}.png", np.where(np.arange(24)[:, None] < 6, truth(seed), 255).astype(np.uint8))
    options = FolderOptions(sparse_masks=tmp_path / "drawn")
    splits = scan_folder(root, options)
    with pytest.warns(UserWarning, match="0 and 255 alone"):
        options = settle_masks(splits, options)
    for seed, (sample, drawn) in enumerate(read_items(splits["train"], options)):
        np.testing.assert_array_equal(sample.mask, truth(seed))
        assert (drawn.mask[6:] == 255).all()
        assert set(np.unique(drawn.mask[:6])) == {0, 1}


def test_what_a_folder_holds_beside_what_is_read_is_said(root: Path) -> None:
    save(root / "images" / "caseB" / "b.png", picture(1))
    save(root / "images" / ".hidden" / "c.png", picture(1))
    save(root / "overview" / "d.png", picture(1))
    save(root / "preview.png", picture(1))
    (root / "images" / "slide.svs").write_text("x")
    with pytest.warns(UserWarning, match="left out") as caught:
        assert [item.image_id for item in scan_folder(root)["train"]] == ["a1", "a2", "a10"]
    said = "\n".join(str(warning.message) for warning in caught)
    for words in (r"further down .*: .*/images/caseB$", r"hidden: .*/images/\.hidden$", r"further down .*: .*/overview$",
                  r"beside the folders that were read: .*/preview\.png$", r"no picture by its name .*: .*/slide\.svs$"):
        assert re.search(words, said, re.MULTILINE), (words, said)


def test_a_stray_picture_does_not_hide_the_split_folders(tmp_path: Path) -> None:
    for split in ("train", "test", ".cache"):
        save(tmp_path / split / "images" / "1.webp", picture(0), lossless=True)
        save(tmp_path / split / "masks" / "1.png", truth(0))
    save(tmp_path / "preview.png", picture(0))
    with pytest.warns(UserWarning, match=r"beside the folders that were read: .*preview\.png"):
        splits = scan_folder(tmp_path)
    assert {split: [item.image.name for item in items] for split, items in splits.items()} == {
        "test": ["1.webp"], "train": ["1.webp"]}


def test_the_pixel_size_that_files_state_fills_gaps_and_disagreement_is_said(root: Path) -> None:
    for seed, (stem, dpi) in enumerate((("a1", 50_800), ("a2", 101_600), ("a10", 300))):
        save(root / "images" / f"{stem}.png", picture(seed), dpi=(dpi, dpi))
    with (pytest.warns(UserWarning, match=r"the pixel size of 2 images is what the file states, 0\.25 to 0\.5 µm;"),
          pytest.warns(UserWarning, match=r"1 image without a pixel size beside them, such as .*a10\.png; .*missing_mpp")):
        assert [sample.mpp for sample in samples(root)] == [0.5, 0.25, None]
    with pytest.warns(UserWarning, match=r"a2\.png states 0\.25 µm per pixel, 0\.5 was given and used"):
        assert [sample.mpp for sample in samples(root, mpp=0.5)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("value", [2, 200])
def test_a_class_too_many_is_named(root: Path, value: int) -> None:
    save(root / "masks" / "a2.png", np.full((24, 32), value, np.uint8))
    with pytest.raises(MaskError, match=rf"a2\.png: mask values {value} are not classes"):
        samples(root)


def test_jpeg_masks_are_explained(root: Path) -> None:
    (root / "masks" / "a1.png").unlink()
    save(root / "masks" / "a1.jpg", np.where(truth(0) > 0, 255, 0).astype(np.uint8), quality=60)
    with pytest.raises(MaskError, match="JPEG and WebP compression alters mask values; export PNG"):
        samples(root, mask_values={0: 0, 255: 1})


def test_masks_that_are_sparse_already(root: Path) -> None:
    sparse = truth(0)
    sparse[15:] = 255
    save(root / "masks" / "a1.png", sparse)
    options = FolderOptions(as_is=True)
    sample, drawn = next(iter(read_items(scan_folder(root, options)["train"], options)))
    assert sample.mask is None
    np.testing.assert_array_equal(drawn.mask, sparse)
    assert (drawn.annotated_glands, drawn.total_glands) == (1, None)


def test_sparse_masks_beside_dense_ones(root: Path, tmp_path: Path) -> None:
    drawings = tmp_path / "drawings"
    for seed, stem in enumerate(("a1", "a2", "a10")):
        sparse = truth(seed)
        sparse[6:] = 255
        save(drawings / f"{stem}.png", sparse)
    options = FolderOptions(sparse_masks=drawings)
    pairs = list(read_items(scan_folder(root, options)["train"], options))
    for seed, (sample, drawn) in enumerate(pairs):
        np.testing.assert_array_equal(sample.mask, truth(seed))
        assert (drawn.mask[6:] == 255).all()
        assert (drawn.annotated_glands, drawn.total_glands) == (1, 1)
    (drawings / "a2.png").unlink()
    with pytest.raises(DatasetError, match=r"a2\.png: has no mask .*drawings"):
        scan_folder(root, options)
    with pytest.raises(DatasetError, match="no such folder of sparse masks"):
        scan_folder(root, FolderOptions(sparse_masks=tmp_path / "absent"))


def test_a_sparse_mask_is_that_of_one_picture(tmp_path: Path) -> None:
    for seed, split in enumerate(("test", "train")):
        save(tmp_path / "root" / split / "images" / "1.png", picture(seed))
        save(tmp_path / "root" / split / "masks" / "1.png", truth(seed))
        save(tmp_path / "drawn" / f"{'' if split == 'test' else 'only/'}1.png", truth(seed))
    options = FolderOptions(sparse_masks=tmp_path / "drawn")
    with pytest.raises(DatasetError, match=r"1\.png: is the sparse mask of .*test.* and of .*train.*drawn/SPLIT"):
        scan_folder(tmp_path / "root", options)
    (tmp_path / "drawn" / "only").rename(tmp_path / "drawn" / "train")
    found = scan_folder(tmp_path / "root", options)
    assert {split: items[0].sparse for split, items in found.items()} == {
        "test": tmp_path / "drawn" / "1.png", "train": tmp_path / "drawn" / "train" / "1.png"}


def test_images_without_a_mask(root: Path) -> None:
    (root / "masks" / "a2.png").unlink()
    with pytest.raises(DatasetError, match=r"a2\.png: has no mask.*--allow-missing-masks"):
        samples(root)
    assert [s.mask is None for s in samples(root, allow_missing_masks=True)] == [False, True, False]
    options = FolderOptions(as_is=True, allow_missing_masks=True)
    drawn = [d for _, d in read_items(scan_folder(root, options)["train"], options)]
    assert (drawn[1].mask == 255).all()


def test_a_mask_without_an_image_is_noted(root: Path) -> None:
    save(root / "masks" / "b7.png", truth(0))
    with pytest.warns(UserWarning, match=r"b7\.png .* belongs to no image"):
        assert len(scan_folder(root)["train"]) == 3


def test_sizes_must_match(root: Path) -> None:
    save(root / "masks" / "a2.png", np.zeros((32, 24), np.uint8))
    with pytest.raises(MaskError, match=r"a2\.png: the mask is 32×24 px but its image is 24×32 px"):
        samples(root)
    save(root / "masks" / "a2.png", truth(0))
    for stem in ("a1", "a2", "a10"):
        save(root / "instances" / f"{stem}.png", np.zeros((24, 31), np.uint16))
    with pytest.raises(DatasetError, match=r"instances/a1\.png: is 24×31 px"):
        samples(root)


def test_instance_maps_are_for_all_images_or_none(root: Path) -> None:
    save(root / "instances" / "a1.png", np.full((24, 32), 300, np.uint16))
    with pytest.raises(DatasetError, match=r"a2\.png: has no instance map"):
        samples(root)
    for stem in ("a2", "a10"):
        save(root / "instances" / f"{stem}.tif", np.full((24, 32), 70000, np.int32))
    with pytest.raises(DatasetError, match=r"a2\.tif: gland ids must lie between 0 and 65535"):
        samples(root)


def bomb(path: Path, side: int = 12_000) -> None:
    """A PNG of a few bytes that claims side × side pixels."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_a_decompression_bomb_is_refused(root: Path, side: int) -> None:
    bomb(root / "images" / "a2.png", side)
    with pytest.raises(ImageError, match=r"a2\.png: .* above the limit of 67 million; .*cut it into regions"):
        samples(root)


@pytest.mark.parametrize(("content", "message"), [
    (b"", "the file is empty"), (b"GIF89a" + bytes(50), "the file is damaged"), (b"hello", "not an image"),
    (None, "the file is damaged or cut short")])
@pytest.mark.parametrize("part", ["images", "masks"])
def test_files_that_are_no_images(root: Path, part: str, content: bytes | None, message: str) -> None:
    file = root / part / "a2.png"
    if content is None:
        content = save(file, picture(0, (200, 200))).read_bytes()[:20_000]
    file.write_bytes(content)
    with pytest.raises(ImageError, match=rf"{part}/a2\.png: {message}"):
        samples(root)


def test_turned_and_many_paged_files_are_refused(root: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 3
    (root / "images" / "a1.png").unlink()
    save(root / "images" / "a1.jpg", picture(0), exif=turned)
    with pytest.raises(ImageError, match=r"a1\.jpg: is stored turned"):
        samples(root)
    (root / "images" / "a1.jpg").unlink()
    pages = [Image.fromarray(picture(i)) for i in range(2)]
    pages[0].save(root / "images" / "a1.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(ImageError, match=r"a1\.tif: holds 2 pictures"):
        samples(root)


def test_empty_absent_and_ambiguous_folders(tmp_path: Path, root: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="holds no images"):
        scan_folder(tmp_path / "empty")
    with pytest.raises(DatasetError, match="no such folder"):
        scan_folder(tmp_path / "absent")
    save(root / "images" / "a1.jpg", picture(0))
    with pytest.raises(DatasetError, match=r"a1\.(png|jpg) has the same name"):
        scan_folder(root)


def test_metadata_fills_the_columns(root: Path) -> None:
    (root / "metadata.csv").write_text(
        "\ufeffimage_id;stain;patient_id;mpp;split;grade\na1.png;H&E;p1;0.25;train;benign\na2;x;p2;;test;\n\na10;x;;;train;\n",
        "utf-8")
    splits = scan_folder(root, FolderOptions(mpp=0.5))
    assert {split: [i.image_id for i in items] for split, items in splits.items()} == {
        "train": ["a1", "a10"], "test": ["a2"]}
    first, last = samples(root, mpp=0.5)
    assert (first.patient_id, first.mpp, first.grade) == ("p1", 0.25, "benign")
    assert (last.patient_id, last.mpp, last.grade) == ("", 0.5, "")


@pytest.mark.parametrize(("text", "message"), [
    ("", "first line must name the columns"), ("name,mpp\na1,1\n", "image_id among them"),
    ("image_id\na1\na2\n", "no line for a10"), ("image_id\na1\na1\n", "line 3: image_id 'a1' comes twice"),
    ("image_id,mpp\na1,fine\n", "line 2: mpp 'fine' is not a number"), ("image_id,mpp\na1\n", "line 2 has 1 cells"),
    ("image_id,mpp\n,1\n", "line 2: image_id is empty"),
    ("image_id\na1\na2\na10\na1.png\n", "two lines for a1"), ("image_id,mpp,mpp\na1,1,2\n", "column 'mpp' comes twice"),
    ("image_id\na1\na2\na10\nb\n", "image_id 'b' .* is no image of the folder")])
def test_bad_metadata_is_named_by_line(root: Path, text: str, message: str) -> None:
    (root / "metadata.csv").write_text(text)
    with pytest.raises(DatasetError, match=rf"metadata\.csv: .*{message}"):
        scan_folder(root)


def test_metadata_in_another_encoding(root: Path) -> None:
    (root / "metadata.csv").write_bytes("image_id,grade\na1,größer\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="UTF-8"):
        scan_folder(root)


def test_patients_from_the_file_name(root: Path) -> None:
    assert [s.patient_id for s in samples(root, patient_pattern=r"a(\d)")] == ["1", "2", "1"]
    with pytest.raises(DatasetError, match=r"a1\.png: patient pattern 'P\(.\)' matches nothing"):
        scan_folder(root, FolderOptions(patient_pattern="P(.)"))
    with pytest.raises(DatasetError, match=r"a1\.png: patient pattern .* matches no patient in the name 'a1'"):
        scan_folder(root, FolderOptions(patient_pattern=r"a(P\d)?"))


@pytest.mark.parametrize(("options", "message"), [
    ({"patient_pattern": "("}, "not a regular expression"), ({"patient_pattern": "a"}, "exactly one"),
    ({"mask_values": {0: 2}}, "mapped to 2"), ({"as_is": True, "sparse_masks": Path("x")}, "not both")])
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FolderOptions(**options)
