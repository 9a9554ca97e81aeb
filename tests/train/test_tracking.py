import json
from types import SimpleNamespace

import numpy as np
from PIL import Image

from hf_gland.labels import class_colour
from hf_gland.train.tracking import append_metrics, colour_labels, cut_metrics, panel, save_panel


def test_records_are_one_line_each(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        append_metrics(path, {"step": step, "loss": step / 3})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"step": 1, "loss": 1 / 3},
                                                                            {"step": 2, "loss": 2 / 3}]


def test_cutting_drops_what_came_after_the_checkpoint_and_half_a_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2, 3, 4):
        append_metrics(path, {"step": step, "loss": 0.1})
    append_metrics(path, {"step": 2, "validation_mIoU": 50.0})
    kept = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= 2]
    with open(path, "a") as file:
        file.write('{"step": 5, "lo')
    cut_metrics(path, 2)
    assert path.read_text() == "".join(f"{line}\n" for line in kept)
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]
    cut_metrics(path, 0)
    assert path.read_text() == ""


def test_lines_that_cannot_be_read_are_dropped_with_a_warning_that_names_the_file(tmp_path, capsys):
    path = tmp_path / "metrics.jsonl"
    good = b'{"step": 1, "loss": 0.5}\n', b'{"step": 2, "loss": 0.25}\n'
    path.write_bytes(good[0] + b'{"loss": 1}\n' + b"\xff\xfe\n" + b"[3]\n" + good[1].rstrip())
    cut_metrics(path, 9)
    assert path.read_bytes() == b"".join(good)
    assert [line.split(": ")[1:3] for line in capsys.readouterr().err.splitlines()] == [
        [str(path), f"line {n} cannot be read and is dropped"] for n in (2, 3, 4)]


def test_nothing_to_cut_where_nothing_was_recorded(tmp_path):
    cut_metrics(tmp_path / "metrics.jsonl", 3)
    assert not list(tmp_path.iterdir())


def test_labels_have_their_colours_and_unlabelled_pixels_are_grey():
    mask = np.array([[0, 1, 2], [255, 3, 0]])
    colours = colour_labels(mask)
    assert colours.dtype == np.uint8
    for place in np.ndindex(mask.shape):
        assert tuple(colours[place]) == class_colour(int(mask[place]))
    assert tuple(colours[1, 0]) == (128, 128, 128)


def test_a_panel_shows_one_row_per_crop_and_one_column_per_map():
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    labels = [np.zeros((3, 8, 6), int), np.full((3, 8, 6), 255)]
    picture = panel(images, labels)
    assert picture.shape == (24, 18, 3)
    assert picture.dtype == np.uint8
    assert np.array_equal(picture[8:16, :6], images[1])
    assert np.abs(picture[8:16, 12:] - (0.45 * images[1] + 0.55 * 128)).max() <= 1


def test_a_panel_is_saved_and_handed_to_the_trackers_that_take_pictures(tmp_path):
    given = []
    takes = SimpleNamespace(name="tensorboard", log_images=lambda images, step, **how: given.append((images, step, how)))
    picture = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    save_panel(SimpleNamespace(trackers=[takes, SimpleNamespace(name="plain")]), picture, tmp_path / "panels" / "a.png", 7)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "panels" / "a.png")), picture)
    (images, step, how), = given
    assert images["panels"].shape == (1, 4, 6, 3)
    assert (step, how) == (7, {"dataformats": "NHWC"})
