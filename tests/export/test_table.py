import dataclasses
import io

import numpy as np
import pandas as pd
import pytest

from hf_gland.export.formats import FORMATS
from hf_gland.export.table import COLUMNS


def test_a_table_is_read_back_with_units_in_its_header(written, two_glands):
    table = pd.read_csv(io.BytesIO(written(FORMATS["csv"].write, dataclasses.replace(two_glands, name="slide, µ.png"))))
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


def test_what_is_unknown_is_an_empty_cell(written, predicted):
    table = written(FORMATS["csv"].write, predicted(np.ones((3, 4), np.uint8)))
    (row,) = pd.read_csv(io.BytesIO(table)).to_dict("records")
    assert row["area_px"] == 12
    assert np.isnan(row["area_um2"])
    assert np.isnan(row["perimeter_um"])
    assert np.isnan(row["mpp"])


def test_no_gland_gives_a_header_alone(written, two_glands):
    none = dataclasses.replace(two_glands, glands=())
    assert len(pd.read_csv(io.BytesIO(written(FORMATS["csv"].write, none)))) == 0


def test_unsure_goes_by_the_mean_confidence_and_the_bound_that_was_asked_for(written, two_glands):
    first, second = two_glands.glands
    glands = (dataclasses.replace(first, mean_confidence=0.92, low_confidence_share=0.4),
              dataclasses.replace(second, mean_confidence=0.88, low_confidence_share=1.0))
    prediction = dataclasses.replace(two_glands, glands=glands)
    assert pd.read_csv(io.BytesIO(written(FORMATS["csv"].write, prediction)))["unsure"].tolist() == [0, 1]
    assert pd.read_csv(io.BytesIO(written(FORMATS["csv"].write, prediction, unsure_below=0.92)))["unsure"].tolist() == [0, 1]
    assert pd.read_csv(io.BytesIO(written(FORMATS["csv"].write, prediction, unsure_below=0.93)))["unsure"].tolist() == [1, 1]
