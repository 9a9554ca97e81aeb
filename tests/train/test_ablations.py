"""The mechanism behind each mode and each switch, seen in running loops."""

import numpy as np
import pytest
import torch
from tiny import tiny_settings, write_dataset
from training import prepare_training, read_records, run_training, same_weights, watched_run, weights

from hf_gland.labels import IGNORE_INDEX
from hf_gland.method.schedules import quantile_thresholds
from hf_gland.model.preprocessing import Preprocessing
from hf_gland.train import loop
from hf_gland.train.checkpoint import checkpoint_paths
from hf_gland.train.loop import take_step


class TestWhatTheStudentMayLearnFrom:
    """Runs on data that differ in one thing: what must not matter changes no bit, what must matter does."""

    @pytest.fixture(scope="class")
    def other_labels(self, tmp_path_factory):
        """The same pictures, with the other gland outlined and the strip at the bottom."""
        def sparse(mask, instances):
            drawn = np.full(mask.shape, 255, np.uint8)
            drawn[instances == 2] = mask[instances == 2]
            drawn[-8:] = 0
            return drawn

        return write_dataset(tmp_path_factory.mktemp("labels") / "data", sparse=sparse)

    @pytest.fixture(scope="class")
    def other_truth(self, tmp_path_factory):
        return write_dataset(tmp_path_factory.mktemp("truth") / "data", dense=lambda mask, _: np.flipud(mask))

    @pytest.fixture(scope="class")
    def without_ids(self, tmp_path_factory):
        """The same labels as those of `other_truth`, which has no gland ids either: they tell what is outlined whole."""
        return write_dataset(tmp_path_factory.mktemp("plain") / "without_ids", ids=False)

    def differ(self, folder, first, second, **settings):
        often = {} if "mode" in settings else {"refreshes": 2}
        runs = [run_training(folder / f"{i}", tiny_settings(data, steps=6, **often, **settings))
                for i, data in enumerate((first, second))]
        return not same_weights(weights(runs[0]), weights(runs[1]))

    def test_dense_truth_never_trains_a_refined_run_and_is_only_scored(self, without_ids, other_truth, tmp_path):
        refined, run = (watched_run(tmp_path / name, tiny_settings(data))
                        for name, data in (("usual", without_ids), ("other", other_truth)))
        assert same_weights(weights(run.run), weights(refined.run))
        assert same_weights(weights(run.run, "student"), weights(refined.run, "student"))
        for scored, folder in ((run, other_truth), (refined, without_ids)):
            batches = prepare_training(tmp_path / folder.name, tiny_settings(folder)).batches(12)
            for record, pseudo, batch in zip(scored.records, scored.pseudo, batches, strict=True):
                right = (pseudo == batch["truth"])[pseudo != IGNORE_INDEX].float()
                expected = pytest.approx(right.mean().item(), abs=1e-6) if len(right) else None
                assert record["pseudo_accuracy"] == expected
        assert any(0 < (r["pseudo_accuracy"] or 0) < 1 for r in refined.records)

    def test_sparse_labels_train_a_refined_run(self, tiny_dataset, other_labels, tmp_path):
        assert self.differ(tmp_path, tiny_dataset, other_labels, warmup_fraction=0.0)

    def test_without_fusion_they_have_no_say_once_the_warmup_is_over(self, tiny_dataset, other_labels, tmp_path):
        assert not self.differ(tmp_path, tiny_dataset, other_labels, warmup_fraction=0.0, fusion=False)
        assert self.differ(tmp_path / "warm", tiny_dataset, other_labels, warmup_fraction=0.4, fusion=False)

    def test_full_supervision_learns_from_dense_truth_alone(self, tiny_dataset, other_labels, other_truth, tmp_path):
        assert not self.differ(tmp_path / "sparse", tiny_dataset, other_labels, mode="full")
        assert self.differ(tmp_path / "dense", tiny_dataset, other_truth, mode="full")

    def test_sparse_only_learns_from_sparse_labels_alone(self, tiny_dataset, other_labels, other_truth, without_ids,
                                                         tmp_path):
        assert not self.differ(tmp_path / "dense", without_ids, other_truth, mode="sparse-only")
        assert self.differ(tmp_path / "sparse", tiny_dataset, other_labels, mode="sparse-only")


class TestAblations:
    @pytest.mark.parametrize("mode", ["refined", "sparse-only", "full"])
    def test_balance_changes_training_where_labels_are_uneven(self, tiny_dataset, tmp_path, mode):
        runs = [run_training(tmp_path / balance, tiny_settings(tiny_dataset, steps=3, mode=mode, balance=balance))
                for balance in ("fading", "none")]
        assert not same_weights(*(weights(run) for run in runs))

    def test_a_balance_that_stays_is_another_training_than_one_that_fades(self, tiny_dataset, tmp_path):
        runs = [run_training(tmp_path / balance, tiny_settings(tiny_dataset, steps=6, balance=balance))
                for balance in ("fading", "constant")]
        assert not same_weights(*(weights(run) for run in runs))

    def test_without_ema_the_teacher_is_the_student(self, tiny_dataset, tmp_path):
        run = watched_run(tmp_path / "run", tiny_settings(tiny_dataset, steps=6, ema=False))
        assert same_weights(weights(run.run), weights(run.run, "student"))
        assert set(run.decays) == {0}
        assert run.records[-1]["coverage"] > 0

    def test_without_a_filter_every_pixel_gets_a_label_once_warm(self, tiny_dataset, tmp_path):
        run = watched_run(tmp_path / "run", tiny_settings(tiny_dataset, confidence_filter=False))
        assert [r["coverage"] for r in run.records] == [0] * 3 + [1] * 9
        assert {tuple(t) for t in run.thresholds} == {(0, 0)}

    def test_without_progression_threshold_and_refresh_gap_stay(self, tiny_dataset, tmp_path):
        run = watched_run(tmp_path / "run", tiny_settings(tiny_dataset, progressive=False))
        assert np.allclose(run.thresholds, 0.7)
        assert {tuple(r["thresholds"]) for r in run.records} == {(0.7, 0.7)}
        assert run.refreshes == [3, 6, 9]

    def test_sparse_only_is_an_endless_warmup(self, tiny_dataset, tmp_path):
        run = watched_run(tmp_path / "bound", tiny_settings(tiny_dataset, steps=6, mode="sparse-only"))
        assert run.refreshes == []
        assert {r["coverage"] for r in run.records} == {0}
        assert not (checkpoint_paths(run.run)[-1] / "bank.u8").exists()
        warm = run_training(tmp_path / "warm", tiny_settings(tiny_dataset, steps=6, warmup_fraction=1.0))
        assert same_weights(weights(run.run, "student"), weights(warm, "student"))

    def test_pseudo_labels_come_from_the_bank_at_the_place_of_the_crop(self, tiny_dataset, tmp_path, monkeypatch):
        given, make_targets = [], loop.make_targets

        def noting_targets(sparse, teacher, *others, **options):
            given.append((sparse, teacher))
            return make_targets(sparse, teacher, *others, **options)

        monkeypatch.setattr(loop, "make_targets", noting_targets)
        training = prepare_training(tmp_path / "run", tiny_settings(tiny_dataset, warmup_fraction=0.0))
        training.refresh()
        batches = list(training.batches(2))
        for batch, step in zip(batches, (0, 1), strict=True):
            take_step(training, iter([batch]))
            sparse, teacher = given[step]
            assert torch.equal(sparse, batch["sparse"])
            assert torch.equal(teacher, batch["bank"].float() / 255)
            assert teacher.std() > 0

    def test_refresh_at_every_step_asks_the_present_teacher_on_the_weak_view(self, tiny_dataset, tmp_path, monkeypatch):
        asked, given = [], []
        predicted_maps, make_targets = loop.predicted_maps, loop.make_targets

        def noting_probabilities(model, pixels):
            asked.append((pixels.clone(), predicted_maps(model, pixels), model.training))
            return asked[-1][1]

        def noting_targets(sparse, teacher, *others, **options):
            given.append(teacher)
            return make_targets(sparse, teacher, *others, **options)

        monkeypatch.setattr(loop, "predicted_maps", noting_probabilities)
        monkeypatch.setattr(loop, "make_targets", noting_targets)
        run = watched_run(tmp_path / "run", tiny_settings(tiny_dataset, refresh="every_step", stain_jitter=0.3))
        assert run.refreshes == []
        assert not (checkpoint_paths(run.run)[-1] / "bank.u8").exists()
        assert given[:3] == [None] * 3
        assert len(asked) == 9
        assert all(answer is teacher for (_, answer, _), teacher in zip(asked, given[3:], strict=True))
        assert not any(training for *_, training in asked)
        fresh = prepare_training(tmp_path / "same", tiny_settings(tiny_dataset, refresh="every_step", stain_jitter=0.3))
        views = list(fresh.batches(12))[3:]
        for (pixels, _, _), view in zip(asked, views, strict=True):
            assert torch.equal(pixels, Preprocessing(by_division=True)(view["weak"]))
            assert not torch.equal(view["weak"], view["strong"])
        assert run.records[-1]["coverage"] > 0.9

    def test_the_adaptive_threshold_comes_from_the_banks_own_confidences(self, tiny_dataset, tmp_path):
        run = watched_run(tmp_path / "run", tiny_settings(tiny_dataset, threshold="adaptive", adaptive_share_start=0.2,
                                                          adaptive_share_end=0.9))
        refreshes = np.array(run.refreshes)
        for i, (record, used) in enumerate(zip(run.records[3:], run.thresholds, strict=True)):
            histograms = run.histograms[int((refreshes <= 3 + i).sum()) - 1]
            expected = quantile_thresholds(histograms, 0.2 + 0.7 * i / 8, 0.5)
            assert record["thresholds"] == pytest.approx(expected.tolist())
            assert used == pytest.approx(expected.tolist(), abs=1e-6)
        assert any(r["thresholds"][0] != r["thresholds"][1] for r in run.records[3:])
        height_width = sum(h * w for h, w in [(64, 80), (72, 80), (80, 80)] * 2)
        assert all(h.sum() == height_width for h in run.histograms)

    def test_the_joint_loss_has_no_term_of_its_own_for_pseudo_labels(self, tiny_dataset, refined, tmp_path):
        run = run_training(tmp_path / "run", tiny_settings(tiny_dataset, loss="joint"))
        records = read_records(run)
        assert all("pseudo" not in r for r in records)
        assert records[0]["loss"] == refined.records[0]["loss"]
        assert records[-1]["loss"] == pytest.approx(sum(records[-1][part] for part in ("ce", "dice", "border")), rel=1e-5)
        assert not same_weights(weights(run), weights(refined.run))
