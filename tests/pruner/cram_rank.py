"""One rank of the tests of CrAM: `python cram_rank.py RANK WORLD_SIZE FOLDER` leaves rank{RANK}.pt in FOLDER."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gpmt.core.shards import whole
from gpmt.errors import MaskError
from gpmt.pruner.cram import CrAM

STEPS = 5


def network(seed: int = 0) -> nn.Sequential:
    """Return a network that two processes cannot share evenly."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 15), nn.BatchNorm1d(15), nn.Tanh(), nn.Linear(15, 4))


def shard(model: nn.Sequential) -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    fully_shard(model[0])
    fully_shard(model)
    return model


def train(model: nn.Module, *, data: int = 0, seed: int = 0) -> dict[str, Any]:
    """Train for STEPS steps on the data of one rank; return masks of all steps, and the weights in the end."""
    cram = CrAM(
        model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.2, min_kept=6, seed=seed
    )
    digests = []

    def closure() -> Tensor:
        generator = torch.Generator().manual_seed(100 * data + cram.step_count)
        loss: Tensor = model(torch.randn(8, 8, generator=generator)).square().mean()
        loss.backward()
        return loss

    for _ in range(STEPS):
        cram.step(closure)
        assert cram.masks is not None
        digests.append(cram.masks.digest())
    weights = {name.removeprefix("module."): whole(each.detach()) for name, each in model.named_parameters()}
    return {"digests": digests, "weights": weights}


def error_of(act: Callable[[], Any]) -> str:
    try:
        act()
    except MaskError as error:
        return str(error)
    return ""


def main(rank: int, world_size: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    results: dict[str, Any] = {
        "ddp": train(DistributedDataParallel(network(), gradient_as_bucket_view=True)),
        "ddp, data of each rank": train(DistributedDataParallel(network(rank)), data=rank),
        "fsdp": train(shard(network())),
        "error": error_of(lambda: train(DistributedDataParallel(network()), seed=rank)),
    }
    torch.save(results, folder / f"rank{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
