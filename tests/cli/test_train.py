"""scripts/train.py as its users call it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import SCRIPTS, run_here, run_script, settings_as_arguments, start, start_together
from safetensors.torch import load_file
from tiny import (
    NETWORK,
    NO_DROPOUT,
    dense_truth,
    no_truth,
    one_gland_and_a_strip,
    picture,
    tiny_settings,
    tree,
    write_dataset,
)
from training import read_records
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation, pipeline

from hf_gland.cli.train import ending
from hf_gland.config import make_config, recipe_names
from hf_gland.model.backbones import load_student


def call(*arguments):
    """Run the script to its end; returns (exit status, stdout, stderr)."""
    process = start(run_script, "train.py", [str(a) for a in arguments])
    return process.wait(), process.stdout, process.stderr


def refused(*arguments):
    """The message of a run that must end with status 2, one line on stderr and no stack trace."""
    status, _, stderr = call(*arguments)
    assert status == 2, stderr
    assert "Traceback" not in stderr
    message = stderr.splitlines()[-1]
    assert "error: " in message
    return message


@pytest.fixture(scope="module")
def finished(tiny_dataset, tmp_path_factory):
    """A real command line: settings from a file, one of them overruled."""
    folder = tmp_path_factory.mktemp("script")
    settings = tiny_settings(tiny_dataset, steps=9, validation_split="validation", save_every=4)
    (folder / "mine.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    words = ["--config", folder / "mine.toml", "--steps", "6", "--out", folder / "run"]
    done = start(run_script, "train.py", [str(word) for word in words])
    assert done.wait() == 0, done.stderr
    return folder / "run", done, settings


def notes_dataset(run):
    return json.loads((run / "training_config.json").read_text())["data"]["dataset"]


class TestFinishedRun:
    def test_it_says_where_the_model_is_and_shows_progress(self, finished):
        run, done, _ = finished
        first, trained, *lines = done.stdout.splitlines()
        assert re.fullmatch(r"training on .+, in float32 \(as asked\)", first)
        assert re.fullmatch(r"trained 6 steps in 0 min \d+ s; the last one: loss \d\.\d{3}, \d+ % of the crops' pixels "
                            r"with a pseudo-label, \d+ % of them right", trained)
        notes = json.loads((run / "model" / "training_metrics.json").read_text())
        for line, what, of in zip(lines, ("the labelled", "all"), ("validation_", "validation_dense_"), strict=False):
            mean = f"mIoU {notes[of + 'mIoU']:.1f}, mDice {notes[of + 'mDice']:.1f}"
            assert line.startswith(f"validation on {what} pixels: {mean}")
        assert lines[2:] == [
            f"pictures of crops, labels, what was learned from them and predictions: {run / 'panels'}",
            f"every step: {run / 'metrics.jsonl'}", f"model written to {run / 'model'}",
            f"next: python scripts/evaluate.py {run / 'model'} {notes_dataset(run)} --out {run / 'evaluation'}",
            f"and: python scripts/predict.py IMAGES --model {run / 'model'} --out out"]
        assert "training: 100%" in done.stderr
        assert "refreshing pseudo-labels" in done.stderr
        assert "Warning" not in done.stderr

    def test_the_record_tells_how_it_was_made(self, finished):
        run, _, _ = finished
        saved = json.loads((run / "model" / "training_metrics.json").read_text())
        assert saved["command"].startswith(f"python {SCRIPTS / 'train.py'} --config ")
        assert "--steps 6" in saved["command"]
        assert saved["recipe"] == "mine"
        assert saved["processes"] == 1
        assert saved["precision"] == "float32"
        assert saved["versions"]["torch"] == torch.__version__
        assert saved["encoder"] is None  # random weights
        assert len(read_records(run)) == 7  # six steps and the validation
        assert saved["validation_mIoU"] == read_records(run)[-1]["validation_mIoU"]

    def test_the_plain_classes_and_the_plain_pipeline_load_it(self, finished):
        run, _, _ = finished
        model = AutoModelForSemanticSegmentation.from_pretrained(run / "model")
        assert model.config.id2label == {0: "background", 1: "gland", 2: "gland border"}
        assert AutoImageProcessor.from_pretrained(run / "model").do_resize is False
        image = picture(20, 2)[0]
        segments = pipeline("image-segmentation", model=str(run / "model"))(Image.fromarray(image))
        assert {s["label"] for s in segments} <= {"background", "gland"}
        covered = sum((np.asarray(s["mask"]) > 0).astype(int) for s in segments)
        assert covered.shape == image.shape[:2]
        assert (covered == 1).all()

    def test_it_holds_no_pickle_and_no_code(self, finished):
        names = [name for name in tree(finished[0]) if not name.endswith("/SHA256SUMS")]
        assert {Path(name).suffix for name in names} <= {".json", ".jsonl", ".safetensors", ".u8", ".png"}

    def test_it_is_not_written_over(self, finished):
        run, _, settings = finished
        before = tree(run)
        message = refused("--out", run, *settings_as_arguments(settings))
        assert "already holds a run; continue it with --resume or give another --out" in message
        assert tree(run) == before

    def test_it_is_not_taken_up_with_other_settings(self, finished):
        run, _, settings = finished
        before = tree(run)
        changed = settings_as_arguments(settings | {"steps": 6, "dice_weight": 2.5, "seed": 3})
        message = refused("--out", run, *changed, "--resume")
        assert "dice_weight 1.0 → 2.5" in message
        assert "seed 0 → 3" in message
        assert "steps" not in message
        assert tree(run) == before

    def test_it_can_be_taken_up_with_another_number_of_workers(self, finished):
        run, _, settings = finished
        before = (run / "metrics.jsonl").read_bytes()
        changed = settings_as_arguments(settings | {"steps": 6, "num_workers": 1})
        status, stdout, stderr = call("--out", run, *changed, "--resume")
        assert status == 0, stderr
        assert "model written to" in stdout
        assert (run / "metrics.jsonl").read_bytes() == before


def test_help_explains_the_recipes_and_the_settings():
    status, stdout, _ = call("--help")
    assert status == 0
    for word in ("--resume", "--warmup-background", "--method.threshold.start", "torchrun", *recipe_names()):
        assert word in stdout
    assert re.search(r"\n  full +The headline: the bench recipe for longer and in larger crops", stdout)
    assert re.search(r"\n  demo +The README's first command: .* on two CPU cores\.\n", stdout)  # one sentence alone
    assert re.search(r"\n  no-ema +the student labels for itself\n", stdout)
    assert "\n  views" not in stdout  # another measurement, not a training


@pytest.mark.parametrize(("change", "words"), [
    ({"stepz": 3}, ["unrecognized arguments", "--stepz"]),
    ({"steps": "many"}, ["--steps", "many"]),
    ({"steps": 0}, ["steps must be at least 1; got 0"]),
    ({"mode": "half"}, ["--mode", "half"]),
    ({"learning_rate": "nan"}, ["learning_rate must be a finite number"]),
    ({"dataset": "./nowhere"}, ["nowhere", "build_dataset"]),
    ({"dataset": ""}, ["--dataset"]),
    ({"train_split": "tset"}, ["no split 'tset'", "train, validation"]),
    ({"tracker": "nonsense"}, ["nonsense"]),
    ({"assumed_weight": 0.3}, ["assumed_weight has no effect here", "warmup_background assume"]),
    ({"mixed_precision": "fp16"}, ["fp16 needs a GPU with CUDA"]),
    ({"backbone": "./nowhere"}, ["nowhere", "model.safetensors"]),
    ({"backbone": "random:bert"}, ["random:bert", "random:segformer"]),
    ({"model_kwargs": '{"drop_path": 0.1}'}, ["drop_path"]),
    ({"model_kwargs": '{"num_labels": 7}'}, ["model_kwargs cannot set num_labels", "the dataset"]),
    ({"batch_size": 3, "gradient_accumulation": 2}, ["batch_size 3 must be a multiple"]),
    ({"refreshes": 501}, ["refreshes must be 1 to 500; got 501"]),
    ({"refresh_growth": 1e200}, ["refresh_growth must be 1 to 4"]),
    ({"seed": 2**32}, ["seed must be 0 to 4294967295"]),
], ids=lambda v: "-".join(map(str, v)) if isinstance(v, dict) else "")
def test_mistakes_on_the_command_line_are_one_line_that_names_them(tiny_dataset, tmp_path, change, words):
    if change.get("mixed_precision") == "fp16" and torch.cuda.is_available():
        pytest.skip("fp16 works on CUDA")
    message = refused("--out", tmp_path / "run", *settings_as_arguments(tiny_settings(tiny_dataset) | change))
    for word in words:
        assert word in message
    assert not (tmp_path / "run" / "model").exists()
    assert not (tmp_path / "run" / ".working" / "store").exists()  # said before any image is decoded


def test_mistakes_in_a_file_are_one_line_that_names_them(tmp_path):
    (tmp_path / "mine.toml").write_text("stepz = 3\n")
    message = refused("--out", tmp_path / "run", "--config", tmp_path / "mine.toml")
    assert message == f"error: {tmp_path / 'mine.toml'}: unknown setting 'stepz'; did you mean 'steps'?"
    assert "bench" in refused("--out", tmp_path / "run", "--config", "bensh")


def test_there_is_nothing_to_resume_in_an_empty_folder(tiny_dataset, tmp_path):
    message = refused("--out", tmp_path / "run", *settings_as_arguments(tiny_settings(tiny_dataset)), "--resume")
    assert "run: has no checkpoint to resume from; start without --resume" in message


def test_a_file_in_the_place_of_the_run_is_named(tiny_dataset, tmp_path):
    (tmp_path / "run").write_text("")
    for more in ((), ("--resume",)):
        message = refused("--out", tmp_path / "run", *settings_as_arguments(tiny_settings(tiny_dataset)), *more)
        assert "run: is a file, and a run needs a folder; give another --out" in message


def test_masks_with_other_values_than_the_classes_are_refused_by_image(tmp_path):
    dataset = write_dataset(tmp_path / "data", num_classes=3, splits=("train",))
    record = json.loads((dataset / "provenance.json").read_text())
    (dataset / "provenance.json").write_text(json.dumps(record | {"class_names": ["background", "gland"]}))
    message = refused("--out", tmp_path / "run", *settings_as_arguments(tiny_settings(dataset)))
    assert "train-0: mask values 2 are not classes; allowed are 0 to 1 and 255" in message


def test_pickled_weights_are_refused(tiny_dataset, tmp_path):
    model = load_student("random:segformer", ("background", "gland"), None, NETWORK)
    model.config.save_pretrained(tmp_path / "weights")
    torch.save(model.state_dict(), tmp_path / "weights" / "pytorch_model.bin")
    settings = tiny_settings(tiny_dataset, backbone=str(tmp_path / "weights"), model_kwargs="", border_px=0.0)
    assert "safetensors" in refused("--out", tmp_path / "run", *settings_as_arguments(settings))


def test_labels_without_background_say_what_to_do(tmp_path):
    def glands_only(mask, instances):
        drawn = one_gland_and_a_strip(mask, instances)
        drawn[drawn == 0] = 255
        return drawn

    dataset = write_dataset(tmp_path / "data", sparse=glands_only, dense=dense_truth, splits=("train",))
    message = refused("--out", tmp_path / "run", *settings_as_arguments(tiny_settings(dataset)))
    assert "--warmup_background assume" in message


def test_a_mistake_that_one_process_finds_ends_the_others_too(tmp_path):
    dataset = write_dataset(tmp_path / "data", num_classes=3, splits=("train",))
    record = json.loads((dataset / "provenance.json").read_text())
    (dataset / "provenance.json").write_text(json.dumps(record | {"class_names": ["background", "gland"]}))
    arguments = ["--out", str(tmp_path / "run"), *settings_as_arguments(tiny_settings(dataset))]
    main, other = start_together(2, run_script, "train.py", arguments)
    assert main.wait() == 2
    assert "train-0: mask values 2" in main.stderr
    assert other.wait() != 0


def test_without_a_validation_split_it_says_so_and_a_tracker_is_told_how_to_open(tmp_path):
    dataset = write_dataset(tmp_path / "data", splits=("train",))
    settings = tiny_settings(dataset, steps=2, mode="sparse-only", tracker="tensorboard")
    del settings["validation_split"]
    status, stdout, stderr = call("--out", tmp_path / "my run", *settings_as_arguments(settings))
    assert status == 0, stderr
    assert "has no split 'validation'" in stderr
    lines = stdout.splitlines()
    assert "validation: none, as no split was held out for it" in lines
    assert f"curves: tensorboard --logdir '{tmp_path}/my run/tracking'" in lines
    assert lines[-1] == f"next: python scripts/predict.py IMAGES --model '{tmp_path}/my run/model' --out out"
    assert "pseudo-label" not in lines[1]


def test_without_dense_masks_of_held_out_images_it_does_not_send_to_evaluate(tmp_path):
    dataset = write_dataset(tmp_path / "data", dense=no_truth, splits=("train", "validation", "test"))
    settings = tiny_settings(dataset, steps=2, mode="sparse-only", validation_split="validation")
    status, stdout, stderr = call("--out", tmp_path / "run", *settings_as_arguments(settings))
    assert status == 0, stderr
    assert "validation on the labelled pixels: mIoU" in stdout
    assert "evaluate" not in stdout
    assert stdout.splitlines()[-1].startswith("next: python scripts/predict.py IMAGES ")


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [
    ["torch.distributed.run", "--nproc-per-node", "2"],
    ["accelerate.commands.launch", "--num_processes", "1", "--num_machines", "1", "--mixed_precision", "no",
     "--dynamo_backend", "no"],
], ids=["torchrun", "accelerate"])
def test_the_launchers_of_the_documentation(tiny_dataset, tmp_path, launcher):
    settings = tiny_settings(tiny_dataset, network=NO_DROPOUT, steps=6, tracker="tensorboard")
    words = [sys.executable, "-m", *launcher, SCRIPTS / "train.py", "--out", tmp_path / "run",
               *settings_as_arguments(settings)]
    done = subprocess.run(words, capture_output=True, text=True, check=False,
                          env=os.environ | {"HF_GLAND_THREADS": "1", "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model written to") == 1
    processes = 2 if "--nproc-per-node" in launcher else 1
    assert json.loads((tmp_path / "run" / "model" / "training_metrics.json").read_text())["processes"] == processes
    assert load_file(tmp_path / "run" / "model" / "model.safetensors")


def test_a_model_that_gets_a_class_starts_its_last_layer_anew(finished, tmp_path):
    first, _, settings = finished
    more = write_dataset(tmp_path / "more", num_classes=3, mpp=0.5)
    after = settings | {"dataset": str(more), "backbone": str(first / "model"), "model_kwargs": "", "steps": 4}
    (tmp_path / "mine.json").write_text(json.dumps(after))
    told = "has the classes background, gland, the dataset background, gland, other gland: its last layer starts anew"
    status, stdout, stderr = call("--config", tmp_path / "mine.json", "--out", tmp_path / "run")
    assert (status, told in stderr) == (0, True), stderr
    assert "the model it went on from" not in stdout  # nothing is known of what it would say of three classes
    message = refused("--config", tmp_path / "mine.json", "--out", tmp_path / "round", "--warmup_fraction", "0")
    assert told in message
    assert "Give --warmup_fraction 0.25" in message


def test_a_class_without_a_label_is_told(tmp_path):
    dataset = write_dataset(tmp_path / "data", num_classes=3, splits=("train",),
                            sparse=lambda mask, _: np.where(mask == 2, 255, mask).astype(np.uint8))
    settings = tiny_settings(dataset, steps=2, mode="sparse-only")
    status, _, stderr = call("--out", tmp_path / "run", *settings_as_arguments(settings))
    assert (status, "note: no pixel of 'train' is labelled as other gland: the model will" in stderr) == (0, True), stderr


def test_a_run_that_goes_on_from_a_model_is_compared_with_it(finished, tmp_path):
    first, _, settings = finished
    before = json.loads((first / "model" / "training_metrics.json").read_text())
    after = settings | {"backbone": str(first / "model"), "model_kwargs": "", "steps": 2, "mpp": 0.5}
    (tmp_path / "mine.json").write_text(json.dumps(after))
    status, stdout, stderr = call("--config", tmp_path / "mine.json", "--out", tmp_path / "run")
    assert status == 0, stderr
    notes = json.loads((tmp_path / "run" / "model" / "training_metrics.json").read_text())
    assert notes["start_validation_mIoU"] == pytest.approx(before["validation_mIoU"])  # the images have 0.5 µm per pixel
    assert "start_validation_mIoU" not in before
    assert f"the model it went on from, on the same labelled pixels: mIoU {before['validation_mIoU']:.1f}" in stdout
    assert "was trained at 0 µm per pixel, and goes on at 0.5" in stderr
    assert "were trained on before" not in stderr


def test_validation_patients_that_were_trained_on_before_are_told(finished, tiny_dataset, tmp_path):
    first, _, settings = finished
    exchanged = shutil.copytree(tiny_dataset, tmp_path / "exchanged")
    about = json.loads((exchanged / "provenance.json").read_text())
    about["splits"] = {"train": about["splits"]["validation"], "validation": about["splits"]["train"]}
    (exchanged / "provenance.json").write_text(json.dumps(about))
    for split, other in (("train", "part"), ("validation", "train"), ("part", "validation")):
        for path in (exchanged / "data").glob(f"{split}-*"):
            path.rename(path.with_name(path.name.replace(split, other)))
    after = settings | {"dataset": str(exchanged), "backbone": str(first / "model"), "model_kwargs": "", "steps": 2}
    (tmp_path / "mine.json").write_text(json.dumps(after))
    status, _, stderr = call("--config", tmp_path / "mine.json", "--out", tmp_path / "run")
    assert (status, "warning: 6 of the 6 validation patients were trained on before" in stderr) == (0, True), stderr
    status, _, stderr = run_here("evaluate", [tmp_path / "run" / "model", exchanged, "--bootstrap", "0", "--out",
                                              tmp_path / "out"])
    assert (status, "note: 6 of the 6 patients of 'validation' were trained on" in stderr) == (0, True), stderr
    (record,) = (tmp_path / "out").glob("*.json")
    assert json.loads(record.read_text())["patients_trained_on"] == 6


def test_validation_patients_that_this_run_trains_on_are_told(tiny_dataset, tmp_path):
    settings = tiny_settings(tiny_dataset, steps=2, mode="sparse-only", validation_split="train")
    status, _, stderr = call("--out", tmp_path / "run", *settings_as_arguments(settings))
    assert (status, "warning: 6 of the 6 validation patients were trained on here" in stderr) == (0, True), stderr


def test_a_run_can_go_on_from_the_folder_that_its_predecessors_went_on_from(finished, tmp_path):
    """As where "the model of now" is replaced after each round: its settings name its own folder as the backbone."""
    first, _, settings = finished
    now = shutil.copytree(first / "model", tmp_path / "now")
    saved = json.loads((now / "training_config.json").read_text())
    saved["model"] |= {"backbone": str(now), "kwargs": ""}
    (now / "training_config.json").write_text(json.dumps(saved))
    after = settings | {"backbone": str(now), "model_kwargs": "", "steps": 2}
    (tmp_path / "mine.json").write_text(json.dumps(after))
    status, _, stderr = call("--config", tmp_path / "mine.json", "--out", tmp_path / "run")
    assert status == 0, stderr
    assert json.loads((tmp_path / "run" / "model" / "training_metrics.json").read_text())["backbone"] == "random:segformer"


def test_a_validation_split_without_a_label_is_told(tmp_path):
    notes = {"train_seconds": 60, "loss": 0.5, "coverage": 0.0, "data": {}, "validation_step": 9, "validation_mIoU": None}
    said = "\n".join(ending(make_config({"dataset": "d"}), tmp_path, notes, False))
    assert "validation: no pixel of 'validation' is labelled, so nothing was measured" in said
    assert "validation:" not in "\n".join(ending(make_config({"dataset": "d"}), tmp_path, notes | {
        "validation_dense_mIoU": 80.0}, False))


def test_a_private_repository_needs_a_name(tiny_dataset, tmp_path):
    message = refused("--out", tmp_path / "run", *settings_as_arguments(tiny_settings(tiny_dataset)), "--private")
    assert "--push-to-hub" in message


def test_without_a_validation_split_a_run_that_goes_on_says_that_it_was_not_compared(tmp_path):
    notes = {"train_seconds": 60, "loss": 0.5, "coverage": 0.0, "data": {}}

    def said(backbone):
        (line,) = [line for line in ending(make_config({"dataset": "d", "backbone": str(backbone)}), tmp_path, notes, False)
                   if line.startswith("validation")]
        return line

    assert said("nvidia/mit-b0") == "validation: none, as no split was held out for it"
    (tmp_path / "training_config.json").write_text("{}")
    assert said(tmp_path).endswith("; nothing says whether this model is better than the one that it went on from")


@pytest.mark.parametrize(("score", "worse"), [(71.25, True), (80.0, False), (80.5, False)])
def test_a_model_that_became_worse_is_said_to_be(score, worse):
    config = make_config({"dataset": "d", "backbone": "runs/first/model"})
    notes = {"train_seconds": 60, "loss": 0.5, "coverage": 0.0, "validation_mIoU": score, "validation_step": 9,
             "start_validation_mIoU": 80.0, "data": {}}
    said = "\n".join(ending(config, Path("runs/second"), notes, True))
    assert ("warning: this model is worse than that by 8.8 points; keep runs/first/model" in said) == worse
    assert ("warning" in said) == worse
