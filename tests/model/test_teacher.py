import pytest
import torch
from torch import nn

from hf_gland.model.teacher import make_teacher, update_teacher


class Network(nn.Module):
    """Parameters, float buffers and integer buffers."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("scale", torch.rand(4))
        self.register_buffer("counts", torch.zeros(4, dtype=torch.int64))

    def forward(self, x):
        return self.norm(self.layer(x)) * self.scale[:, None, None]


def shuffle(network):
    """New values for everything, as a training step would leave them."""
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape) * 3)
            else:
                tensor.copy_(torch.randint(0, 1000, tensor.shape))


def test_the_average_equals_a_float64_reference_over_many_updates():
    torch.manual_seed(0)
    student = Network()
    teacher = make_teacher(student)
    reference = {name: value.double() for name, value in student.state_dict().items()}
    for step in range(60):
        shuffle(student)
        decay = 0.9 + 0.0016 * step
        update_teacher(teacher, student, decay)
        for name, value in student.state_dict().items():
            if value.is_floating_point():
                reference[name] = decay * reference[name] + (1 - decay) * value.double()
            else:
                reference[name] = value.double()
    assert {"scale", "counts", "norm.running_var", "norm.num_batches_tracked"} <= set(reference)
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), reference[name], rtol=1e-5, atol=1e-6, msg=name)
        else:
            assert torch.equal(value, student.state_dict()[name]), name


@pytest.mark.parametrize(("decay", "follows"), [(0.0, True), (1.0, False)])
def test_decay_0_copies_and_decay_1_keeps_float_tensors(decay, follows):
    torch.manual_seed(1)
    student = Network()
    teacher = make_teacher(student)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    shuffle(student)
    update_teacher(teacher, student, decay)
    expected = student.state_dict() if follows else before
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, expected[name]), name


def test_a_teacher_is_a_frozen_copy_in_eval_mode_and_the_student_stays_as_it_was():
    student = Network().train()
    teacher = make_teacher(student)
    assert not any(m.training for m in teacher.modules())
    assert student.training
    assert student.norm.training
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    assert not {p.data_ptr() for p in teacher.parameters()} & {p.data_ptr() for p in student.parameters()}


def test_it_stays_frozen_while_the_student_trains():
    torch.manual_seed(2)
    student = Network().train()
    teacher = make_teacher(student)
    optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
    image = torch.randn(2, 3, 8, 8)
    for _ in range(3):
        optimizer.zero_grad()
        (student(image) - teacher(image)).square().mean().backward()
        optimizer.step()
        tracked = int(teacher.norm.num_batches_tracked)
        update_teacher(teacher, student, 0.5)
        assert int(teacher.norm.num_batches_tracked) == int(student.norm.num_batches_tracked) == tracked + 1
    assert all(p.grad is None for p in teacher.parameters())
    assert not any(p.requires_grad for p in teacher.parameters())
    assert not any(m.training for m in teacher.modules())
    assert not torch.equal(teacher.norm.running_mean, student.norm.running_mean)


def test_networks_of_different_structure_are_refused():
    with pytest.raises(ValueError, match="zip"):
        update_teacher(make_teacher(nn.Linear(2, 2, bias=False)), nn.Linear(2, 2), 0.9)
