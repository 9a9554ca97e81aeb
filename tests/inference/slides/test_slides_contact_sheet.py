import json

import numpy as np
from PIL import Image

from hf_gland.inference.requests import Request
from hf_gland.inference.slides import contact_sheet
from hf_gland.inference.slides.contact_sheet import write_contact_sheet


def record(folder, name, colour=None, **more):
    """A slide's record, and its overlay of one colour (None: it has none)."""
    files = {}
    if colour is not None:
        Image.fromarray(np.full((30, 60, 3), colour, np.uint8)).save(folder / f"{name}_overlay.png")
        files[f"{name}_overlay.png"] = {}
    content = {"image": f"in/{name}.svs", "settings": {}, "given": {}, "sha256": "", "files": files, "notes": [],
               "figures": {"glands": 3, "unsure": 1, "left_out": 0, "gland_px": 5, "area_px": 50, "mean_confidence": 0.8},
               "predicted_mpp": 0.5, "width_px": 60, "height_px": 30, "mpp_xy": [0.5, 0.5], "mpp_source": "", "tiles": 1,
               "seconds": {"prediction in all": 1}, **more}
    (folder / f"{name}.json").write_text(json.dumps(content))
    return Request(folder / f"{name}.svs", folder / name, True)


def test_each_slide_has_its_cell_in_the_order_of_names(tmp_path):
    requests = [record(tmp_path, "b", (10, 20, 200)), record(tmp_path, "a", (200, 20, 10)), record(tmp_path, "c"),
                record(tmp_path, "d", error="in/d.svs: no tissue found"), Request(tmp_path / "e.svs", tmp_path / "e", True)]
    write_contact_sheet(tmp_path / "slides.png", requests)
    drawn = np.asarray(Image.open(tmp_path / "slides.png"))
    assert drawn.shape == (2 * (360 + 48 + 8) + 8, 2 * (360 + 8) + 8, 3)  # four of five have a record
    red, blue = (np.argwhere((drawn == colour).all(axis=2)) for colour in ((200, 20, 10), (10, 20, 200)))
    assert red[:, 1].max() < 376 < blue[:, 1].min()
    assert len(red) == len(blue) == 30 * 60
    assert (drawn[600, [100, 500]] == 238).all()  # empty cells


def test_an_overlay_that_is_gone_or_damaged_leaves_its_cell_empty(tmp_path):
    requests = [record(tmp_path, name, (200, 20, 10)) for name in "abc"]
    (tmp_path / "a_overlay.png").unlink()
    (tmp_path / "b_overlay.png").write_bytes((tmp_path / "b_overlay.png").read_bytes()[:60])
    write_contact_sheet(tmp_path / "slides.png", requests)
    drawn = np.asarray(Image.open(tmp_path / "slides.png"))
    assert (drawn[100, [100, 500]] == 238).all()
    assert (drawn == (200, 20, 10)).all(axis=2).sum() == 30 * 60


def test_many_slides_get_smaller_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "MAX_WIDTH_PX", 512)
    write_contact_sheet(tmp_path / "slides.png", [record(tmp_path, "a", (200, 20, 10))] * 70)
    drawn = np.asarray(Image.open(tmp_path / "slides.png"))
    assert drawn.shape == (8 * (48 + 8) + 8, 9 * (48 + 8) + 8, 3)
    assert (drawn == (200, 20, 10)).all(axis=2).sum() == 70 * 24 * 48


def test_no_slide_no_sheet(tmp_path):
    write_contact_sheet(tmp_path / "slides.png", [Request(tmp_path / "e.svs", tmp_path / "e", True)])
    assert list(tmp_path.iterdir()) == []
