import math

import torch

from hf_gland.config import make_config
from hf_gland.method.losses import step_loss
from hf_gland.method.schedules import step_values
from hf_gland.method.targets import make_targets

OPEN = 255


def test_the_teacher_tells_border_from_core_where_it_is_sure_of_both_and_labels_win():
    sparse = torch.tensor([[[0, 1, OPEN, OPEN, OPEN, OPEN]]], dtype=torch.uint8)
    drawn = torch.tensor([[[OPEN, 1, OPEN, OPEN, OPEN, OPEN]]], dtype=torch.uint8)
    gland = torch.tensor([0.1, 0.9, 0.95, 0.95, 0.7, 0.05])  # the last pixels: not sure of a gland, sure of stroma
    rim = torch.tensor([0.9, 0.1, 0.95, 0.6, 0.02, 0.99])
    teacher = torch.stack([1 - gland, gland, rim])[None, :, None]
    target = make_targets(sparse, teacher, (0.8, 0.8), border=drawn)
    assert target.border.pseudo.flatten().tolist() == [OPEN, 0, 1, OPEN, OPEN, OPEN]
    assert target.border.fused.flatten().tolist() == [OPEN, 1, 1, OPEN, OPEN, OPEN]
    assert target.border.labelled.flatten().tolist() == drawn.flatten().tolist()
    assert target.teacher.shape == (1, 2, 1, 6)  # the classes alone
    alone = make_targets(sparse, teacher, (0.8, 0.8), border=drawn, fusion=False)
    assert alone.border.fused.flatten().tolist() == [OPEN, 0, 1, OPEN, OPEN, OPEN]
    before = make_targets(sparse, None, (0.8, 0.8), border=drawn)
    assert before.border.fused.flatten().tolist() == drawn.flatten().tolist()
    assert make_targets(sparse, None, (0.8, 0.8)).border is None


def test_the_loss_is_that_of_labelled_pixels_and_of_the_teachers_weighted():
    torch.manual_seed(0)
    logits, border = torch.randn(1, 2, 1, 4), torch.tensor([[[2.0, -1.0, 0.5, 3.0]]], requires_grad=True)
    sparse = torch.tensor([[[1, OPEN, OPEN, 0]]], dtype=torch.uint8)
    drawn = torch.tensor([[[1, OPEN, OPEN, OPEN]]], dtype=torch.uint8)
    teacher = torch.tensor([[0.0, 1.0, 0.9], [0.0, 1.0, 0.01], [0.0, 1.0, 0.99], [1.0, 0.0, 0.9]]).T[None, :, None]
    config = make_config({"pseudo_weight": 0.5, "pseudo_ramp": 0.0, "border_weight": 3.0, "balance": "none"})
    target = make_targets(sparse, teacher, (0.8, 0.8), border=drawn)
    values = step_values(config, 599)
    loss, parts = step_loss(logits, target, values, config.method, lambda count: count, None, border)
    without, _ = step_loss(logits, target, values, config.method, lambda count: count)
    expected = math.log1p(math.exp(-2)) + 0.5 * (math.log1p(math.exp(-1)) + math.log1p(math.exp(-0.5))) / 2
    torch.testing.assert_close(loss - without, torch.tensor(3 * expected))
    torch.testing.assert_close(parts["border"], torch.tensor(expected))
    loss.backward()
    assert border.grad[0, 0, 3] == 0  # no gland there: nothing is asked
    joint = make_config({"loss": "joint", "border_weight": 1.0, "balance": "none"})
    together, _ = step_loss(logits, target, step_values(joint, 599), joint.method, lambda count: count, None, border)
    plain, _ = step_loss(logits, target, step_values(joint, 599), joint.method, lambda count: count)
    over_all = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1)) + math.log1p(math.exp(-0.5))) / 3
    torch.testing.assert_close(together - plain, torch.tensor(over_all))


def test_a_batch_without_a_gland_costs_nothing_and_has_a_gradient():
    logits, border = torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, requires_grad=True)
    empty = torch.full((1, 2, 2), OPEN, dtype=torch.uint8)
    config = make_config({"mode": "sparse-only"})
    loss, parts = step_loss(logits, make_targets(empty, None, (0.5, 0.5), border=empty), step_values(config, 0),
                            config.method, lambda count: count, None, border)
    loss.backward()
    assert parts["border"] == 0
    assert torch.equal(border.grad, torch.zeros(1, 2, 2))
