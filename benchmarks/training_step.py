"""What keeping pruned weights zero costs a training step, beside PyTorch's own pruning.

    python benchmarks/training_step.py                       # ResNet-50, batch 8 at 224×224, and ResNet-20, batch 128
    python benchmarks/training_step.py --network resnet20 --repetitions 30 --json FILE

A step is forward, backward and SGD with momentum, on a CPU, in float32. The methods take turns in one process,
each with a network and an optimiser of its own, with equal weights and the same batch; a ratio compares the steps of
one turn, and the median of these ratios is shown. The ratio of two noisy times says little about a cost of a percent,
so the Pruner's own work, its hooks before and after the optimiser's step, is also timed alone, within those steps.

Methods (all but the first prune 90 % of the weights of all convolutions and linear layers):
  unmasked   no pruning
  gpmt       gpmt.Pruner: the weights and their momentum are masked after the step
  feather    gpmt.Pruner(method="feather"): soft masks, found anew after every step
  st-3       gpmt.Pruner(method="st-3"), likewise
  prune      torch.nn.utils.prune.global_unstructured: each forward pass computes weight_orig * weight_mask
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import prune

import gpmt
from gpmt.system import cpu_name
from gpmt.training import models

SPARSITY = 0.9
METHODS = ("unmasked", "gpmt", "feather", "st-3", "prune")
GPMT = {"gpmt": "hard", "feather": "feather", "st-3": "st-3"}


@dataclass(frozen=True)
class Workload:
    network: Callable[[], nn.Module]
    batch: int
    size: int
    classes: int
    repetitions: int


def resnet50() -> nn.Module:
    import torchvision

    model: nn.Module = torchvision.models.resnet50()
    return model


def resnet20() -> nn.Module:
    return models.build("resnet20", num_classes=10, input_shape=(3, 32, 32))


WORKLOADS = {
    "resnet50": Workload(resnet50, batch=8, size=224, classes=1000, repetitions=9),
    "resnet20": Workload(resnet20, batch=128, size=32, classes=10, repetitions=31),
}


@dataclass
class Contestant:
    """A network in training by one method."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    hooked: float = 0.0
    steps: list[float] = field(default_factory=list)
    hooks: list[float] = field(default_factory=list)

    def step(self, images: Tensor, labels: Tensor) -> None:
        start = time.perf_counter()
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(images), labels).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.steps.append(time.perf_counter() - start)
        self.hooks.append(self.hooked)
        self.hooked = 0.0

    def timed(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook that adds up its time."""

        def timed_hook(*args: Any) -> Any:
            start = time.perf_counter()
            found = hook(*args)
            self.hooked += time.perf_counter() - start
            return found

        return timed_hook


def prepare(method: str, network: Callable[[], nn.Module]) -> Contestant:
    torch.manual_seed(0)
    model = network()
    if method == "prune":
        layers = [(m, "weight") for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=SPARSITY)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    contestant = Contestant(model, optimizer)
    if method in GPMT:
        gpmt.Pruner(model, optimizer, schedule=gpmt.OneShot(SPARSITY), method=GPMT[method])
        for hooks in (optimizer._optimizer_step_pre_hooks, optimizer._optimizer_step_post_hooks):
            for key, hook in hooks.items():
                hooks[key] = contestant.timed(hook)
    return contestant


def measure(workload: Workload, repetitions: int) -> dict[str, Contestant]:
    contestants = {method: prepare(method, workload.network) for method in METHODS}
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(workload.batch, 3, workload.size, workload.size, generator=generator)
    labels = torch.randint(workload.classes, (workload.batch,), generator=generator)
    for repetition in range(repetitions + 1):
        for turn in range(len(METHODS)):  # none is always after the same other
            contestants[METHODS[(turn + repetition) % len(METHODS)]].step(images, labels)
    for contestant in contestants.values():  # the first step makes the momentum and warms the caches
        del contestant.steps[0], contestant.hooks[:1]
    return contestants


def summarise(contestants: dict[str, Contestant]) -> list[dict[str, Any]]:
    unmasked = contestants["unmasked"].steps
    return [
        {
            "method": method,
            "median_s": statistics.median(contestant.steps),
            "fastest_s": min(contestant.steps),
            "ratio_to_unmasked": statistics.median(
                own / other for own, other in zip(contestant.steps, unmasked, strict=True)
            ),
            "hook_s": statistics.median(contestant.hooks) if method in GPMT else None,
        }
        for method, contestant in contestants.items()
    ]


def show(name: str, workload: Workload, rows: list[dict[str, Any]], repetitions: int) -> None:
    size = f"{workload.size}×{workload.size}"
    print(f"\n{name}, batch {workload.batch} at {size}, sparsity {SPARSITY}; {repetitions} repetitions")
    print(f"{'method':10} {'median ms':>10} {'fastest ms':>11} {'ratio':>7} {'hook ms':>8} {'of a step':>10}")
    step = rows[0]["median_s"]
    for row in rows:
        hook = row["hook_s"]
        alone = f" {hook * 1e3:8.2f} {hook / step:10.2%}" if hook is not None else ""
        print(
            f"{row['method']:10} {row['median_s'] * 1e3:10.1f} {row['fastest_s'] * 1e3:11.1f} "
            f"{row['ratio_to_unmasked']:7.3f}{alone}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", choices=WORKLOADS, action="append", help="one of them only")
    parser.add_argument("--repetitions", type=int, help="steps of each method; 9 and 31 by default")
    parser.add_argument("--batch", type=int, help="another batch size")
    parser.add_argument("--size", type=int, help="another width and height of the images")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    machine = f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    print(machine)
    results = {}
    for name in arguments.network or WORKLOADS:
        workload = WORKLOADS[name]
        changes = {key: value for key in ("batch", "size") if (value := getattr(arguments, key))}
        workload = replace(workload, **changes)
        repetitions = arguments.repetitions or workload.repetitions
        contestants = measure(workload, repetitions)
        rows = summarise(contestants)
        show(name, workload, rows, repetitions)
        results[name] = {
            "batch": workload.batch,
            "size": workload.size,
            "repetitions": repetitions,
            "rows": rows,
        }
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "networks": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
