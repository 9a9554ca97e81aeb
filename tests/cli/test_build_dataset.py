import io
import json
import re
import zipfile
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hf_gland.cli import build_dataset as script
from hf_gland.cli.main import run_command
from hf_gland.data.build import load_local, load_provenance
from hf_gland.data.sources import synthetic
from hf_gland.data.sparsify import SparsifyConfig


def run(*arguments: object) -> int:
    return run_command("build_dataset", [str(a) for a in arguments])


def encode(pixels: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = np.zeros((60, 80), np.uint8)
    ids[5:25, 5:30], ids[35:55, 40:70] = 1, 2
    return rng.integers(0, 256, (60, 80, 3), np.uint8), ids


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A GlaS of 8 train images (4 patients) and 2 testA images."""
    lines = ["name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)"]
    with zipfile.ZipFile(tmp_path / "glas.zip", "w") as bundle:
        for split, count in (("train", 8), ("testA", 2)):
            for number in range(1, count + 1):
                image, ids = picture(number)
                bundle.writestr(f"GlaS/{split}_{number}.bmp", encode(image, "BMP"))
                bundle.writestr(f"GlaS/{split}_{number}_anno.bmp", encode(ids, "BMP"))
                lines.append(f"{split}_{number},{number % 4}, {'benign' if number > 4 else 'malignant'}, healthy")
        bundle.writestr("GlaS/Grade.csv", "\n".join(lines))
    return tmp_path / "glas.zip"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images and 0/255 masks of 8 patients, two images each."""
    root = tmp_path / "slides"
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    for index in range(16):
        image, ids = picture(index)
        (root / "images" / f"P{index // 2}_{index}.png").write_bytes(encode(image, "PNG"))
        (root / "masks" / f"P{index // 2}_{index}.png").write_bytes(encode((255 * (ids > 0)).astype(np.uint8), "PNG"))
    return root


def test_glas(tmp_path: Path, archive: Path, capsys: pytest.CaptureFixture) -> None:
    out, sheet = tmp_path / "set", tmp_path / "sheet.png"
    assert run("glas", "--archive", archive, "--no-verify", "--val-fraction", 0.25, "--budget", 1, "--out", out,
               "--contact-sheet", sheet) == 0
    shown = capsys.readouterr().out
    provenance = load_provenance(out)
    counts = {split: (s["images"], s["patients"], s["annotated_glands"], s["total_glands"])
              for split, s in provenance["splits"].items()}
    assert counts == {"train": (6, 3, 6, 12), "validation": (2, 1, 2, 4), "testA": (2, 2, 2, 4)}
    for split, (images, patients, drawn, total) in counts.items():
        (line,) = [words for words in map(str.split, shown.splitlines()) if words and words[0] == split]
        assert line[1:6] == [str(images), str(patients), str(drawn), "/", str(total)]
    assert provenance["data_sha256"] in shown
    assert str(out) in shown
    assert provenance["sources"]["unverified_images"] == 10
    assert len(provenance["sources"]["archive_sha256"]) == 64
    assert "research only" in provenance["licence"]
    assert Image.open(sheet).width > 5 * 300


def test_a_share_of_the_images_is_outlined_wholly(tmp_path: Path, archive: Path) -> None:
    assert run("glas", "--archive", archive, "--no-verify", "--style", "images", "--budget", 0.375, "--out",
               tmp_path / "set", "--contact-sheet", tmp_path / "sheet.png") == 0
    rows = load_local(tmp_path / "set")["train"]
    whole = [row for row in rows if row["labelled_fraction"]]
    assert len(rows) == 8
    assert len({row["patient_id"] for row in whole}) == len(whole) == 3
    for row in rows:
        sparse = np.asarray(row["sparse_mask"])
        np.testing.assert_array_equal(sparse, np.asarray(row["mask"]) if row["labelled_fraction"] else 255)
        assert (row["annotated_glands"], row["total_glands"]) == (2 if row["labelled_fraction"] else 0, 2)
    assert load_provenance(tmp_path / "set")["splits"]["train"]["marks"] == 6


def test_a_fold_of_the_patients_is_held_out(tmp_path: Path, archive: Path) -> None:
    held = []
    for fold in (1, 2):
        assert run("glas", "--archive", archive, "--no-verify", "--fold", fold, "--folds", 2, "--val-fraction", 0, "--out",
                   tmp_path / str(fold)) == 0
        provenance = load_provenance(tmp_path / str(fold))
        assert list(provenance["splits"]) == ["train", f"test_fold{fold}of2"]
        assert provenance["shared_patients"] == {}
        held += load_local(tmp_path / str(fold))[f"test_fold{fold}of2"]["image_id"]
    assert sorted(held) == [f"train_{number}" for number in range(1, 9)]


def test_the_splits_do_not_depend_on_the_seed_but_the_annotation_does(tmp_path: Path, archive: Path) -> None:
    for seed in (0, 1):
        assert run("glas", "--archive", archive, "--no-verify", "--seed", seed, "--out", tmp_path / str(seed)) == 0
    first, second = (load_local(tmp_path / str(seed)) for seed in (0, 1))
    assert {s: rows["image_id"] for s, rows in first.items()} == {s: rows["image_id"] for s, rows in second.items()}
    assert any(a["sparse_mask"].tobytes() != b["sparse_mask"].tobytes()
               for a, b in zip(first["train"], second["train"], strict=True))


def test_a_changed_archive_is_refused(tmp_path: Path, archive: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("glas", "--archive", archive, "--out", tmp_path / "set") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "Grade.csv differs from the official release" in error
    assert not (tmp_path / "set").exists()


def test_synthetic(tmp_path: Path) -> None:
    out = tmp_path / "set"
    assert run("synthetic", "--splits", "train", "test", "--images", 2, "--size-px", 96, 128, "--style", "full",
               "--class-names", "background", "benign", "malignant", "--out", out) == 0
    dataset, provenance = load_local(out), load_provenance(out)
    assert {split: len(rows) for split, rows in dataset.items()} == {"train": 2, "test": 2}
    assert provenance["class_names"] == ["background", "benign", "malignant"]
    row = dataset["train"][0]
    assert row["image"].size == (128, 96)
    np.testing.assert_array_equal(row["sparse_mask"], row["mask"])
    assert provenance["splits"]["train"]["labelled_fraction"] == 1.0


def test_every_annotation_setting_can_be_given_and_is_recorded(tmp_path: Path) -> None:
    wanted = SparsifyConfig(style="scribbles", budget=2, background="scribble", rim_px=4.0, stroke_px=3.0, strokes=2,
                            stroke_length=0.4, point_px=5.0, min_gland_px=12)
    assert all(getattr(wanted, f.name) != f.default for f in fields(SparsifyConfig))
    options = [text for name, value in asdict(wanted).items() for text in (f"--{name.replace('_', '-')}", value)]
    assert run("synthetic", "--splits", "train", "--images", 1, "--size-px", 96, 96, "--out", tmp_path / "set",
               *options) == 0
    assert load_provenance(tmp_path / "set")["sparsify"] == asdict(wanted)


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("12", 12), ("1.0", 1.0), ("0.2", 0.2)])
def test_a_budget_is_a_number_of_glands_or_a_share(text: str, value: float) -> None:
    assert script.budget(text) == value
    assert type(script.budget(text)) is type(value)


@pytest.mark.parametrize(("patients", "options", "counts", "note"), [
    ("^(P[0-9])_", [], {"train": 14, "validation": 2}, "1 of 8 patients (2 of 16 train images) are held out"),
    ("^(P[0-9])_", ["--val-fraction", 0], {"train": 16}, None),
    ("", [], {"train": 16}, "no validation split: P0_0: its patient is unknown"),
    ("^(P)", [], {"train": 16}, "no validation split: train has 1 patients, too few")])
def test_a_folder_holds_patients_out_where_it_can_and_says_so(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture,
                                                              patients: str, options: list, counts: dict, note: str) -> None:
    assert run("folder", "--root", folder, "--mask-values", "0=0,255=1", "--patient-pattern", patients, *options, "--out",
               tmp_path / "set") == 0
    provenance = load_provenance(tmp_path / "set")
    assert {split: s["images"] for split, s in provenance["splits"].items()} == counts
    notes = [line for line in capsys.readouterr().err.splitlines() if "validation" in line]
    assert len(notes) == (note is not None)
    assert all(note in line for line in notes)


def test_who_was_held_out_stays_held_out(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["folder", "--root", folder, "--mask-values", "0=0,255=1", "--patient-pattern", "^(P[0-9])_", "--out"]
    assert run(*words, tmp_path / "first", "--val-fraction", 0.25) == 0
    held_out = set(load_local(tmp_path / "first")["validation"]["patient_id"])
    for path in (*folder.rglob("P*_1.png"), *folder.rglob(f"{min(held_out)}_*.png")):
        path.unlink()  # a patient who is no longer there, and fewer pictures of the others
    assert run(*words, tmp_path / "second", "--held-out-as", tmp_path / "first") == 0
    second = load_local(tmp_path / "second")
    assert set(second["validation"]["patient_id"]) == held_out - {min(held_out)} != set()
    assert not set(second["train"]["patient_id"]) & held_out
    assert run(*words, tmp_path / "none", "--val-fraction", 0) == 0
    capsys.readouterr()
    assert run(*words, tmp_path / "third", "--held-out-as", tmp_path / "none") == 2
    assert "none: holds no patient out" in capsys.readouterr().err
    for path in folder.rglob(f"{max(held_out)}_*.png"):
        path.unlink()
    assert run(*words, tmp_path / "third", "--held-out-as", tmp_path / "first") == 2
    assert "--held-out-as: 0 of the 6 patients are held out there" in capsys.readouterr().err


def test_folder_with_a_validation_split_by_patient(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "set"
    assert run("folder", "--root", folder, "--mask-values", "0=0,255=1", "--mpp", 0.5, "--patient-pattern", "^(P[0-9])_",
               "--val-fraction", 0.25, "--licence", "cc-by-4.0", "--out", out) == 0
    dataset, provenance = load_local(out), load_provenance(out)
    assert {split: s["images"] for split, s in provenance["splits"].items()} == {"train": 12, "validation": 4}
    assert not set(dataset["train"]["patient_id"]) & set(dataset["validation"]["patient_id"])
    assert set(dataset["train"]["mpp"]) == {0.5}
    assert (provenance["source"], provenance["licence"]) == ("slides", "cc-by-4.0")
    assert (np.asarray(dataset["train"][0]["mask"]) == 1).sum() == 20 * 25 + 20 * 30


@pytest.mark.parametrize("pattern", ["^([^_]+)_", "^(P[0-9]+)_"])
def test_a_patient_in_two_split_folders_is_told(tmp_path: Path, pattern: str) -> None:
    for split, patients in (("train", (1, 2)), ("test", (2, 3))):
        for part in ("images", "masks"):
            (tmp_path / "slides" / split / part).mkdir(parents=True)
        for patient in patients:
            image, ids = picture(patient)
            for part, pixels in (("images", image), ("masks", (ids > 0).astype(np.uint8))):
                (tmp_path / "slides" / split / part / f"P{patient}_a.png").write_bytes(encode(pixels, "PNG"))
    assert run("folder", "--root", tmp_path / "slides", "--patient-pattern", pattern, "--val-fraction", 0, "--out",
               tmp_path / "set") == 0
    assert load_provenance(tmp_path / "set")["shared_patients"] == {"test+train": ["P2"]}
    assert load_local(tmp_path / "set")["train"]["patient_id"][:] == ["P1", "P2"]


@pytest.mark.parametrize("beside_dense", [False, True])
def test_folder_of_masks_drawn_by_hand(tmp_path: Path, folder: Path, beside_dense: bool) -> None:
    drawings = tmp_path / "drawings" if beside_dense else folder / "masks"
    drawings.mkdir(exist_ok=True)
    _, ids = picture(0)
    sparse = np.full(ids.shape, 9, np.uint8)
    sparse[ids == 1] = 255
    sparse[30:33] = 0
    for image in (folder / "images").iterdir():
        (drawings / image.name).write_bytes(encode(sparse, "PNG"))
    how = ("--sparse-masks", drawings) if beside_dense else ("--style", "as-is")
    assert run("folder", "--root", folder, "--mask-values", "0=0,255=1,9=255", *how, "--out", tmp_path / "set",
               "--contact-sheet", tmp_path / "sheet.png") == 0
    row, provenance = load_local(tmp_path / "set")["train"][0], load_provenance(tmp_path / "set")
    expected = np.where(ids == 1, 1, 255)
    expected[30:33] = 0
    np.testing.assert_array_equal(row["sparse_mask"], expected)
    assert (row["mask"] is not None) == beside_dense
    assert row["total_glands"] == (2 if beside_dense else None)
    assert provenance["sparsify"] == {"style": "as-is"}
    assert provenance["splits"]["train"]["annotated_glands"] == 16
    assert (tmp_path / "sheet.png").is_file()


def test_masks_of_0_and_255_need_no_option_and_are_said_to_be_understood(tmp_path: Path, folder: Path,
                                                                           capsys: pytest.CaptureFixture) -> None:
    assert run("folder", "--root", folder, "--out", tmp_path / "set") == 0
    assert "note: the masks hold 0 and 255 alone, which was understood as background and gland" in capsys.readouterr().err
    assert all(set(np.unique(row["mask"])) == {0, 1} for row in load_local(tmp_path / "set")["train"])


@pytest.mark.parametrize(("options", "message"), [
    (["--style", "as-is"], "--mask-values 0=0,255=1"),
    (["--mask-values", "0=0,255=1", "--val-fraction", "0.2"], "its patient is unknown.*--patient-pattern"),
    (["--mask-values", "0=0,255=1", "--splits", "test"], "has no split 'test'; it has train"),
    (["--mask-values", "0=0,255=1", "--val-fraction", "0.2", "--patient-pattern", "^P"], "exactly one"),
    (["--mask-values", "0=0,255=1", "--sparse-masks", ".", "--style", "roi"], "cannot be combined with --style roi"),
    (["--mask-values", "0=0,255=1", "--class-names", "one"], "class names must be"),
    (["--mask-values", "0=0,255=1", "--budget", "1.5"], "budget must be a share"),
    (["--mask-values", "0=0,255=1", "--mpp", "2000"], "not a plausible pixel size"),
    (["--mask-values", "0=0,255=1", "--contact-sheet", "absent/sheet.png"], "no such folder to draw"),
])
def test_mistakes_are_explained_in_one_line(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture, options: list,
                                            message: str) -> None:
    assert run("folder", "--root", folder, "--out", tmp_path / "set", *options) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert re.search(message, error)
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("arguments", [
    ["folder", "--root", "x", "--out", "y", "--mask-values", "0-1"], ["folder", "--out", "y"], ["glas", "--out", "y"],
    ["folder", "--root", "x", "--out", "y", "--mask-values", "1=0,1=1"], ["synthetic", "--out", "y", "--style", "as-is"],
    []])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    assert stop.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["glas"], ["synthetic"], ["folder"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        run(*command, "--help")
    assert stop.value.code == 0
    assert ("examples:" if not command else "--min-gland-px") in capsys.readouterr().out


def test_ctrl_c_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    whole = synthetic.draw_sample

    def interrupted(split: str, index: int, *options: object) -> object:
        if index == 3:
            raise KeyboardInterrupt
        return whole(split, index, *options)

    monkeypatch.setattr(synthetic, "draw_sample", interrupted)
    assert run("synthetic", "--size-px", 96, 96, "--out", tmp_path / "set") == 130
    assert "stopped" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, file_size_limit) -> None:
    file_size_limit(4096)
    assert run("synthetic", "--splits", "train", "--images", 1, "--size-px", 96, 96, "--out", tmp_path / "set") == 2
    assert "could not be written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_existing_dataset_is_kept_unless_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    command = ("synthetic", "--splits", "train", "--images", 1, "--size-px", 96, 96, "--out", tmp_path / "set")
    assert run(*command) == 0
    assert run(*command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(*command, "--overwrite", "--seed", 5) == 0
    assert json.loads((tmp_path / "set" / "provenance.json").read_text())["seed"] == 5
