"""What weight decay and gradient clipping do to a step of a run."""

import pytest
import torch
from tiny import tiny_settings
from training import prepare_training

from hf_gland.train.loop import take_step


def after_a_step(folder, dataset, **settings):
    """A run after one step; and its parameters before."""
    training = prepare_training(folder, tiny_settings(dataset, **settings))
    before = [p.detach().clone() for p in training.state.student.parameters()]
    take_step(training, training.batches(1))
    return training, before


def test_weight_decay_pulls_every_parameter_to_0_by_its_learning_rate(tiny_dataset, tmp_path):
    with_decay, before = after_a_step(tmp_path / "with", tiny_dataset, weight_decay=0.25)
    without, same = after_a_step(tmp_path / "without", tiny_dataset, weight_decay=0.0)
    assert all(torch.equal(a, b) for a, b in zip(before, same, strict=True))
    rates = {p: group["lr"] for group in with_decay.state.optimizer.param_groups for p in group["params"]}
    assert sorted(set(rates.values())) == pytest.approx([2.5e-3, 12.5e-3])  # half the peak, encoder and head
    for start, decayed, free in zip(before, with_decay.state.student.parameters(), without.state.student.parameters(),
                                    strict=True):
        torch.testing.assert_close(free - decayed, rates[decayed] * 0.25 * start, rtol=1e-3, atol=1e-6)


def gradient_norm(training):
    """The norm of the gradients that the first step used: Adam's mean holds a tenth of them."""
    return 10 * torch.sqrt(sum(s["exp_avg"].square().sum() for s in training.state.optimizer.state.values())).item()


def test_gradients_longer_than_the_limit_are_cut_to_it_and_0_is_no_limit(tiny_dataset, tmp_path):
    norms = {limit: gradient_norm(after_a_step(tmp_path / str(limit), tiny_dataset, max_grad_norm=limit)[0])
             for limit in (0.0, 0.05, 1000.0)}
    assert norms[0.0] > 0.5
    assert norms[1000.0] == pytest.approx(norms[0.0])
    assert norms[0.05] == pytest.approx(0.05, rel=1e-3)


def test_the_limit_holds_for_the_whole_batch_when_it_is_accumulated(tiny_dataset, tmp_path):
    training, _ = after_a_step(tmp_path / "run", tiny_dataset, max_grad_norm=0.05, gradient_accumulation=2)
    assert gradient_norm(training) == pytest.approx(0.05, rel=1e-3)
