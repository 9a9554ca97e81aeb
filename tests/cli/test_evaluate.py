"""scripts/evaluate.py as its users call it."""

import json
import shutil
import sys

import numpy as np
import pytest
from processes import run_here
from tiny import no_truth, picture, tiny_settings, write_dataset
from training import forget_accelerator

from hf_gland.cli.main import run_command
from hf_gland.config import make_config
from hf_gland.data.build import About, build_dataset
from hf_gland.data.sample import Sample
from hf_gland.data.sparsify import SparseAnnotation
from hf_gland.evaluation.records import read_results
from hf_gland.inference.segmenter import GlandSegmenter
from hf_gland.train.accelerator import make_accelerator
from hf_gland.train.loop import train


@pytest.fixture(scope="module")
def model(tiny_dataset, tmp_path_factory):
    forget_accelerator()
    config, run = make_config(tiny_settings(tiny_dataset, steps=2)), tmp_path_factory.mktemp("run") / "run"
    return train(config, run, make_accelerator(config, run), note={"command": "train it", "recipe": "tiny"})


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures are files of no content, where a test is about other things: drawing takes most of an evaluation's time."""
    monkeypatch.setattr("hf_gland.export.overlay.write_comparison", lambda path, *_: path.touch())
    monkeypatch.setattr("hf_gland.evaluation.figures.draw_reliability", lambda _, path, title: path.touch())


def evaluate(*arguments):
    return run_here("evaluate", arguments)


def test_each_split_gets_a_record_a_table_and_pictures(model, tiny_dataset, tmp_path):
    status, stdout, stderr = evaluate(model, tiny_dataset, "--split", "validation", "--out", tmp_path / "out", "--bootstrap",
                                      "20", "--keep-joined", "--variant", "joined", "--results", tmp_path / "results")
    assert status == 0, stderr
    (path,) = (tmp_path / "results").glob("*.json")
    record = json.loads(path.read_text())
    assert (record["variant"], record["post_processing"]["split_touching"], record["tiling"]["views"]) == (
        "joined", False, 1)
    assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert f"| {record['metrics']['mIoU']:.1f} |" in stdout
    assert "mIoU after clean-up (%)" in stdout
    assert f"| {record['metrics']['cleaned_mIoU']:.1f} |" in stdout
    assert {"metrics.md", "validation_per_image.csv"} <= {p.name for p in (tmp_path / "out").iterdir()}
    assert len(list((tmp_path / "out").glob("validation_*_validation-*.png"))) == 3  # worst, median and best


def measured_files(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.usefixtures("undrawn")
def test_records_of_other_runs_and_folders_of_other_things_stay(model, tiny_dataset, tmp_path):
    results, out = tmp_path / "results", tmp_path / "out"
    options = (model, tiny_dataset, "--split", "validation", "--bootstrap", "0", "--results", results)
    assert evaluate(*options, "--out", out)[0] == 0
    (path,) = results.glob("*.json")
    record = json.loads(path.read_text())
    assert (out / path.name).read_text() == path.read_text()
    path.write_text(json.dumps(record | {"command": "another method"}))
    kept = path.read_bytes()
    status, _, stderr = evaluate(*options, "--out", tmp_path / "again")
    assert status == 2
    assert "is the record of another run (command another method there, train it here)" in stderr
    assert path.read_bytes() == kept
    assert not (tmp_path / "again").exists()
    status, _, stderr = evaluate(*options, "--out", results, "--overwrite")
    assert status == 2
    assert "is not an evaluation (no metrics.md)" in stderr
    assert path.read_bytes() == kept
    before = measured_files(out)
    assert evaluate(*options, "--out", out, "--overwrite")[0] == 0
    assert json.loads(path.read_text())["command"] == "train it"
    assert measured_files(out).keys() == before.keys()


@pytest.mark.usefixtures("undrawn")
def test_without_split_the_test_splits_are_measured_else_validation_with_a_note(model, tmp_path):
    tested = write_dataset(tmp_path / "tested", splits=("train", "validation", "testB", "testA"))
    status, stdout, stderr = evaluate(model, tested, "--out", tmp_path / "a", "--bootstrap", "0")
    assert status == 0, stderr
    assert [line.split(" | ")[3] for line in stdout.splitlines() if line.startswith("| ours")] == ["testB", "testA"]
    held_out = write_dataset(tmp_path / "held_out")
    status, stdout, stderr = evaluate(model, held_out, "--out", tmp_path / "b", "--bootstrap", "0")
    assert status == 0
    assert "note: " in stderr
    assert "has no test split; its validation split is measured" in stderr
    assert "connected regions" not in stdout
    status, _, stderr = evaluate(model, write_dataset(tmp_path / "all", splits=("train",)), "--out", tmp_path / "c")
    assert status == 2
    assert "has neither a test nor a validation split, only train. Hold patients out when you build it" in stderr


def truth_of_all_but(*without):
    """Dense masks of `write_dataset`, but for the pictures of these numbers."""
    blind = [picture(i, 2)[1] for i in without]
    return lambda mask, _: None if any(np.array_equal(mask, other) for other in blind) else mask


@pytest.mark.usefixtures("undrawn")
def test_images_without_a_dense_mask_are_left_out_and_counted(model, tmp_path):
    some = write_dataset(tmp_path / "some", splits=("train", "test"), dense=truth_of_all_but(20))
    status, _, stderr = evaluate(model, some, "--out", tmp_path / "out", "--bootstrap", "0")
    assert status == 0, stderr
    assert "note: 1 of the 2 images of 'test' have no dense mask and are left out" in stderr
    (path,) = (tmp_path / "out").glob("*.json")
    record = json.loads(path.read_text())
    assert (record["metrics"]["images"], record["images_without_mask"]) == (1, 1)
    table = (tmp_path / "out" / "test_per_image.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["image_id", "test-1"]
    assert {p.name for p in (tmp_path / "out").glob("*_test-*.png")} == {
        f"test_{word}_test-1.png" for word in ("worst", "median", "best")}


@pytest.mark.usefixtures("undrawn")
def test_figures_on_another_dataset_say_so_and_take_no_other_ones_place(model, tiny_dataset, tmp_path):
    other = write_dataset(tmp_path / "other")
    about = json.loads((other / "provenance.json").read_text())
    (other / "provenance.json").write_text(json.dumps(about | {"source": "CRAG"}))
    for dataset in (tiny_dataset, other):
        status, _, stderr = evaluate(model, dataset, "--split", "validation", "--out", tmp_path / f"on_{dataset.name}",
                                     "--bootstrap", "0", "--results", tmp_path / "results")
        assert (status, "trained on tiny and is measured on CRAG" in stderr) == (0, dataset is other), stderr
    records = read_results(tmp_path / "results")
    assert [(r.dataset, r.test_split, r.extra["test_dataset"]) for r in records] == [
        ("tiny", "validation@CRAG", "CRAG"), ("tiny", "validation", "tiny")]


@pytest.mark.usefixtures("undrawn")
def test_images_of_unknown_pixel_size_are_counted_and_what_is_assumed_is_said(model, tmp_path):
    silent, model = write_dataset(tmp_path / "silent", mpp=None), shutil.copytree(model, tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"mpp": 0.5}))
    status, _, stderr = evaluate(model, silent, "--split", "validation", "--out", tmp_path / "out", "--bootstrap", "0")
    assert (status, "note: 2 of the 2 images of 'validation' state no pixel size: assuming 0.5 µm per pixel" in stderr) == (
        0, True), stderr
    assert read_results(tmp_path / "out")[0].extra["images_without_mpp"] == 2
    status, _, stderr = run_here("calibrate", [model, silent])
    assert (status, "state no pixel size: assuming 0.5 µm" in stderr) == (0, True)


@pytest.mark.usefixtures("undrawn")
def test_validation_takes_the_place_of_a_test_split_that_has_no_dense_mask(model, tmp_path):
    data = write_dataset(tmp_path / "data", splits=("train", "validation"))
    blind = write_dataset(tmp_path / "blind", splits=("test",), dense=no_truth)
    about = json.loads((data / "provenance.json").read_text())
    about["splits"] |= json.loads((blind / "provenance.json").read_text())["splits"]
    (data / "provenance.json").write_text(json.dumps(about))
    shutil.copy(next((blind / "data").iterdir()), data / "data")
    status, _, stderr = evaluate(model, data, "--out", tmp_path / "out", "--bootstrap", "0")
    assert status == 0, stderr
    assert "has no test split with dense masks; its validation split is measured" in stderr
    status, _, stderr = evaluate(model, data, "--split", "test", "--out", tmp_path / "out", "--overwrite")
    assert status == 2
    assert "split 'test': no image has a dense mask to compare with" in stderr


def test_without_any_dense_mask_it_says_what_has_been_measured_and_how_to_measure_more(model, tmp_path):
    blind = write_dataset(tmp_path / "blind", dense=no_truth)
    status, _, stderr = evaluate(model, blind, "--out", tmp_path / "out")
    assert status == 2
    assert "split 'validation': no image has a dense mask to compare with. Training has measured the labelled" in stderr
    assert "qupath --roi" in stderr
    assert "folder --sparse-masks" in stderr
    assert "validation split is measured" not in stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_masks_without_gland_ids_are_measured_by_regions_and_the_table_says_so(model, tmp_path, monkeypatch):
    plain = write_dataset(tmp_path / "plain", ids=False)
    status, stdout, stderr = evaluate(model, plain, "--split", "train", "--out", tmp_path / "out", "--bootstrap", "0")
    assert status == 0, stderr
    assert "note: the model was trained on 'train'" in stderr
    said = "the true glands are the connected regions of the masks"
    assert said in stdout
    assert said in (tmp_path / "out" / "metrics.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_every_picture_is_predicted_once(model, tiny_dataset, tmp_path, monkeypatch, capsys):
    predicted = []
    predict = GlandSegmenter.predict

    def counting(self, *arguments, name, **options):
        predicted.append(name)
        return predict(self, *arguments, name=name, **options)

    monkeypatch.setattr(GlandSegmenter, "predict", counting)
    assert run_command("evaluate", [str(model), str(tiny_dataset), "--split", "train", "--out", str(tmp_path / "out"),
                                    "--bootstrap", "0"]) == 0
    assert sorted(predicted) == [f"train-{i}" for i in range(6)]
    assert len(list((tmp_path / "out").glob("train_*_train-*.png"))) == 3


@pytest.mark.parametrize("unusual", ["--keep-joined", "--views 4", "--student", "--min-confidence 0"])
def test_an_unusual_measurement_takes_no_other_ones_place(model, tiny_dataset, tmp_path, unusual):
    status, _, stderr = evaluate(model, tiny_dataset, "--split", "validation", "--out", tmp_path / "out", "--results",
                                 tmp_path / "results", *unusual.split())
    assert status == 2
    assert f"--results with {unusual.split()[0]} needs --variant" in stderr
    assert not list(tmp_path.iterdir())


def test_classes_in_another_order_are_refused_by_both_lists(model, tiny_dataset, tmp_path, capsys):
    swapped = shutil.copytree(tiny_dataset, tmp_path / "data")
    about = json.loads((swapped / "provenance.json").read_text())
    (swapped / "provenance.json").write_text(json.dumps(about | {"class_names": ["gland", "background"]}))
    for command, words in (("evaluate", ["--split", "validation", "--out", tmp_path / "out"]), ("calibrate", [])):
        assert run_command(command, [str(model), str(swapped), *map(str, words)]) == 2
        assert "the model's classes are background, gland, the dataset's gland, background" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_ids_of_a_dataset_never_lead_out_of_the_folder(model, tmp_path, monkeypatch):
    image, mask, instances = picture(20, 2)
    ids = ("../../up", "/tmp/root", "a/../../b", "a name\nof " + "many letters " * 30)
    pairs = [(Sample(image, mask, instances, i, "", "tiny", mpp=0.5), SparseAnnotation(mask, 2, 2, 1.0, 2)) for i in ids]
    data = tmp_path / "data"
    build_dataset({"test": pairs}, data, About(("background", "gland"), "tiny", "mit", {"style": "full"}))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/hf-gland", "evaluate", "a model"])
    assert run_command("evaluate", [str(model), str(data), "--out", str(tmp_path / "out"), "--bootstrap", "0"]) == 0
    (record,) = (tmp_path / "out").glob("*.json")
    assert json.loads(record.read_text())["evaluate_command"] == "hf-gland evaluate 'a model'"
    drawn = [path for path in tmp_path.rglob("*.png") if "reliability" not in path.name]
    assert {path.parent for path in drawn} == {tmp_path / "out"}
    assert sorted(path.name.split("_")[1] for path in drawn) == ["best", "median", "worst"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "out"]
