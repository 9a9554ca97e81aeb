"""What a table says of an image, whichever source asks."""

from pathlib import Path

import pytest

from hf_gland.cli.main import run_command
from hf_gland.data.metadata import ImageMetadata, known_of, read_metadata
from hf_gland.errors import DatasetError

IMAGE = Path("somewhere/P1_a.png")


def table(folder: Path, *lines: str):
    (folder / "table.csv").write_text("\n".join(("image_id,patient_id,grade,mpp,split", *lines)) + "\n")
    return read_metadata(folder / "table.csv")


@pytest.mark.parametrize("name", ["P1_a", "P1_a.png"])
def test_an_image_is_known_by_its_name_with_or_without_suffix(tmp_path, name):
    known = known_of(IMAGE, "P1_a", table(tmp_path, f"{name},Q7,high,0.5,test"), "^(P[0-9])_")
    assert known == ImageMetadata("Q7", "high", 0.5, "test")


def test_a_patient_that_the_table_leaves_open_is_found_in_the_name(tmp_path):
    known = known_of(IMAGE, "P1_a", table(tmp_path, "P1_a,,high,0.5,test"), "^(P[0-9])_")
    assert known == ImageMetadata("P1", "high", 0.5, "test")
    assert known_of(IMAGE, "P1_a", None, "^(P[0-9])_") == ImageMetadata("P1")
    assert known_of(IMAGE, "P1_a", None) == ImageMetadata()


@pytest.mark.parametrize(("lines", "message"), [
    (["P2_b,,,,"], "table.csv: has no line for P1_a"), ([], "table.csv: has no line for P1_a"),
    (["P1_a,Q1,,,", "P1_a.png,Q2,,,"], "table.csv: has two lines for P1_a")])
def test_an_image_without_one_line_is_refused(tmp_path, lines, message):
    with pytest.raises(DatasetError, match=message):
        known_of(IMAGE, "P1_a", table(tmp_path, *lines))


@pytest.mark.parametrize("source", [["folder", "--root"], ["qupath", "--images"]])
@pytest.mark.parametrize(("pattern", "message"), [
    ("(", "is not a regular expression"), ("^P", "must hold exactly one"), ("^(P)([0-9])", "must hold exactly one"),
    ("^(Q[0-9])_", "matches nothing in the name 'P1_a'"), ("^P1(_b)?", "matches no patient in the name 'P1_a'")])
def test_a_pattern_that_finds_nobody_is_refused_by_every_source(tmp_path, capsys, source, pattern, message):
    from PIL import Image

    Image.new("RGB", (60, 50), "white").save(tmp_path / "P1_a.png")
    Image.new("L", (60, 50)).save(tmp_path / "P1_a_mask.png")
    (tmp_path / "P1_a.geojson").write_text("[]")
    command = [*source, str(tmp_path), "--patient-pattern", pattern, "--out", str(tmp_path / "out")]
    if source[0] == "qupath":
        (tmp_path / "P1_a_mask.png").unlink()
    assert run_command("build_dataset", command) == 2
    assert message in capsys.readouterr().err
