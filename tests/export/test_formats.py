"""The one list of formats."""

import dataclasses

import numpy as np
import pytest

from hf_gland.errors import HfGlandError
from hf_gland.export import formats
from hf_gland.export.formats import FORMATS, Format, output_paths, write_outputs
from hf_gland.options import ExportOptions


def test_every_format_has_a_name_of_its_own_and_leaves_its_file(tmp_path, two_glands):
    prediction = dataclasses.replace(two_glands, rgb=np.full((30, 40, 3), 200, np.uint8))
    paths = write_outputs(tmp_path / "deep" / "a.b", FORMATS, prediction)
    assert {path.name for path in paths} >= {
        "a.b.geojson", "a.b_glands.csv", "a.b_overlay.png", "a.b_mask.png", "a.b_instances.png", "a.b_confidence.png",
        "a.b_heatmap.png"}
    assert len(set(paths)) == len(paths)
    assert sorted(paths) == sorted((tmp_path / "deep").iterdir())
    assert all(path.stat().st_size for path in paths)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_outputs(tmp_path / "a.b", FORMATS, prediction)] == before


def test_an_unknown_format_is_named():
    with pytest.raises(HfGlandError, match=r"no format 'pdf'; there are geojson, csv, overlay"):
        output_paths("a", ["pdf"])


def test_one_line_adds_a_format(tmp_path, monkeypatch, two_glands):
    def write_count(file, prediction, options):
        file.write(f"{len(prediction.glands)} {options.unsure_below}".encode())

    monkeypatch.setitem(formats.FORMATS, "count", Format("_count.txt", "how many", write_count))
    (path,) = write_outputs(tmp_path / "a", ["count"], two_glands, ExportOptions(unsure_below=0.5))
    assert (path.name, path.read_text()) == ("a_count.txt", "2 0.5")
