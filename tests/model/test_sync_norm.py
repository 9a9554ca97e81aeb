import pytest
import torch
import torch.distributed as dist
from processes import start_together
from safetensors.torch import load_file, save_file
from torch import nn

from hf_gland.errors import HfGlandError
from hf_gland.model.sync_norm import SyncedBatchNorm2d, synchronise_norms


def batch():
    torch.manual_seed(3)
    spread, mean = torch.tensor([0.5, 1, 3, 10]).view(4, 1, 1), torch.tensor([5.0, 0, -2, 1]).view(4, 1, 1)
    return torch.randn(6, 4, 5, 7) * spread + mean


def network(momentum):
    torch.manual_seed(4)
    norm = nn.BatchNorm2d(4, momentum=momentum)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return nn.Sequential(norm).train()


def train_twice(model, images, weights):
    """Two passes forward and back, then one in eval mode: everything that the layer gives and keeps."""
    for _ in range(2):
        model.zero_grad()
        x = images.clone().requires_grad_()
        out = model(x)
        (out * weights).sum().backward()
    gradients = {f"grad.{n}": p.grad for n, p in model.named_parameters()}
    tensors = {"out": out.detach(), "grad.input": x.grad, "eval": model.eval()(images).detach()}
    return {k: v.clone().contiguous() for k, v in (tensors | gradients | model.state_dict()).items()}


def loss_weights():
    torch.manual_seed(5)
    return torch.randn(6, 4, 5, 7)


def one_process(folder, momentum):
    """What each process of two does with its half of the batch."""
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    half = slice(3 * rank, 3 * rank + 3)
    model = network(momentum)
    synchronise_norms(model)
    save_file(train_twice(model, batch()[half], loss_weights()[half]), folder / f"{rank}.safetensors")
    dist.destroy_process_group()


@pytest.mark.parametrize("momentum", [0.1, None])
def test_two_processes_normalise_as_one_with_the_joined_batch(tmp_path, momentum):
    for process in start_together(2, one_process, tmp_path, momentum):
        assert process.wait() == 0, process.stderr
    halves = [load_file(tmp_path / f"{rank}.safetensors") for rank in range(2)]
    whole = train_twice(network(momentum), batch(), loss_weights())
    for name in ("out", "grad.input", "eval"):
        joined = torch.cat([half[name] for half in halves])
        torch.testing.assert_close(joined, whole[name], rtol=1e-4, atol=1e-4, msg=name)
    for name in ("grad.0.weight", "grad.0.bias"):  # each process has its own crops' share
        both = halves[0][name] + halves[1][name]
        torch.testing.assert_close(both, whole[name], rtol=1e-4, atol=1e-3, msg=name)
    for name in ("0.running_mean", "0.running_var", "0.num_batches_tracked"):
        assert torch.equal(halves[0][name], halves[1][name])
        torch.testing.assert_close(halves[0][name], whole[name], rtol=1e-5, atol=1e-5, msg=name)


def test_alone_it_is_batch_norm_exactly():
    plain, synced = network(0.1), network(0.1)
    synchronise_norms(synced)
    expected = train_twice(plain, batch(), loss_weights())
    for name, value in train_twice(synced, batch(), loss_weights()).items():
        assert torch.equal(value, expected[name]), name


def test_a_single_number_per_channel_is_refused_in_training_alone():
    norm = nn.Sequential(nn.BatchNorm2d(4))
    synchronise_norms(norm)
    with pytest.raises(HfGlandError, match="needs two of them: give a larger --batch_size"):
        norm(torch.zeros(1, 4, 1, 1))
    assert norm(torch.zeros(2, 4, 1, 1)).shape == (2, 4, 1, 1)
    assert norm.eval()(torch.zeros(1, 4, 1, 1)).shape == (1, 4, 1, 1)


def test_every_batch_norm_of_a_network_is_turned_and_the_state_dict_stays_the_same():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), nn.BatchNorm1d(4))
    keys = list(model.state_dict())
    synchronise_norms(model)
    assert type(model[1][0]) is SyncedBatchNorm2d
    assert type(model[2]) is nn.BatchNorm1d
    assert list(model.state_dict()) == keys
