"""One rank of the tests of sharding: `python fsdp_rank.py RANK WORLD_SIZE FOLDER` leaves rank{RANK}.pt in FOLDER."""

from __future__ import annotations

import copy
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot, Schedule
from gpmt.core.shards import local, whole
from gpmt.errors import MaskError
from gpmt.masks import Masks
from gpmt.prune import plan, prune_
from gpmt.pruner.methods.ham import HAM
from gpmt.pruner.methods.method import Method
from gpmt.pruner.methods.rigl import RigL
from gpmt.pruner.methods.set_ import SET
from gpmt.pruner.pruner import Pruner
from gpmt.verification import verify

STEPS = 8
SCHEDULES: dict[str, Schedule] = {
    "one-shot": OneShot(0.75),
    "gradual": Gradual(0.75, end=6, interval=2, initial=0.25),
    "acdc": ACDC(0.75, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step"),
}
METHODS: dict[str, Method] = {
    "rigl+ham": HAM(inner=RigL(interval=1, end=7)),
    "set across": SET(interval=1, end=7, across="network"),
    "ham": HAM(alpha=50),
}
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-2),
    "adam": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
}


def network(seed: int = 0) -> nn.Sequential:
    """Return a network that two processes cannot share evenly: 15 outputs, and one."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(8, 15), nn.Tanh(), nn.Linear(15, 4), nn.Linear(4, 1))
    for layer in (model[0], model[2], model[3]):
        nn.init.normal_(layer.weight, std=2 / layer.in_features**0.5)  # so that every layer keeps weights
    return model


def shard(model: nn.Sequential, **options: Any) -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[0], **options)  # in two groups: a layer, and all the rest
    fully_shard(model, **options)
    return model


def given_masks() -> Masks:
    """Return masks over two of the three layers, which no plan would choose."""
    masks = plan(network(), sparsity=0.5, exclude="2", allocation="random", seed=5).masks()
    return Masks.from_dense({f"module.{name}": mask for name, mask in masks.items()})


def start(
    model: nn.Module, schedule: Schedule | None, *, optimizer: str = "sgd", **options: Any
) -> tuple[Optimizer, Pruner]:
    made = OPTIMIZERS[optimizer](model.parameters())
    return made, Pruner(model, made, schedule=schedule, **options)


def train(
    model: nn.Module,
    optimizer: Optimizer,
    pruner: Pruner,
    *,
    data: int = 0,
    steps: range = range(STEPS),
) -> dict[str, Any]:
    """Train on the data of one rank; return masks and local zeros after each step, and all tensors in the end."""
    digests: list[str] = []
    zeros: list[int] = []
    for step in steps:
        generator = torch.Generator().manual_seed(100 * data + step)
        optimizer.zero_grad()
        inputs = torch.randn(4, 8, generator=generator)
        (model(inputs) - inputs.sum(1, keepdim=True)).square().mean().backward()
        optimizer.step()
        digests.append(pruner.masks.digest() if pruner.masks else "")
        matrices = [p for p in model.parameters() if p.ndim == 2]
        memory = [value for p in matrices for value in optimizer.state[p].values() if value.ndim == 2]
        zeros.append(sum(int((local(value) == 0).sum()) for value in matrices + memory))
    return {"digests": digests, "zeros": zeros, **tensors(model, optimizer), "state": pruner.state_dict()}


def tensors(model: nn.Module, optimizer: Optimizer) -> dict[str, dict[str, Tensor]]:
    """Return whole weights and optimiser state, cut loose from the training."""
    named = {name.removeprefix("module."): p for name, p in model.named_parameters()}
    memory = {
        f"{name}.{key}": whole(value).clone()
        for name, parameter in named.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }
    return {"weights": {name: whole(p).detach().clone() for name, p in named.items()}, "memory": memory}


def schedules(rank: int) -> dict[str, Any]:
    results = {}
    for name, schedule in SCHEDULES.items():
        model = shard(network())
        results[name] = train(model, *start(model, schedule))
    model = shard(network())
    results["different-data"] = train(model, *start(model, SCHEDULES["gradual"]), data=rank)
    model = shard(network())
    results["adam"] = train(model, *start(model, SCHEDULES["gradual"], optimizer="adam"))
    model = shard(network())
    results["given-masks"] = train(model, *start(model, None, masks=given_masks()))
    model = shard(network())
    for name in METHODS:
        model = shard(network())
        results[name] = train(model, *start(model, SCHEDULES["gradual"], method=METHODS[name]))
    model = shard(network())
    results["floors"] = train(model, *start(model, OneShot(0.75), min_kept=3, exclude="2"))
    return results


def sharded_after_the_pruner(rank: int) -> dict[str, Any]:
    """Shard model and optimizer as Accelerate does, when the Pruner has them already."""
    model = network()
    optimizer, pruner = start(model, SCHEDULES["gradual"])
    shard(model)
    optimizer.param_groups[0]["params"] = list(model.parameters())
    return train(model, optimizer, pruner)


def resumed(rank: int) -> dict[str, Any]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

    options = StateDictOptions(full_state_dict=True)
    model = shard(network())
    optimizer, pruner = start(model, SCHEDULES["gradual"])
    train(model, optimizer, pruner, steps=range(3))
    weights, memory = get_state_dict(model, optimizer, options=options)
    saved = copy.deepcopy((weights, memory, pruner.state_dict()))

    model = shard(network(1))
    optimizer, pruner = start(model, SCHEDULES["gradual"])
    set_state_dict(model, optimizer, model_state_dict=saved[0], optim_state_dict=saved[1], options=options)
    pruner.load_state_dict(saved[2])
    return train(model, optimizer, pruner, steps=range(3, STEPS))


def loaded_after_an_evaluation(rank: int) -> dict[str, Any]:
    from torch.distributed.fsdp import FSDPModule

    _, pruned = start(network(), OneShot(0.75))
    model = shard(network(1))
    optimizer, pruner = start(model, OneShot(0.75))
    model(torch.ones(1, 8))
    were_whole = any(type(p) is nn.Parameter for p in model.parameters())
    pruner.load_state_dict(pruned.state_dict())
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    return {"were_whole": were_whole, **tensors(model, optimizer), "state": pruner.state_dict()}


def averages(rank: int) -> dict[str, Any]:
    model, sharded, plain = shard(network()), shard(network(1)), network(2)
    optimizer, pruner = start(model, SCHEDULES["gradual"])
    for average in (sharded, plain):
        pruner.track(average)
    state = train(model, optimizer, pruner)["state"]
    both = {"sharded": sharded, "plain": plain}
    return {"state": state, **{name: tensors(m, optimizer)["weights"] for name, m in both.items()}}


def what_a_step_sends(rank: int) -> int:
    from torch.distributed.tensor.debug import CommDebugMode

    model = shard(network())
    optimizer, pruner = start(model, OneShot(0.75))
    train(model, optimizer, pruner, steps=range(1))
    model(torch.ones(1, 8)).sum().backward()
    with CommDebugMode() as sent:
        optimizer.step()
    return sent.get_total_counts()


def bfloat16(rank: int) -> dict[str, Any]:
    from torch.distributed.fsdp import MixedPrecisionPolicy

    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, cast_forward_inputs=True)
    model = shard(network(), mp_policy=policy)
    return train(model, *start(model, SCHEDULES["gradual"]))


def replicas(rank: int) -> dict[str, Any]:
    """Two replicas of one shard each: a mesh of two dimensions."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
    model = shard(network(), mesh=mesh)
    return train(model, *start(model, SCHEDULES["acdc"]))


def pruned_in_place(rank: int) -> dict[str, Any]:
    """Prune without a Pruner: a sharded model, and a matrix shared by columns."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    model, matrix = shard(network()), network()[0].weight.detach()
    planned = plan(model, sparsity=0.6).masks().digest()
    prune_(model, sparsity=0.6)
    not_zero = Masks.of(model).digest()
    reports = [str(verify(model, sparsity=0.6)), str(verify(model, granularity="column"))]
    shared = {"0.weight": distribute_tensor(matrix, init_device_mesh("cpu", (2,)), [Shard(1)])}
    prune_(shared, sparsity=0.6)
    weights = {name: whole(p).detach() for name, p in model.named_parameters()}
    return {
        "digest": planned,
        "not zero": not_zero,
        "weights": weights,
        "by_columns": whole(shared["0.weight"]),
        "reports": reports,
    }


def different_settings(rank: int) -> str:
    model = shard(network())
    try:
        start(model, OneShot(0.75), allocation="random", seed=rank)
    except MaskError as error:
        return str(error)
    return ""


def accelerate(rank: int) -> dict[str, Any]:
    """Train as Accelerate's plugin for FSDP2 sets it up. It takes no CPUs, so it is told after its start."""
    from accelerate import Accelerator, FullyShardedDataParallelPlugin
    from accelerate.utils import DistributedType

    accelerator = Accelerator(cpu=True)
    accelerator.state._shared_state["distributed_type"] = DistributedType.FSDP
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="no_wrap")
    accelerator.state._shared_state["fsdp_plugin"] = plugin
    model = network()
    model, optimizer = accelerator.prepare(model, OPTIMIZERS["sgd"](model.parameters()))
    pruner = Pruner(model, optimizer, schedule=SCHEDULES["gradual"])
    return train(model, optimizer, pruner)


def zero_redundancy(rank: int) -> list[int]:
    """Count what a ZeroRedundancyOptimizer remembers of pruned weights, and of kept ones, on this rank."""
    from torch.distributed.optim import ZeroRedundancyOptimizer

    model = DistributedDataParallel(network())
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    pruner = Pruner(model, optimizer, schedule=OneShot(0.75))
    for _ in range(3):
        model(torch.ones(4, 8)).square().mean().backward()
        optimizer.step()
    assert pruner.masks is not None
    counts = [0, 0]
    for name, mask in pruner.masks.items():
        memory = optimizer.optim.state.get(model.module.get_parameter(name), {})
        for value in memory.values():
            counts[0] += int(value[~mask].count_nonzero())
            counts[1] += int(value[mask].count_nonzero())
    return counts


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world_size, "LOCAL_WORLD_SIZE": world_size}
    os.environ.update({name: str(value) for name, value in place.items()})  # for Accelerate
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    results: dict[str, Any] = schedules(rank)
    for part in (
        sharded_after_the_pruner,
        resumed,
        loaded_after_an_evaluation,
        averages,
        what_a_step_sends,
        bfloat16,
        replicas,
        pruned_in_place,
        different_settings,
        zero_redundancy,
        *([accelerate] if importlib.util.find_spec("accelerate") else []),
    ):
        results[part.__name__] = part(rank)
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
