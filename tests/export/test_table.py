import dataclasses

import numpy as np
import pandas as pd
import pytest

from hf_gland.export.table import COLUMNS, gland_rows, write_table


def test_a_table_is_read_back_with_units_in_its_header(tmp_path, two_glands):
    table = pd.read_csv(write_table(tmp_path / "t.csv", gland_rows(two_glands, "slide, µ.png")))
    assert tuple(table.columns) == COLUMNS
    assert {"area_px", "area_um2", "perimeter_px", "perimeter_um", "centroid_x_px", "mpp"} <= set(COLUMNS)
    assert table["image"].tolist() == ["slide, µ.png"] * 2
    assert table["class_name"].tolist() == ["benign", "malignant"]
    assert table["area_px"].tolist() == [112, 36]
    assert table["area_um2"].tolist() == [28, 9]
    assert table["centroid_x_px"].tolist() == [10, 33]
    assert table["mpp"].tolist() == [0.5, 0.5]
    assert table["touches_border"].tolist() == [0, 0]
    assert table["mean_confidence"].tolist() == pytest.approx([0.9, 0.9])


def test_what_is_unknown_is_an_empty_cell(tmp_path, predicted):
    path = write_table(tmp_path / "t.csv", gland_rows(predicted(np.ones((3, 4), np.uint8)), "a.png"))
    (row,) = pd.read_csv(path).to_dict("records")
    assert row["area_px"] == 12
    assert np.isnan(row["area_um2"])
    assert np.isnan(row["perimeter_um"])
    assert np.isnan(row["mpp"])


def test_no_gland_gives_a_header_alone(tmp_path, two_glands):
    none = dataclasses.replace(two_glands, glands=())
    assert len(pd.read_csv(write_table(tmp_path / "t.csv", gland_rows(none, "a.png")))) == 0
