"""State dicts of networks in one process, plain and sharded; two processes are in test_run_processes.py."""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from gpmt.core.shards import whole
from gpmt.training.run.states import (
    is_sharded,
    load_model_state,
    load_optimizer_state,
    model_state,
    optimizer_state,
)

Shard = Callable[[nn.Module], nn.Module]


@pytest.fixture
def sharded() -> Iterator[Shard]:
    """Shards a network as FSDP2 does, over the one process of a group."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = DeviceMesh("cpu", [0])
    yield lambda network: fully_shard(network, mesh=mesh)
    dist.destroy_process_group()


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2))


def trained(network: nn.Module, steps: int = 2) -> torch.optim.Optimizer:
    """Take steps on random inputs, and return the optimizer with its momentum."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    for step in range(steps):
        inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        network(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return optimizer


def weights(network: nn.Module) -> list[Tensor]:
    return [whole(parameter).detach().clone() for parameter in network.parameters()]


def test_the_state_of_a_plain_network_is_its_own(network: nn.Module):
    assert not is_sharded(network)
    state = model_state(network)
    assert state["0.weight"].data_ptr() == network[0].weight.data_ptr()
    optimizer = trained(network)
    assert optimizer_state(network, optimizer) == optimizer.state_dict()


def test_a_plain_network_and_its_optimizer_go_on_as_before(network: nn.Module):
    copied = copy.deepcopy(network)
    optimizer = trained(network)
    state, moments = copy.deepcopy(model_state(network)), copy.deepcopy(optimizer_state(network, optimizer))
    other = torch.optim.SGD(copied.parameters(), lr=0.1, momentum=0.9)
    load_model_state(copied, state)
    load_optimizer_state(copied, other, moments)
    for part, its_optimizer in ((network, optimizer), (copied, other)):
        part(torch.ones(3, 4)).sum().backward()
        its_optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(weights(network), weights(copied), strict=True))


def test_a_state_that_does_not_fit_is_refused(network: nn.Module):
    state = model_state(network)
    del state["2.bias"]
    with pytest.raises(RuntimeError, match=r"2\.bias"):
        load_model_state(network, state)


def test_there_may_be_no_state_to_load(network: nn.Module):
    optimizer = trained(network)
    before = copy.deepcopy(optimizer.state_dict())
    load_optimizer_state(network, optimizer, None)
    torch.testing.assert_close(optimizer.state_dict(), before, rtol=0, atol=0)


def test_the_state_of_a_sharded_network_has_whole_tensors(sharded: Shard, network: nn.Module):
    expected = copy.deepcopy(network.state_dict())
    split = sharded(network)
    assert is_sharded(split)
    state = model_state(split)
    assert list(state) == list(expected)
    assert all(
        type(tensor) is Tensor and torch.equal(tensor, expected[name]) for name, tensor in state.items()
    )


def test_a_sharded_network_takes_whole_tensors(sharded: Shard, network: nn.Module):
    state = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    split = sharded(network)
    load_model_state(split, state)
    for name, tensor in model_state(split).items():
        assert torch.equal(tensor, state[name])


def test_an_optimizer_of_a_sharded_network_has_no_state_before_its_first_step(
    sharded: Shard, network: nn.Module
):
    split = sharded(network)
    before = weights(split)
    assert optimizer_state(split, torch.optim.SGD(split.parameters(), lr=1.0, momentum=0.9)) is None
    assert all(torch.equal(a, b) for a, b in zip(before, weights(split), strict=True))


def test_the_momentum_of_a_sharded_network_comes_back_whole(sharded: Shard, network: nn.Module):
    split = sharded(network)
    optimizer = trained(split)
    state = copy.deepcopy(optimizer_state(split, optimizer))
    assert state is not None
    momentum = [entry["momentum_buffer"] for entry in state["state"].values()]
    assert len(momentum) == 6
    assert all(type(tensor) is Tensor and tensor.any() for tensor in momentum)
    other = torch.optim.SGD(split.parameters(), lr=0.1, momentum=0.9)
    load_optimizer_state(split, other, state)
    loaded = optimizer_state(split, other)
    assert loaded is not None
    torch.testing.assert_close(loaded["state"], state["state"], rtol=0, atol=0)
