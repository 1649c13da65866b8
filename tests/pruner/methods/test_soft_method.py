"""What soft masks cannot work with is refused in one sentence, before anything is changed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gpmt
from gpmt.core.schedule.schedule import OneShot
from gpmt.errors import MethodError
from gpmt.pruner.methods import soft_rule


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))


def start(optimizer: Any = None, network: nn.Module | None = None, **options: Any) -> gpmt.Pruner:
    network = model() if network is None else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1) if optimizer is None else optimizer(network)
    return gpmt.Pruner(network, optimizer, **{"schedule": OneShot(0.5), "method": "feather", **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"granularity": "row"}, "granularity is 'row', but the method feather shrinks single weights"),
        ({"pattern": "2:4"}, "pattern is '2:4', but the method feather shrinks single weights"),
        ({"within": "row"}, "within is 'row', but the method feather shrinks single weights"),
        ({"scores": lambda network: {}}, "scores is given, but the method feather shrinks single weights"),
        ({"max_macs": "10%"}, "max_macs is '10%', but the method feather"),
        ({"allocation": "random"}, "the allocation random ranks by chance, but the method feather"),
    ],
)
def test_options_that_do_not_rank_single_weights_by_magnitude(options: dict[str, Any], message: str) -> None:
    network = model()
    before = network[0].weight.detach().clone()
    with pytest.raises(MethodError, match=message):
        start(network=network, **options)
    assert torch.equal(network[0].weight, before)


def test_given_masks() -> None:
    masks = gpmt.Masks.of(model())
    with pytest.raises(MethodError, match="cannot train under given ones; give a schedule in place of masks"):
        start(schedule=None, masks=masks)


def test_masks_cannot_be_set() -> None:
    pruner = start(method="st-3")
    with pytest.raises(
        MethodError, match=r"the method st-3 finds the masks anew at every step, so they cannot"
    ):
        pruner.masks = None
    pruner.finish()
    pruner.masks = None


class SAM(torch.optim.SGD):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.base_optimizer = torch.optim.SGD(self.param_groups, lr=0.1)

    def first_step(self) -> None: ...

    def second_step(self) -> None: ...


class ScheduleFree(torch.optim.SGD):
    def eval(self) -> None: ...


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (torch.optim.LBFGS, "LBFGS computes the loss at several points within one step, which the method"),
        (SAM, "SAM computes the loss at several points within one step, which the method feather"),
        (ScheduleFree, r"ScheduleFree changes the weights outside of its steps \(by its eval\(\)\)"),
    ],
)
def test_optimisers_that_cannot_be_followed(kind: Any, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        start(lambda network: kind(network.parameters(), lr=0.1))


def test_an_optimiser_that_turns_out_to_call_its_closure_twice() -> None:
    class Twice(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for _ in range(2):
                with torch.enable_grad():
                    loss = closure()
            return loss

    network = model()
    optimizer = Twice(network.parameters(), lr=0.1)
    gpmt.Pruner(network, optimizer, schedule=OneShot(0.5), method="feather")

    def closure() -> Tensor:
        loss = network(torch.ones(1, 8)).sum()
        loss.backward()
        return loss

    with pytest.raises(MethodError, match="Twice computes the loss at several points within one step"):
        optimizer.step(closure)


def test_reparametrised_weights() -> None:
    network = model()
    nn.utils.parametrizations.weight_norm(network[0])
    with pytest.raises(MethodError, match=r"0\..*original1 is reparametrised, and the method feather"):
        start(network=network)
    start(network=network, exclude="0")


def test_a_cuda_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    network = model()
    pruner = start(network=network)
    [optimizer] = pruner._optimizers
    monkeypatch.setattr(soft_rule, "capturing", lambda: True)
    with pytest.raises(
        MethodError, match=r"which a captured CUDA graph cannot repeat; call finish\(\) before"
    ):
        optimizer.step()
    pruner.finish()
    optimizer.step()


def test_sparse_gradients_with_a_scale() -> None:
    network = nn.Sequential(nn.Embedding(20, 4, sparse=True), nn.Linear(4, 4))
    pruner = start(network=network, scope=["0", "1"], method=gpmt.Feather(theta=0.5))
    [optimizer] = pruner._optimizers
    network(torch.tensor([1])).sum().backward()
    with pytest.raises(
        MethodError, match=r"0\.weight has a sparse gradient, which the method feather cannot"
    ):
        optimizer.step()
