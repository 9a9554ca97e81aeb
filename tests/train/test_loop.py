import json
import math
import shutil

import numpy as np
import pytest
import torch
from tiny import no_truth, one_gland_and_a_strip, tiny_settings, write_dataset
from training import forget_accelerator, prepare_training, read_records, run_training, same_weights, watched_run, weights
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

from hf_gland.config import make_config
from hf_gland.data.loading import CropDataset
from hf_gland.errors import HfGlandError
from hf_gland.labels import IGNORE_INDEX
from hf_gland.train import callbacks, loop, setup
from hf_gland.train.accelerator import make_accelerator
from hf_gland.train.checkpoint import CheckpointError, checkpoint_paths
from hf_gland.train.loop import take_step
from hf_gland.train.run import Callback


class TestRefinedRun:
    WARMUP, STEPS = 3, 12

    def test_every_step_is_recorded_once_with_finite_losses(self, refined):
        assert [r["step"] for r in refined.records] == list(range(1, self.STEPS + 1))
        for record in refined.records:
            assert all(math.isfinite(record[k]) for k in ("loss", "ce", "dice"))
            assert record["loss"] > 0

    def test_the_recorded_thresholds_are_those_the_steps_used_and_they_fall(self, refined):
        recorded = [r["thresholds"] for r in refined.records]
        assert np.allclose(recorded[self.WARMUP:], refined.thresholds, atol=1e-6)
        assert len(refined.thresholds) == self.STEPS - self.WARMUP
        for i, thresholds in enumerate(recorded[self.WARMUP:]):
            share = (1 - math.cos(math.pi * i / (self.STEPS - self.WARMUP - 1))) / 2
            assert thresholds == pytest.approx([0.7 - 0.2 * share] * 2)
        assert recorded[self.WARMUP][0] == 0.7
        assert recorded[-1][0] == pytest.approx(0.5)

    def test_the_recorded_decay_is_the_one_the_teacher_followed_with_and_it_grows(self, refined):
        assert [r["ema_decay"] for r in refined.records] == refined.decays
        for i, decay in enumerate(refined.decays):
            asked = 0.5 + 0.4 * (1 - math.cos(math.pi * i / (self.STEPS - 1))) / 2
            assert decay == pytest.approx(min(asked, (1 + i) / (10 + i)))

    def test_the_balance_of_the_classes_is_whole_in_warmup_and_gone_half_way_through_the_rest(self, refined):
        balance = [r["class_weighting"] for r in refined.records]
        assert balance[:self.WARMUP + 1] == [1] * (self.WARMUP + 1)
        assert balance[self.WARMUP:] == pytest.approx([max(1 - i / 4, 0) for i in range(self.STEPS - self.WARMUP)])

    def test_the_recorded_coverage_is_the_share_of_pixels_with_a_pseudo_label_and_it_moves(self, refined):
        coverage = [r["coverage"] for r in refined.records]
        measured = [(p != IGNORE_INDEX).float().mean().item() for p in refined.pseudo]
        assert coverage == pytest.approx(measured, abs=1e-6)
        assert coverage[:self.WARMUP] == [0] * self.WARMUP
        assert coverage[-1] == pytest.approx(1, abs=0.05)  # τ has come down to a half
        assert len(set(coverage[self.WARMUP:])) > 2

    def test_pseudo_labels_count_only_once_there_are_some(self, refined):
        weights_used = [r["pseudo_weight"] for r in refined.records]
        assert weights_used[:self.WARMUP + 1] == [0] * (self.WARMUP + 1)
        assert weights_used[-1] == 0.5
        assert all(("pseudo" in r) == (r["pseudo_weight"] > 0) for r in refined.records)
        assert refined.records[-1]["pseudo"] > 0

    def test_the_teacher_stays_in_eval_mode_and_never_needs_a_gradient(self, refined):
        assert refined.teachers == [(False, False)] * self.STEPS

    def test_the_bank_is_refreshed_from_the_end_of_warmup_on_ever_more_rarely(self, refined):
        assert refined.refreshes[0] == self.WARMUP
        assert len(refined.refreshes) == 3
        gaps = np.diff([*refined.refreshes, self.STEPS])
        assert gaps[-1] > gaps[0]
        assert (np.diff(gaps) >= 0).all()

    def test_both_networks_learned_and_the_teacher_lags(self, refined):
        teacher, student = weights(refined.run), weights(refined.run, "student")
        assert teacher.keys() == student.keys()
        assert not same_weights(teacher, student)
        assert not torch.equal(teacher["decode_head.batch_norm.running_mean"], torch.zeros(16))

    def test_what_a_run_leaves_behind(self, refined):
        assert {p.name for p in refined.run.iterdir()} == {"checkpoints", "metrics.jsonl", "model", "panels",
                                                           "training_config.json"}
        assert [p.name for p in checkpoint_paths(refined.run)] == ["step-000012"]
        saved = json.loads((refined.run / "model" / "training_metrics.json").read_text())
        assert saved["loss"] == refined.records[-1]["loss"]
        assert saved["variant"].startswith("ours+")  # these settings are none of the recipes'
        assert saved["data"]["class_names"] == ["background", "gland"]
        assert saved["train_seconds"] > 0
        config = json.loads((refined.run / "training_config.json").read_text())
        assert config == json.loads((refined.run / "model" / "training_config.json").read_text())
        panels = {int(p.stem.removeprefix("step-")) for p in (refined.run / "panels").iterdir()}
        assert panels == {0, 11, *refined.refreshes}

    def test_the_model_folder_loads_as_plain_transformers(self, refined):
        model = AutoModelForSemanticSegmentation.from_pretrained(refined.run / "model")
        processor = AutoImageProcessor.from_pretrained(refined.run / "model")
        assert model.config.id2label == {0: "background", 1: "gland", 2: "gland border"}
        assert model.config.gland_border is True
        seen = processor(np.zeros((72, 90, 3), np.uint8), return_tensors="pt")["pixel_values"]
        assert seen.shape == (1, 3, 72, 90)  # a picture at its own size

    def test_the_same_settings_give_the_same_run(self, refined, tiny_dataset, tmp_path):
        again = run_training(tmp_path / "run", tiny_settings(tiny_dataset))
        assert (again / "metrics.jsonl").read_bytes() == (refined.run / "metrics.jsonl").read_bytes()
        assert same_weights(weights(again), weights(refined.run))

    def test_another_seed_gives_another(self, refined, tiny_dataset, tmp_path):
        other = run_training(tmp_path / "run", tiny_settings(tiny_dataset, seed=1, steps=4))
        assert read_records(other)[0]["loss"] != refined.records[0]["loss"]


class TestData:
    def test_three_classes(self, tiny_dataset_3, tmp_path):
        run = watched_run(tmp_path / "run", tiny_settings(tiny_dataset_3, validation_split="validation"))
        assert all(len(r["thresholds"]) == 3 for r in run.records if "loss" in r)
        model = AutoModelForSemanticSegmentation.from_pretrained(run.run / "model")
        assert model.config.id2label == {0: "background", 1: "gland", 2: "other gland", 3: "gland border"}
        assert {c for p in run.pseudo for c in p.unique().tolist()} - {IGNORE_INDEX} <= {0, 1, 2}
        assert 0 <= run.records[-1]["validation_mIoU"] <= 100

    def test_labels_without_background_need_the_users_word(self, tmp_path):
        def glands_only(mask, instances):
            return np.where(instances == 1, mask, 255).astype(np.uint8)

        dataset = write_dataset(tmp_path / "data", sparse=glands_only, splits=("train",))
        with pytest.raises(ValueError, match=r"no pixel is labelled as background.*--warmup_background assume"):
            run_training(tmp_path / "refused", tiny_settings(dataset))
        assumed = {"warmup_background": "assume", "assumed_weight": 0.2, "assumed_weight_end": 0.0}
        records = read_records(run_training(tmp_path / "run", tiny_settings(dataset, **assumed)))
        assert records[0]["unlabelled_weight"] == 0.2
        assert records[1]["unlabelled_weight"] < 0.2
        assert all(r["unlabelled_weight"] == pytest.approx(0, abs=1e-12) for r in records[3:])
        assert all(math.isfinite(r["loss"]) for r in records)

    def test_labels_without_a_gland_are_refused(self, tmp_path):
        def stroma_only(mask, _):
            return np.where(mask == 0, 0, 255).astype(np.uint8)

        dataset = write_dataset(tmp_path / "data", sparse=stroma_only, splits=("train",))
        with pytest.raises(ValueError, match=r"data: no training image has a labelled gland"):
            run_training(tmp_path / "run", tiny_settings(dataset))

    def test_images_without_labels_and_images_without_glands_do_no_harm(self, tmp_path):
        """The first image is labelled, the next has background alone, the others nothing at all."""
        images = iter(range(6))

        def sparse(mask, instances):
            image = next(images)
            drawn = one_gland_and_a_strip(mask, instances)
            drawn[(drawn == 1) if image == 1 else (drawn < 2) & (image > 1)] = 255
            return drawn

        dataset = write_dataset(tmp_path / "data", sparse=sparse, dense=no_truth, splits=("train",))
        records = read_records(run_training(tmp_path / "run", tiny_settings(dataset, batch_size=1, mode="sparse-only")))
        assert all(math.isfinite(r["loss"]) for r in records)
        assert any(r["loss"] == 0 for r in records)
        assert any(r["loss"] > 0 for r in records)
        assert all(torch.isfinite(w).all() for w in weights(tmp_path / "run").values())

    def test_the_training_pixel_size_reaches_the_model(self, tiny_dataset, tmp_path):
        run = run_training(tmp_path / "run", tiny_settings(tiny_dataset, mpp=1.0, missing_mpp=0.25, steps=2))
        config = AutoModelForSemanticSegmentation.from_pretrained(run / "model").config
        assert (config.mpp, config.missing_mpp) == (1.0, 0.25)

    def test_validation_counts_labelled_pixels_and_keeps_dense_scores_apart(self, tiny_dataset, tmp_path):
        run = run_training(tmp_path / "run", tiny_settings(tiny_dataset, steps=4, validation_split="validation",
                                                           validate_every=2))
        scores = [r for r in read_records(run) if "loss" not in r]
        assert [s["step"] for s in scores] == [2, 4]
        assert {"validation_mIoU", "validation_dense_mIoU"} <= set(scores[0])
        dataset = write_dataset(tmp_path / "data", dense=no_truth)
        other = run_training(tmp_path / "other", tiny_settings(dataset, steps=4, validation_split="validation"))
        sparse_scores = read_records(other)[-1]
        assert "validation_dense_mIoU" not in sparse_scores
        assert sparse_scores["validation_mIoU"] == scores[-1]["validation_mIoU"]


class TestMachinery:
    def test_accumulated_micro_batches_see_the_draws_of_the_whole_batch(self, tiny_dataset, tmp_path, monkeypatch):
        drawn = {1: [], 2: []}
        read = CropDataset.__getitem__
        for accumulation, keys in drawn.items():
            monkeypatch.setattr(CropDataset, "__getitem__",
                                lambda self, key, keys=keys: keys.append(key) or read(self, key))
            settings = tiny_settings(tiny_dataset, gradient_accumulation=accumulation, steps=8)
            run = run_training(tmp_path / f"{accumulation}", settings)
            records = read_records(run)
            assert [r["step"] for r in records] == list(range(1, 9))
            assert all(math.isfinite(r["loss"]) for r in records)
            assert records[-1]["loss"] < records[0]["loss"]
        assert drawn[1] == drawn[2]
        assert len(drawn[1]) == 32

    def test_accumulation_takes_one_optimiser_step_per_step(self, tiny_dataset, tmp_path):
        settings = tiny_settings(tiny_dataset, gradient_accumulation=2, mode="sparse-only")
        training = prepare_training(tmp_path / "run", settings)
        batches = training.batches(3)
        for _ in range(3):
            take_step(training, batches)
        assert {int(s["step"]) for s in training.state.optimizer.state.values()} == {3}

    def test_the_optimiser_holds_the_student_alone_and_the_head_learns_faster(self, tiny_dataset, tmp_path):
        training = prepare_training(tmp_path / "run", tiny_settings(tiny_dataset, head_lr_factor=5.0))
        held = [p for group in training.state.optimizer.param_groups for p in group["params"]]
        assert {id(p) for p in held} == {id(p) for p in training.state.student.parameters()}
        assert len(held) == len({id(p) for p in held})
        assert not {id(p) for p in held} & {id(p) for p in training.state.teacher.parameters()}
        record = take_step(training, training.batches(1)).record
        encoder, head = (group["lr"] for group in training.state.optimizer.param_groups)
        assert head == pytest.approx(5 * encoder)
        assert encoder == record["learning_rate"] == pytest.approx(2.5e-3)  # half the peak: the rate is rising

    def test_the_recorded_learning_rate_is_the_encoders(self, refined):
        rates = [r["learning_rate"] for r in refined.records]
        assert max(rates) == pytest.approx(5e-3)
        assert rates[1:] == sorted(rates[1:], reverse=True)

    @pytest.mark.parametrize(("instructions", "chosen"), [({}, "no"), ({"amx_bf16": True}, "bf16")])
    @pytest.mark.parametrize("launcher", ["no", "bf16"])
    def test_the_machine_decides_the_precision_and_no_flag_of_accelerate_launch(
            self, tmp_path, monkeypatch, instructions, chosen, launcher):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions)
        monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
        monkeypatch.setattr(torch._C, "_accelerator_getAccelerator", lambda: torch.device("cuda"))  # as in a build for CUDA
        for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launcher)
        forget_accelerator()
        accelerator = make_accelerator(make_config({"tracker": "none"}), tmp_path)
        assert accelerator.mixed_precision == chosen

    @pytest.mark.parametrize("precision", ["bf16"])
    def test_mixed_precision_trains_and_keeps_float32_weights(self, tiny_dataset, tmp_path, precision):
        run = run_training(tmp_path / "run", tiny_settings(tiny_dataset, mixed_precision=precision))
        records = read_records(run)
        assert all(math.isfinite(r["loss"]) for r in records)
        assert records[-1]["coverage"] > 0
        assert {t.dtype for t in weights(run).values()} == {torch.float32, torch.int64}

    def test_a_tracker_sees_the_figures_and_the_panels(self, tiny_dataset, tmp_path):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        run = run_training(tmp_path / "run", tiny_settings(tiny_dataset, steps=4, tracker="tensorboard"))
        logged = EventAccumulator(str(next((run / "tracking").rglob("events.*")).parent)).Reload()
        records = read_records(run)
        for name, key in (("loss", "loss"), ("coverage", "coverage"), ("ema_decay", "ema_decay")):
            assert [e.value for e in logged.Scalars(name)] == pytest.approx([r[key] for r in records], rel=1e-5)
        assert [e.value for e in logged.Scalars("threshold_gland")] == pytest.approx([r["thresholds"][1] for r in records])
        assert logged.Tags()["images"]

    def test_a_run_that_diverges_stops_before_it_saves_anything(self, tiny_dataset, tmp_path):
        with pytest.raises(ValueError, match=r"loss of step \d+ is (nan|inf).*learning_rate below 1e\+30"):
            run_training(tmp_path / "run", tiny_settings(tiny_dataset, learning_rate=1e30, save_every=12))
        assert not checkpoint_paths(tmp_path / "run")
        assert all(math.isfinite(r["loss"]) for r in read_records(tmp_path / "run"))

    def test_each_checkpoint_is_handed_on_while_it_is_there(self, tiny_dataset, tmp_path):
        handed, run = [], tmp_path / "run"

        class Note(Callback):
            def on_checkpoint(self, run, checkpoint):
                handed.append((checkpoint.name, (checkpoint / "student.safetensors").exists()))

        config = make_config(tiny_settings(tiny_dataset, steps=4, save_every=2, keep_last=1))
        forget_accelerator()
        loop.train(config, run, make_accelerator(config, run), note={"recipe": "mine"},
                   callbacks=[Note()])
        assert handed == [("step-000002", True), ("step-000004", True)]
        assert [p.name for p in checkpoint_paths(run)] == ["step-000004"]
        assert json.loads((run / "model" / "training_metrics.json").read_text())["recipe"] == "mine"

    def test_a_batch_that_processes_and_accumulation_cannot_share_is_refused(self, tiny_dataset, tmp_path):
        with pytest.raises(ValueError, match="batch_size 4 must be a multiple"):
            run_training(tmp_path / "run", tiny_settings(tiny_dataset, gradient_accumulation=3))

    def test_a_folder_that_holds_a_run_is_not_written_over(self, refined, tiny_dataset):
        before = (refined.run / "metrics.jsonl").read_bytes()
        with pytest.raises(CheckpointError, match=r"already holds a run; continue it with --resume or give another --out"):
            run_training(refined.run, tiny_settings(tiny_dataset))
        assert (refined.run / "metrics.jsonl").read_bytes() == before

    def test_a_resumed_run_keeps_its_bank_and_leaves_the_checkpoints_theirs(self, tiny_dataset, tmp_path, monkeypatch):
        """Checkpoints come and go, and the bank is replaced, while the run goes on from one of them."""
        settings = tiny_settings(tiny_dataset, save_every=1, keep_last=1, refreshes=2, refresh_growth=2.0)  # at 3 and 6
        reference = run_training(tmp_path / "reference", settings | {"save_every": 12})
        append_metrics = callbacks.append_metrics

        def die_at_step_5(path, record):
            if record["step"] == 5:
                raise SystemExit
            append_metrics(path, record)

        for keep_last in (1, 9):
            run = tmp_path / f"{keep_last}"
            with monkeypatch.context() as patch:
                patch.setattr(callbacks, "append_metrics", die_at_step_5)
                with pytest.raises(SystemExit):
                    run_training(run, settings | {"keep_last": keep_last})
            run_training(run, settings | {"keep_last": keep_last}, resume=True)
            assert same_weights(weights(run), weights(reference))
            banks = [(p / "bank.u8").stat().st_size for p in checkpoint_paths(run) if p.name > "step-000003"]
            assert len(banks) == keep_last
            assert set(banks) == {3 * 80 * (64 + 72 + 80) * 2}  # two classes and the border

    def test_a_run_that_ended_before_its_first_checkpoint_can_be_started_again(self, refined, tiny_dataset, tmp_path):
        """Its records are of no use without one, and there is nothing that --resume could take up."""
        run = tmp_path / "run"
        run.mkdir()
        (run / "metrics.jsonl").write_text('{"step": 1, "loss": 9.9}\n')
        with pytest.raises(CheckpointError, match="no checkpoint to resume from; start without --resume"):
            run_training(run, tiny_settings(tiny_dataset), resume=True)
        run_training(run, tiny_settings(tiny_dataset))
        assert (run / "metrics.jsonl").read_bytes() == (refined.run / "metrics.jsonl").read_bytes()

    def test_a_resumed_run_says_when_the_precision_is_another_and_refuses_other_data(self, tmp_path, monkeypatch, capsys):
        data, run = write_dataset(tmp_path / "data"), tmp_path / "run"
        settings = tiny_settings(data, steps=2, mode="sparse-only")
        with monkeypatch.context() as patch:  # as on a machine that computes in bfloat16
            patch.setattr(setup, "precision_name", lambda dtype: "bfloat16")
            run_training(run, settings)
            run_training(run, settings, resume=True)
        assert "warning" not in capsys.readouterr().err
        run_training(run, settings, resume=True)
        assert ("warning: the first 2 steps were computed in bfloat16, the others will be in float32 (mixed_precision no)"
                in capsys.readouterr().err)
        shutil.rmtree(data)
        write_dataset(data, mpp=0.25)
        with pytest.raises(CheckpointError, match=r"learned from other data than .*data holds now; was it built anew"):
            run_training(run, settings, resume=True)
        (last,) = checkpoint_paths(run)  # one of an earlier version, which did not say
        (last / "SHA256SUMS").unlink()
        state = json.loads((last / "state.json").read_text())
        del state["origin"]
        (last / "state.json").write_text(json.dumps(state))
        run_training(run, settings, resume=True)

    def test_a_resumed_run_says_when_the_number_of_processes_is_another(self, tiny_dataset, tmp_path, capsys):
        settings, run = tiny_settings(tiny_dataset, steps=2, mode="sparse-only"), tmp_path / "run"
        run_training(run, settings)
        (last,) = checkpoint_paths(run)
        (last / "SHA256SUMS").unlink()
        state = json.loads((last / "state.json").read_text())
        state["origin"]["processes"] += 1  # as torchrun --nproc-per-node 2 leaves it
        (last / "state.json").write_text(json.dumps(state))
        run_training(run, settings, resume=True)
        assert "the first 2 steps were computed by 2 processes, the others will be by 1, so this" in capsys.readouterr().err

    def test_a_tracker_that_is_not_installed_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
        with pytest.raises(HfGlandError, match="tracker tensorboard: is not installed; pip install tensorboard"):
            make_accelerator(make_config({"tracker": "tensorboard"}), tmp_path)

    def test_a_bank_of_other_images_is_refused(self, tiny_dataset, tmp_path):
        settings, run = tiny_settings(tiny_dataset, steps=6, save_every=4), tmp_path / "run"
        run_training(run, settings)
        last = checkpoint_paths(run)[-1]
        (last / "SHA256SUMS").unlink()
        (last / "bank.u8").unlink()
        (last / "bank.u8").write_bytes(b"short")
        with pytest.raises(CheckpointError, match=r"bank.u8: is not the bank of this dataset \(5 bytes instead of"):
            run_training(run, settings, resume=True)


class TestImagesWithoutALabel:
    @pytest.fixture(scope="class")
    def one_of_six(self, tmp_path_factory):
        """A dataset in which one training image of six is outlined, wholly, and the others not at all."""
        images = iter(range(6))

        def first_image_only(mask, instances):
            return mask.copy() if next(images) == 0 else np.full(mask.shape, 255, np.uint8)

        return write_dataset(tmp_path_factory.mktemp("few") / "data", sparse=first_image_only, splits=("train",))

    def test_they_are_left_out_of_the_warmup_and_then_give_pseudo_labels_alone(self, one_of_six, tmp_path):
        training = prepare_training(tmp_path, tiny_settings(one_of_six, batch_size=2, steps=12, cutmix=0.0))
        assert training.store.labelled == [True] + [False] * 5
        assert all((batch["sparse"] != IGNORE_INDEX).any((1, 2)).all() for batch in training.batches(3))
        training.refresh()
        seen = list(training.batches(6))
        bare = torch.cat([batch["index"] for batch in seen]) != 0
        assert 0.2 < bare.float().mean() < 0.8
        assert (torch.cat([batch["sparse"] for batch in seen])[bare] == IGNORE_INDEX).all()
        assert torch.cat([batch["bank"] for batch in seen])[bare].any()

    @pytest.mark.parametrize("mode", ["refined", "sparse-only"])
    def test_a_run_learns_from_them_or_without_them(self, one_of_six, tmp_path, mode):
        records = read_records(run_training(tmp_path, tiny_settings(
            one_of_six, mode=mode, batch_size=1, steps=6, validation_split="")))
        labelled = records if mode == "sparse-only" else records[:2]
        assert all(math.isfinite(record["loss"]) and record["ce"] > 0 for record in labelled)
        assert (records[-1]["coverage"] > 0) == (mode == "refined")


class TestAdaptation:
    def test_images_of_another_place_join_the_bank_and_the_batches_without_their_labels(self, tiny_dataset, tmp_path):
        elsewhere = write_dataset(tmp_path / "elsewhere", splits=("train",))
        training = prepare_training(tmp_path / "run", tiny_settings(tiny_dataset, adapt_dataset=str(elsewhere)))
        assert training.store.annotated == [True] * 6 + [False] * 6
        training.refresh()
        batches = list(training.batches(3))
        unseen = torch.cat([batch["annotated"] for batch in batches]).logical_not()
        assert 0 < unseen.sum() < len(unseen)
        assert (torch.cat([batch["sparse"] for batch in batches])[unseen] == IGNORE_INDEX).all()
        assert torch.cat([batch["bank"] for batch in batches])[unseen].any()

    def test_nothing_is_assumed_about_images_that_no_annotator_saw(self, tmp_path):
        """Of images without a mark, only those of the dataset count as background, not those from elsewhere."""
        images = iter(range(6))

        def first_image_only(mask, instances):
            return one_gland_and_a_strip(mask, instances) if next(images) == 0 else np.full(mask.shape, 255, np.uint8)

        dataset = write_dataset(tmp_path / "data", sparse=first_image_only, splits=("train",))
        elsewhere = write_dataset(tmp_path / "elsewhere", splits=("train",))
        training = prepare_training(tmp_path / "run", tiny_settings(
            dataset, adapt_dataset=str(elsewhere), batch_size=1, steps=100, warmup_fraction=1.0,
            warmup_background="assume", assumed_weight=0.1, assumed_weight_end=0.1, cutmix=0.0))
        losses = {True: [], False: []}
        for batch in training.batches(40):
            if (batch["sparse"] == IGNORE_INDEX).all() and len(losses[bool(batch["annotated"])]) < 3:
                losses[bool(batch["annotated"])].append(take_step(training, iter([batch])).record["loss"])
        assert len(losses[True]) == len(losses[False]) == 3
        assert all(loss > 0 for loss in losses[True])
        assert losses[False] == [0, 0, 0]

    def test_the_model_notes_what_it_was_adapted_to(self, tiny_dataset, tmp_path):
        elsewhere = write_dataset(tmp_path / "elsewhere", splits=("validation",))
        run_training(tmp_path / "run", tiny_settings(tiny_dataset, adapt_dataset=str(elsewhere),
                                                     adapt_split="validation", steps=2), variant="adapted")
        notes = json.loads((tmp_path / "run" / "model" / "training_metrics.json").read_text())
        assert notes["variant"] == "adapted"
        assert notes["data"]["adapted_to"]["split"] == "validation"
        assert len(notes["data"]["adapted_to"]["data_sha256"]) == 64

    def test_a_model_trained_here_can_be_the_start_and_its_own_start_is_noted(self, tiny_dataset, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        run_training(first, tiny_settings(tiny_dataset, steps=2))
        run_training(second, tiny_settings(tiny_dataset, backbone=str(first / "model"), model_kwargs="", steps=1,
                                           learning_rate=1e-9, ema_start=1.0, ema_end=1.0,
                                           warmup_fraction=0.0))
        notes = json.loads((second / "model" / "training_metrics.json").read_text())
        assert notes["backbone"] == "random:segformer"
        (before,) = notes["continued_from"]
        assert (before["steps"], before["data"]["data_sha256"]) == (2, notes["data"]["data_sha256"])
        counters = "num_batches_tracked"  # copied from the student, which took another step
        assert same_weights(*({name: w for name, w in weights(run).items() if not name.endswith(counters)}
                              for run in (first, second)))

    @pytest.mark.parametrize(("first_mpp", "then_mpp", "said"), [
        (None, 0.5, "was trained at 0 µm per pixel, and goes on at 0.8 (0: each image's own); --mpp 0 keeps it"),
        (0.5, None, "was trained at 0.8 µm per pixel, and goes on at 0 (0: each image's own); stating that of the images "),
        (None, None, None), (0.5, 0.5, None)])
    def test_another_pixel_size_than_the_start_was_trained_at_is_told(self, tmp_path, capsys, first_mpp, then_mpp, said):
        """The setting is the same; which pixel size training has depends on whether the images state theirs."""
        first, then = (write_dataset(tmp_path / name, mpp=mpp, splits=("train",)) for name, mpp in (
            ("first", first_mpp), ("then", then_mpp)))
        run_training(tmp_path / "run", tiny_settings(first, steps=1, mode="sparse-only", mpp=0.8))
        capsys.readouterr()
        prepare_training(tmp_path / "on", tiny_settings(then, backbone=str(tmp_path / "run" / "model"), model_kwargs="",
                                                        mpp=0.8))
        shown = capsys.readouterr().err
        assert ("goes on at" in shown) == (said is not None)
        assert said is None or said in shown
