"""One rank of the distributed tests: `python soft_rank.py RANK WORLD_SIZE FOLDER` leaves rank{RANK}.pt in FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import gpmt
from gpmt.core.shards import whole

STEPS = 6
METHODS: dict[str, gpmt.Method] = {
    "feather": gpmt.Feather(theta=0.5),
    "st-3": gpmt.ST3(),
    "flat": gpmt.ST3(flat=True),
}
SCHEDULE = gpmt.Gradual(0.75, end=3, initial=0.25)


def network(seed: int = 0) -> nn.Sequential:
    """Return a network that two processes cannot share evenly: 15 outputs, and one."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 15), nn.Tanh(), nn.Linear(15, 4), nn.Linear(4, 1))
    for layer in (model[0], model[2], model[3]):
        nn.init.normal_(layer.weight, std=2 / layer.in_features**0.5)
    return model


def shard(model: nn.Sequential) -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[0])
    fully_shard(model)
    return model


def start(model: nn.Module, method: gpmt.Method) -> tuple[torch.optim.Optimizer, gpmt.Pruner]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-2)
    return optimizer, gpmt.Pruner(model, optimizer, schedule=SCHEDULE, method=method, min_kept=3)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    pruner: gpmt.Pruner,
    *,
    data: int = 0,
    steps: range = range(STEPS),
) -> dict[str, Any]:
    """Train on the data of one rank; return masks after each step, and the whole network and state in the end."""
    digests, exact = [], True
    for step in steps:
        generator = torch.Generator().manual_seed(100 * data + step)
        optimizer.zero_grad()
        inputs = torch.randn(4, 8, generator=generator)
        (model(inputs) - inputs.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
        assert pruner.masks is not None
        digests.append(pruner.masks.digest())
        for name, parameter in model.named_parameters():
            name = name.removeprefix("module.")
            if name in pruner.masks:
                exact &= torch.equal(whole(parameter) != 0, pruner.masks[name])
    weights = {name.removeprefix("module."): p for name, p in model.named_parameters()}
    return {
        "digests": digests,
        "exact": exact,
        "weights": {name: whole(p).detach().clone() for name, p in weights.items()},
        "state": pruner.state_dict(),
    }


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    results: dict[str, Any] = {}
    for name, method in METHODS.items():
        replica = DistributedDataParallel(network(rank if name == "feather" else 0))
        results[f"ddp-{name}"] = train(replica, *start(replica, method))
        sharded = shard(network())
        results[f"fsdp-{name}"] = train(sharded, *start(sharded, method))
    model = DistributedDataParallel(network())
    results["ddp-different-data"] = train(model, *start(model, METHODS["feather"]), data=rank)
    sharded = shard(network())
    results["fsdp-different-data"] = train(sharded, *start(sharded, METHODS["feather"]), data=rank)

    sharded = shard(network())
    optimizer, pruner = start(sharded, METHODS["st-3"])
    train(sharded, optimizer, pruner, steps=range(3))
    state, memory = pruner.state_dict(), optimizer.state_dict()
    other = shard(network(1))
    resumed_optimizer, resumed = start(other, METHODS["st-3"])
    other.load_state_dict(sharded.state_dict())
    resumed_optimizer.load_state_dict(memory)
    resumed.load_state_dict(state)
    results["fsdp-resumed"] = train(other, resumed_optimizer, resumed, steps=range(3, STEPS))

    late = network()
    optimizer, pruner = start(late, METHODS["st-3"])
    shard(late)
    late_optimizer = torch.optim.SGD(late.parameters(), lr=0.02)
    late_pruner = gpmt.Pruner(late, late_optimizer, schedule=SCHEDULE, method="st-3", min_kept=3)
    late_pruner.load_state_dict({**pruner.state_dict()})
    results["dense-from-unsharded"] = {
        name: tensor.clone() for name, tensor in late_pruner.state_dict()["method"]["dense"].items()
    }

    sharded = shard(network())
    average = AveragedModel(network())
    optimizer, pruner = start(sharded, METHODS["feather"])
    pruner.track(average)
    results["fsdp-average"] = train(sharded, optimizer, pruner)
    results["average"] = {name: p.detach().clone() for name, p in average.module.named_parameters()}
    pruner.close()
    results["closed"] = {name: whole(p).detach().clone() for name, p in sharded.named_parameters()}

    model = DistributedDataParallel(network())
    if rank:
        with torch.no_grad():
            model.module[0].weight.copy_(model.module[0].weight.flip(0))
    try:
        start(model, METHODS["feather"])
        results["error"] = ""
    except gpmt.GpmtError as error:
        results["error"] = str(error)
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
