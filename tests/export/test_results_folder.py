import json
from pathlib import Path

import pytest

from hf_gland.errors import HfGlandError
from hf_gland.export.results_folder import ResultsFolder, other_settings


def test_a_table_with_the_columns_of_another_version_goes_on(tmp_path):
    (tmp_path / "predictions.json").write_text('{"model": "m", "settings": {}, "images": {"a.png": {}, "b.png": {}}}')
    (tmp_path / "glands.csv").write_text("image,id,area_px,lowest_confidence\na.png,1,57,0.5\nb.png,1,8,0.5\n")
    with ResultsFolder(tmp_path, "m", {}).adding({"b.png": tmp_path / "b"}) as add:
        add("b.png", {}, [])
    header, row = (tmp_path / "glands.csv").read_text().splitlines()
    cells = dict(zip(header.split(","), row.split(","), strict=True))
    assert (cells["image"], cells["area_px"], cells["low_confidence_share"]) == ("a.png", "57", "")
    assert "lowest_confidence" not in cells


@pytest.mark.parametrize(("encoding", "separator", "message"), [
    ("utf-8-sig", ",", None), ("utf-8", ";", "no longer separated by commas"), ("cp1252", ",", "no table in UTF-8"),
    ("utf-16", ",", "no table in UTF-8")])
def test_a_table_that_a_spreadsheet_program_saved_goes_on_or_is_refused_whole(tmp_path, encoding, separator, message):
    record = {"model": "m", "settings": {}, "images": {"Prüfung.png": {}, "b.png": {}}}
    (tmp_path / "predictions.json").write_text(json.dumps(record))
    table = tmp_path / "glands.csv"
    table.write_text("image,id,area_px\nPrüfung.png,1,57\nb.png,1,8\n".replace(",", separator), encoding)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def run():
        with ResultsFolder(tmp_path, "m", {}).adding({"b.png": tmp_path / "b"}) as add:
            add("b.png", {}, [])

    if message is None:
        run()
        assert table.read_text("utf-8").splitlines()[1].startswith("Prüfung.png,1,")
    else:
        with pytest.raises(HfGlandError, match=f"glands.csv: .*{message}.*; move it away, or give another --out"):
            run()
        assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_each_result_says_what_computed_it_where_that_is_not_what_computed_last(tmp_path):
    def run(image, **settings):
        with ResultsFolder(tmp_path, "m", settings).adding({image: tmp_path / Path(image).stem}) as add:
            add(image, {"glands": 1}, [])
        record = json.loads((tmp_path / "predictions.json").read_text())
        return {name: entry.get("backend") for name, entry in record["images"].items()}

    assert run("a.png", backend="onnx") == {"a.png": None}
    assert run("b.png") == {"a.png": "onnx", "b.png": None}
    assert run("c.png", backend="openvino") == {"a.png": "onnx", "b.png": "torch", "c.png": None}
    assert run("b.png", backend="onnx") == {"a.png": None, "b.png": None, "c.png": "openvino"}


def test_results_of_another_back_end_or_batch_are_the_same_results():
    before = {"backend": "onnx", "model_mpp": 0.5, "tiling": {"batch_size": 4, "tile_px": 512}}
    assert other_settings(before, {"model_mpp": 0.5, "tiling": {"batch_size": 8, "tile_px": 512}}) == {}
    assert other_settings(before, before | {"model_mpp": 0.6}) == {"model_mpp": 0.5}
