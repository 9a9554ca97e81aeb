import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_gland.config import make_config
from hf_gland.labels import IGNORE_INDEX
from hf_gland.method import losses
from hf_gland.method.losses import dice_sum, mean_over
from hf_gland.method.pseudo_labels import PseudoLabels
from hf_gland.method.schedules import quantile_thresholds, step_values
from hf_gland.method.targets import Targets, make_targets

STEPS, WARMUP = 40, 10


USUAL = {"steps": STEPS, "warmup_fraction": WARMUP / STEPS, "mode": "refined", "loss": "separate", "threshold": "cosine",
         "threshold_start": 0.95, "threshold_end": 0.6, "adaptive_share_start": 0.2, "adaptive_share_end": 0.9,
         "ema_start": 0.99, "ema_end": 0.999, "pseudo_weight": 0.5, "pseudo_ramp": 0.2, "dice_weight": 1.0,
         "warmup_background": "none", "assumed_weight": 0.1, "assumed_weight_end": 0.0}


def config(**changes):
    """The settings of these tests: none is left to a default, which may change."""
    return make_config(saved=USUAL | changes)


def values(step, **changes):
    return step_values(config(**changes), step)


def thresholds(step, histograms=None, classes=2, **changes):
    """τ per class at a step."""
    chosen = config(**changes)
    pseudo_labels = PseudoLabels(chosen.method, Path("nowhere"), [], np.ones(classes), lambda _: None)
    pseudo_labels.histograms = histograms
    return pseudo_labels.thresholds(step_values(chosen, step).progress)


def targets(sparse, teacher, step, **changes):
    """What the student learns from at a step, as the loop asks for it."""
    chosen = config(**changes)
    return make_targets(sparse.byte(), teacher if step_values(chosen, step).refining else None,
                        thresholds(step, classes=3, **changes), fusion=chosen.method.fusion)


def step_loss(logits, target, now, chosen, *others):
    return losses.step_loss(logits, target, now, chosen.method, *others)


def random_labels(seed, labelled=0.3, classes=3):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (4, 6, 5), generator=generator)
    return labels.masked_fill(torch.rand(4, 6, 5, generator=generator) > labelled, IGNORE_INDEX)


def random_target(seed, truth=0.3, pseudo=0.6):
    drawn, taught = random_labels(seed, truth), random_labels(seed + 1, pseudo)
    return Targets(drawn, taught, torch.where(drawn != IGNORE_INDEX, drawn, taught))


def alone(count):
    return count


class TestSchedules:
    def test_warmup_learns_from_the_annotator_alone_and_the_rest_from_both(self):
        refining = [values(step).refining for step in range(STEPS)]
        assert refining == [False] * WARMUP + [True] * (STEPS - WARMUP)
        assert all(values(step).pseudo_weight == 0 for step in range(WARMUP))

    def test_balance_is_whole_in_warmup_and_gone_half_way_through_the_refined_steps(self):
        found = [values(step).class_weighting for step in range(STEPS)]
        assert found[:WARMUP + 1] == [1.0] * (WARMUP + 1)
        assert sorted(found, reverse=True) == found
        half = WARMUP + (STEPS - 1 - WARMUP) / 2
        assert all((b == 0) == (step >= half) for step, b in enumerate(found))

    @pytest.mark.parametrize(("changes", "expected"), [
        ({"balance": "none"}, 0.0), ({"balance": "constant"}, 1.0), ({"mode": "sparse-only"}, 1.0), ({"mode": "full"}, 1.0)])
    def test_balance_stays_where_nothing_takes_its_place_or_it_is_told_to(self, changes, expected):
        assert {values(step, **changes).class_weighting for step in range(STEPS)} == {expected}

    @pytest.mark.parametrize("shape", ["cosine", "linear"])
    def test_the_threshold_falls_from_start_to_end_over_the_refined_steps(self, shape):
        taus = [thresholds(step, threshold=shape) for step in range(WARMUP, STEPS)]
        assert taus[0] == (0.95, 0.95)
        assert taus[-1] == pytest.approx((0.6, 0.6))
        for i, (tau, other) in enumerate(taus):
            progress = i / (STEPS - WARMUP - 1)
            share = (1 - math.cos(math.pi * progress)) / 2 if shape == "cosine" else progress
            assert tau == other == pytest.approx(0.95 - 0.35 * share)

    def test_without_progression_the_threshold_stays(self):
        assert {thresholds(step, progressive=False) for step in range(STEPS)} == {(0.95, 0.95)}

    def test_without_a_filter_the_threshold_is_zero(self):
        assert {thresholds(step, confidence_filter=False) for step in range(STEPS)} == {(0.0, 0.0)}

    def test_the_adaptive_threshold_lets_a_growing_share_of_each_class_pass(self):
        histograms = np.random.default_rng(0).integers(0, 100, (2, 256))
        found = [thresholds(step, histograms, threshold="adaptive") for step in range(WARMUP, STEPS)]
        for i, taus in enumerate(found):
            share = 0.2 + 0.7 * i / (STEPS - WARMUP - 1)
            assert taus == pytest.approx(tuple(quantile_thresholds(histograms, share, 0.5)))
        assert found[0] > found[-1]
        assert len({thresholds(step, histograms, threshold="adaptive", progressive=False)
                    for step in range(WARMUP, STEPS)}) == 1

    def test_the_teacher_slows_down_over_the_whole_run(self):
        decays = [values(step, warmup_fraction=0.0).ema_decay for step in range(STEPS)]
        assert decays[0] == 0.99
        assert decays[-1] == pytest.approx(0.999)
        assert decays == sorted(set(decays))
        assert all(values(step, ema=False).ema_decay == 0 for step in range(STEPS))

    def test_the_teacher_of_a_run_with_a_warm_up_begins_as_an_average_over_few_steps(self):
        decays = [values(step, steps=2000).ema_decay for step in range(2000)]
        assert decays[:3] == pytest.approx([1 / 10, 2 / 11, 3 / 12])
        assert decays[890] == pytest.approx(891 / 900)
        assert decays[-1] == pytest.approx(2000 / 2009)  # 0.9955, still below the 0.999 that is asked for
        assert values(1999, steps=2000, ema_end=0.99).ema_decay == 0.99
        assert math.prod(decays[:150]) < 1e-9  # what the start still weighs

    def test_the_pseudo_labels_ramp_up(self):
        weights = [values(step, pseudo_weight=0.8, pseudo_ramp=0.5).pseudo_weight for step in range(WARMUP, STEPS)]
        assert weights[0] == 0
        assert weights == sorted(weights)
        assert weights[15:] == [0.8] * 15
        assert weights[7] == pytest.approx(0.8 * (7 / 29) / 0.5)
        assert values(WARMUP, pseudo_weight=0.8, pseudo_ramp=0.0).pseudo_weight == 0.8

    def test_the_weight_of_unlabelled_pixels_fades_over_the_warmup_and_only_where_asked_for(self):
        weights = [values(step, warmup_background="assume", assumed_weight=0.2).unlabelled_weight for step in range(STEPS)]
        assert weights[0] == 0.2
        assert weights[:WARMUP] == sorted(set(weights[:WARMUP]), reverse=True)
        assert all(w == pytest.approx(0, abs=1e-12) for w in weights[WARMUP:])
        assert all(values(step).unlabelled_weight == 0 for step in range(STEPS))
        assert values(0, warmup_background="assume", mode="full").unlabelled_weight == 0
        at_once = values(0, warmup_fraction=0.0, warmup_background="assume", assumed_weight=0.2, assumed_weight_end=0.05)
        assert at_once.unlabelled_weight == pytest.approx(0.05)  # without a warm-up there is nothing to fade over
        lasting = values(STEPS - 1, warmup_background="assume", assumed_weight=0.2, assumed_weight_end=0.05)
        assert lasting.unlabelled_weight == pytest.approx(0.05)

    @pytest.mark.parametrize("mode", ["sparse-only", "full"])
    def test_the_bounds_never_refine(self, mode):
        assert not any(values(step, mode=mode).refining for step in range(STEPS))
        assert all(values(step, mode=mode).pseudo_weight == 0 for step in range(STEPS))

    def test_runs_of_one_step_and_without_warmup(self):
        only = values(0, steps=1, warmup_fraction=0.0)
        assert only.refining
        assert thresholds(0, steps=1, warmup_fraction=0.0) == (0.95, 0.95)
        assert not values(0, steps=1, warmup_fraction=1.0).refining


class TestTargets:
    def teacher(self, seed=0):
        return torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(seed)).softmax(1)

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 10**6), step=st.integers(WARMUP, STEPS - 1), filtered=st.booleans())
    def test_the_annotator_is_never_overruled_nor_filtered(self, seed, step, filtered):
        truth = random_labels(seed)
        target = targets(truth, self.teacher(seed), step, confidence_filter=filtered)
        labelled = truth != IGNORE_INDEX
        assert torch.equal(target.labelled, truth)
        assert torch.equal(target.fused[labelled], truth[labelled])
        assert torch.equal(target.fused[~labelled], target.pseudo[~labelled])

    def test_before_the_warmup_ends_the_teacher_has_no_say(self):
        truth = random_labels(1)
        target = targets(truth, self.teacher(), WARMUP - 1)
        assert torch.equal(target.fused, truth)
        assert (target.pseudo == IGNORE_INDEX).all()

    def test_pseudo_labels_are_the_teachers_argmax_above_the_threshold(self):
        probabilities = self.teacher(2)
        target = targets(random_labels(2), probabilities, WARMUP, threshold_start=0.5, threshold_end=0.5)
        sure = probabilities.max(1).values > 0.5
        assert sure.any()
        assert not sure.all()
        assert torch.equal(target.pseudo != IGNORE_INDEX, sure)
        assert torch.equal(target.pseudo[sure], probabilities.argmax(1)[sure])

    def test_without_fusion_the_annotator_has_no_say_once_refining(self):
        chosen = {"fusion": False, "confidence_filter": False}
        found = [targets(random_labels(seed), self.teacher(), WARMUP, **chosen) for seed in (1, 2)]
        assert torch.equal(found[0].fused, found[1].fused)
        assert torch.equal(found[0].fused, self.teacher().argmax(1))
        assert all((t.labelled == IGNORE_INDEX).all() for t in found)
        before = targets(random_labels(1), self.teacher(), 0, **chosen)
        assert torch.equal(before.fused, random_labels(1))


SETTINGS = [{"loss": loss, "warmup_background": background, "assumed_weight_end": 0.05}
            for loss, background in itertools.product(["separate", "joint"], ["none", "assume"])]


class TestLoss:
    @pytest.mark.parametrize("loss", ["separate", "joint"])
    def test_class_weights_weigh_the_firm_labels_and_leave_the_other_terms_alone(self, loss):
        chosen = {"loss": loss, "warmup_background": "assume", "assumed_weight": 0.3, "assumed_weight_end": 0.3}
        target, logits, class_weights = random_target(10), torch.randn(4, 3, 6, 5), torch.tensor([2.0, 0.5, 0.7])
        now = replace(values(STEPS - 1, **chosen), class_weighting=0.5)
        _, plain = step_loss(logits, target, now, config(**chosen), alone)
        _, parts = step_loss(logits, target, now, config(**chosen), alone, class_weights)
        firm = target.fused if loss == "joint" else target.labelled
        label = torch.where(firm != IGNORE_INDEX, firm, torch.where(target.fused == IGNORE_INDEX, 0, IGNORE_INDEX))
        known = label != IGNORE_INDEX
        weight = torch.where(firm != IGNORE_INDEX, class_weights[firm.clamp_max(2)].sqrt(), now.unlabelled_weight)[known]
        each = F.cross_entropy(logits, label, ignore_index=IGNORE_INDEX, reduction="none")[known]
        torch.testing.assert_close(parts["ce"], (each * weight).sum() / weight.sum())
        for name in parts.keys() - {"ce"}:
            torch.testing.assert_close(parts[name], plain[name])

    @pytest.mark.parametrize("chosen", SETTINGS, ids=lambda c: f"{c['loss']}-{c['warmup_background']}")
    @pytest.mark.parametrize("step", [0, STEPS - 1])
    def test_nothing_labelled_gives_a_finite_loss_with_a_gradient_path(self, chosen, step):
        logits = torch.randn(4, 3, 6, 5, requires_grad=True)
        nothing = torch.full((4, 6, 5), IGNORE_INDEX)
        now = values(step, **chosen)
        loss, parts = step_loss(logits, Targets(nothing, nothing, nothing), now, config(**chosen), alone)
        loss.backward()
        assert torch.isfinite(logits.grad).all()
        assert torch.isfinite(loss)
        if now.unlabelled_weight == 0:
            assert loss.item() == 0
            assert not logits.grad.any()
            assert all(part.item() == 0 for part in parts.values())

    @pytest.mark.parametrize("loss", ["separate", "joint"])
    @settings(deadline=None, max_examples=20)
    @given(seed=st.integers(0, 10**6), step=st.sampled_from([0, WARMUP + 5, STEPS - 1]))
    def test_what_lies_under_unlabelled_pixels_has_no_influence(self, loss, seed, step):
        target, now, chosen = random_target(seed), values(step, loss=loss), config(loss=loss)
        torch.manual_seed(seed)
        logits = torch.randn(4, 3, 6, 5)
        hidden = (target.fused == IGNORE_INDEX)[:, None].expand_as(logits)
        results = []
        for given_logits in (logits, torch.where(hidden, 30 * torch.randn(logits.shape), logits)):
            leaf = given_logits.requires_grad_()
            value, _ = step_loss(leaf, target, now, chosen, alone)
            value.backward()
            results.append((value.detach(), leaf.grad))
        assert torch.equal(results[0][0], results[1][0])
        assert torch.equal(results[0][1], results[1][1])
        assert not results[0][1][hidden].any()

    def test_separate_terms_for_truth_and_pseudo_labels(self):
        target, now = random_target(3), values(STEPS - 1, dice_weight=0.7, pseudo_weight=0.4)
        logits = torch.randn(4, 3, 6, 5)
        outside = target.pseudo.masked_fill(target.labelled != IGNORE_INDEX, IGNORE_INDEX)
        ce, pseudo = (F.cross_entropy(logits, t, ignore_index=IGNORE_INDEX) for t in (target.labelled, outside))
        dice = mean_over(dice_sum(logits, target.labelled))
        loss, parts = step_loss(logits, target, now, config(dice_weight=0.7, pseudo_weight=0.4), alone)
        torch.testing.assert_close(loss, ce + 0.7 * dice + 0.4 * pseudo)
        for name, expected in (("ce", ce), ("dice", dice), ("pseudo", pseudo)):
            torch.testing.assert_close(parts[name], expected)

    def test_the_joint_loss_is_one_cross_entropy_and_dice_on_the_union(self):
        target, logits = random_target(4), torch.randn(4, 3, 6, 5)
        loss, _ = step_loss(logits, target, values(STEPS - 1, loss="joint"), config(loss="joint"), alone)
        union = F.cross_entropy(logits, target.fused, ignore_index=IGNORE_INDEX)
        torch.testing.assert_close(loss, union + mean_over(dice_sum(logits, target.fused)))

    @pytest.mark.parametrize("loss", ["separate", "joint"])
    def test_assumed_background_is_a_weak_label_where_nobody_labelled(self, loss):
        chosen = {"loss": loss, "warmup_background": "assume", "assumed_weight": 0.3, "assumed_weight_end": 0.3}
        target, now, logits = random_target(5), values(STEPS - 1, **chosen), torch.randn(4, 3, 6, 5)
        assert now.unlabelled_weight == pytest.approx(0.3)
        _, parts = step_loss(logits, target, now, config(**chosen), alone)
        firm = target.fused if loss == "joint" else target.labelled
        total = weight = torch.zeros(())
        for b, y, x in torch.cartesian_prod(*(torch.arange(n) for n in firm.shape)).tolist():
            label, w = firm[b, y, x], 1.0
            if label == IGNORE_INDEX:
                if target.fused[b, y, x] != IGNORE_INDEX:
                    continue  # the teacher is sure of it
                label, w = torch.tensor(0), now.unlabelled_weight
            total = total + w * F.cross_entropy(logits[b, :, y, x], label)
            weight = weight + w
        torch.testing.assert_close(parts["ce"], total / weight)

    @pytest.mark.parametrize("chosen", SETTINGS, ids=lambda c: f"{c['loss']}-{c['warmup_background']}")
    def test_two_processes_that_share_their_counts_add_up_to_the_whole_batch(self, chosen):
        target, now, used = random_target(6), values(WARMUP + 9, **chosen), config(**chosen)
        torch.manual_seed(0)
        whole = torch.randn(4, 3, 6, 5, requires_grad=True)
        class_weights = torch.tensor([1.4, 0.8, 0.6])
        expected, expected_parts = step_loss(whole, target, now, used, alone, class_weights)
        expected.backward()
        halves = [slice(0, 1), slice(1, 4)]
        halved = [Targets(target.labelled[h], target.pseudo[h], target.fused[h]) for h in halves]
        split = whole.detach().clone().requires_grad_()
        counts: list[list[torch.Tensor]] = [[], []]
        for i, half in enumerate(halves):  # what each process would hand to the others
            step_loss(split[half], halved[i], now, used, lambda c, i=i: counts[i].append(c.detach()) or c, class_weights)
        together = [iter([a + b for a, b in zip(*counts, strict=True)]) for _ in halves]
        losses, parts = zip(*(step_loss(split[half], halved[i], now, used, lambda _, i=i: next(together[i]),
                                        class_weights) for i, half in enumerate(halves)), strict=True)
        sum(losses).backward()
        torch.testing.assert_close(sum(losses), expected)
        torch.testing.assert_close(split.grad, whole.grad)
        for name, value in expected_parts.items():
            torch.testing.assert_close(parts[0][name] + parts[1][name], value)

    def test_the_parts_that_are_recorded_carry_no_gradient(self):
        logits = torch.randn(4, 3, 6, 5, requires_grad=True)
        _, parts = step_loss(logits, random_target(7), values(STEPS - 1), config(), alone)
        assert set(parts) == {"ce", "dice", "pseudo"}
        assert not any(part.requires_grad for part in parts.values())

    def test_nothing_is_assumed_of_images_that_no_annotator_saw(self):
        chosen = {"warmup_background": "assume", "assumed_weight": 0.3, "assumed_weight_end": 0.3}
        target, logits, now = random_target(8), torch.randn(4, 3, 6, 5), values(STEPS - 1, **chosen)
        seen = torch.tensor([True, True, False, False])
        _, parts = step_loss(logits, replace(target, annotated=seen), now, config(**chosen), alone)
        firm = torch.where(seen[:, None, None] & (target.fused == IGNORE_INDEX), 0, target.labelled)
        weight = torch.where(target.labelled == IGNORE_INDEX, now.unlabelled_weight, 1.0) * (firm != IGNORE_INDEX)
        each = F.cross_entropy(logits, firm, ignore_index=IGNORE_INDEX, reduction="none")
        torch.testing.assert_close(parts["ce"], (each * weight).sum() / weight.sum())

    def test_consistency_pulls_the_student_to_the_teacher_and_takes_no_pseudo_labels(self):
        target, now, logits = random_target(9), values(STEPS - 1, loss="consistency"), torch.randn(4, 3, 6, 5)
        teacher = torch.randn(4, 3, 6, 5).softmax(dim=1)
        loss, parts = step_loss(logits, replace(target, teacher=teacher), now, config(loss="consistency"), alone)
        expected = ((logits.softmax(dim=1) - teacher) ** 2).sum(dim=1).mean()
        torch.testing.assert_close(parts["pseudo"], expected)
        torch.testing.assert_close(loss, parts["ce"] + parts["dice"] + now.pseudo_weight * expected)
        outside = teacher.clone()
        outside[:, :, :, 0] = 0  # beyond the image's edge
        _, without = step_loss(logits, replace(target, teacher=outside), now, config(loss="consistency"), alone)
        torch.testing.assert_close(without["pseudo"], ((logits.softmax(1) - teacher)[..., 1:] ** 2).sum(dim=1).mean())
