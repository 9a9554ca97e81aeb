"""What a run is to predict (the commands' tests cover tables, patterns and slides)."""

from PIL import Image

from hf_gland.inference.requests import read_requests


def test_results_beside_the_pictures_are_not_taken_for_pictures(tmp_path):
    names = ("a.png", "a_mask.png", "a_overlay.png", "a_mask.ome.tif", "b_mask.png")  # of b there is no picture
    for name in names:
        Image.new("RGB", (8, 8)).save(tmp_path / name, "TIFF" if name.endswith("tif") else "PNG")
    requests, notes = read_requests([tmp_path / name for name in names], tmp_path)
    assert [request.path.name for request in requests] == ["a.png", "b_mask.png"]
    assert len(notes) == 1
    assert notes[0].startswith("left out, as results of other images go there: ")
    assert notes[0].endswith("a_mask.png and 2 more")
    requests, notes = read_requests([tmp_path / name for name in names], tmp_path / "out")
    assert (len(requests), notes) == (5, [])
