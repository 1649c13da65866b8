"""One rank of the distributed tests: `python ddp_rank.py RANK WORLD_SIZE FOLDER` leaves rank{RANK}.pt in FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpmt.core.schedule.schedule import ACDC, Gradual, OneShot, Schedule
from gpmt.errors import MaskError
from gpmt.masks import Masks
from gpmt.pruner.methods.ham import HAM
from gpmt.pruner.methods.method import Method
from gpmt.pruner.methods.rigl import RigL
from gpmt.pruner.methods.set_ import SET
from gpmt.pruner.pruner import Pruner

STEPS = 8
SCHEDULES: dict[str, Schedule] = {
    "one-shot": OneShot(0.75),
    "gradual": Gradual(0.75, end=6, interval=2, initial=0.25),
    "acdc": ACDC(0.75, start=1, period=4, sparse=2, last_restore=3, end=6, unit="step"),
}


METHODS: dict[str, Method] = {
    "one-shot": HAM(),
    "gradual": HAM(inner=RigL(interval=1, end=7)),
    "acdc": SET(interval=2, end=8, across="network"),
}


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))


def train(
    model: nn.Module, schedule: Schedule, *, shard: int, method: str | Method = "hard"
) -> dict[str, Any]:
    """Train for STEPS steps on the data of one shard; return masks, zeros and weights after each."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    pruner = Pruner(model, optimizer, schedule=schedule, method=method)
    digests: list[str] = []
    zeros: list[int] = []
    for step in range(STEPS):
        generator = torch.Generator().manual_seed(100 * shard + step)
        optimizer.zero_grad()
        model(torch.randn(4, 8, generator=generator)).square().mean().backward()
        optimizer.step()
        digests.append(pruner.masks.digest() if pruner.masks else "")
        values = [p for p in model.parameters() if p.ndim == 2]
        values += [optimizer.state[p]["momentum_buffer"] for p in values]
        zeros.append(sum(int((value == 0).sum()) for value in values))
    weights: dict[str, Tensor] = {name: p.detach() for name, p in model.named_parameters()}
    return {"digests": digests, "zeros": zeros, "weights": weights, "state": pruner.state_dict()}


def wrap_late(seed: int) -> str:
    """Wrap a model that has a Pruner already; return what the first step says."""
    model = network(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = Pruner(model, optimizer, schedule=OneShot(0.5))
    replica = DistributedDataParallel(model)
    replica(torch.ones(4, 8)).square().mean().backward()
    try:
        optimizer.step()
    except MaskError as error:
        return str(error)
    assert pruner.step_count == 1
    return ""


def given_masks(seed: int) -> str:
    """Train one step under masks that are drawn by this rank; return what the Pruner says."""
    generator = torch.Generator().manual_seed(seed)
    masks = Masks.from_dense({"0.weight": torch.rand(16, 8, generator=generator) < 0.5})
    model = DistributedDataParallel(network(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        Pruner(model, optimizer, masks=masks)
    except MaskError as error:
        return str(error)
    model(torch.ones(4, 8)).square().mean().backward()
    optimizer.step()
    assert not model.module[0].weight[~masks["0.weight"]].any()
    return ""


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    results: dict[str, Any] = {}
    for name, schedule in SCHEDULES.items():
        for data in ("same", "sharded"):
            # Seeded by rank: DistributedDataParallel makes the ranks equal.
            model = DistributedDataParallel(network(rank))
            results[f"{name}-{data}"] = train(model, schedule, shard=rank if data == "sharded" else 0)

        model = DistributedDataParallel(network(rank))
        results[f"{name}-method"] = train(model, schedule, shard=rank, method=METHODS[name])

    model = DistributedDataParallel(network(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = Pruner(model, optimizer, schedule=OneShot(0.75))
    pruner.load_state_dict(results["one-shot-sharded"]["state"])
    results["resumed"] = pruner.masks.digest() if pruner.masks else ""

    model = DistributedDataParallel(network(0))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if rank == 1:
        with torch.no_grad():
            model.module[0].weight.copy_(model.module[0].weight.flip(0))
    try:
        Pruner(model, optimizer, schedule=OneShot(0.5))
        results["error"] = ""
    except MaskError as error:
        results["error"] = str(error)
    results["given masks"] = {"equal": given_masks(0), "different": given_masks(rank)}
    results["wrapped late"] = {"different": wrap_late(rank), "equal": wrap_late(0)}
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
