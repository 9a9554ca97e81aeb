"""scripts/cam.py as its users call it."""

import numpy as np
from processes import run_here, settings_as_arguments
from tiny import tiny_settings

from hf_gland.data.build import load_local, load_provenance


def test_the_activation_maps_become_a_dataset_that_labels_every_pixel(tiny_dataset, tmp_path):
    settings = settings_as_arguments(tiny_settings(tiny_dataset, steps=3))
    status, _, stderr = run_here("cam", ["--patch-px", "32", "--out", tmp_path / "cam", *settings])
    assert status == 0, stderr
    rows, originals = load_local(tmp_path / "cam")["train"], load_local(tiny_dataset)["train"]
    assert rows["image_id"] == originals["image_id"]
    for row, original in zip(rows, originals, strict=True):
        assert set(np.unique(row["sparse_mask"])) <= {0, 1}
        assert np.array_equal(row["mask"], original["mask"])
        assert np.array_equal(row["instances"], original["instances"])
    assert load_provenance(tmp_path / "cam")["sparsify"]["style"] == "cam"
