"""One-shot accuracy by allocation: global, uniform, ERK, LAMP, and the one that `gpmt.sensitivity` suggests.

    python benchmarks/one_shot_allocations.py FILE --cifar10 FOLDER -o sensitivity.json

FILE is a ResNet-20 for CIFAR-10, such as the dense.pt of a run. Each of its tensors is pruned alone at the usual
sparsities, and the loss measured on training images. Then the whole network is pruned by every allocation, the
statistics of batch normalisation are measured again, and the accuracy is that on test images, which nothing has seen;
nothing is trained. What was measured of the tensors is kept in -o, and is not measured again.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn

import gpmt
from gpmt.training import models
from gpmt.training.data import datasets
from gpmt.training.data.source import Source
from gpmt.training.weights import load_weights

SPARSITIES = ("80%", "90%", "95%")
ALLOCATIONS = {"GP": "exact", "uniform": "uniform", "ERK": "erk", "LAMP": "lamp"}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BATCH = 128


def measure(network: nn.Module, batches: list[Any], path: Path) -> gpmt.Sensitivity:
    """Return how sensitive the tensors are, going on with what is in the file."""
    before = gpmt.Sensitivity.load(path) if path.exists() else None

    def tell(name: str, sparsity: Fraction, number: int, count: int) -> None:
        print(f"{number} of {count}: {name} at {float(sparsity):.0%}", file=sys.stderr)

    return gpmt.sensitivity(
        network, batches, resume=before, on_block=lambda found: found.save(path), on_cell=tell
    )


def score(
    network: nn.Module, plan: gpmt.Plan | None, batches: list[Any], source: Source
) -> tuple[float, float]:
    """Return top-1 and loss on the test images of a copy that is pruned by a plan."""
    network = copy.deepcopy(network)
    if plan is not None:
        gpmt.prune_(network, plan=plan)
    gpmt.recalibrate(network, batches)
    right, loss, count = 0, 0.0, 0
    with torch.inference_mode():
        for images, labels in source.test_batches(500):
            logits = network.eval()(images)
            right += int((logits.argmax(1) == labels).sum())
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            count += len(labels)
    return right / count, loss / count


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="weights of a ResNet-20 for CIFAR-10")
    parser.add_argument("--cifar10", type=Path, required=True, help="folder of the data")
    parser.add_argument("--output", "-o", type=Path, default=Path("sensitivity.json"))
    parser.add_argument("--images", type=int, default=2 * BATCH, help="training images to measure on")
    parser.add_argument("--test", type=int, default=1000, help="test images")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", gpmt.GpmtWarning)

    data = datasets.load("cifar10", root=arguments.cifar10, mean=MEAN, std=STD, test_limit=arguments.test)
    source = data.placed(torch.device("cpu"), rank=0, processes=1)
    network = models.build(
        "resnet20", num_classes=10, input_shape=source.input_shape, inputs=source.example()
    )
    load_weights(network, gpmt.load(arguments.file), name="resnet20")
    start = time.monotonic()
    found = measure(network, list(source.plain_batches(BATCH, images=arguments.images)), arguments.output)
    print(f"measured in {time.monotonic() - start:.0f} s", file=sys.stderr)
    batches = list(source.plain_batches(BATCH, images=4 * BATCH))
    top1, loss = score(network, None, batches, source)
    print(f"ResNet-20 on CIFAR-10, {arguments.test:,} test images; dense top-1 {top1:.1%}, loss {loss:.3f}")
    print(f"measured on {found.samples} training images; recalibrated on {4 * BATCH}")
    print(f"{'top-1 (loss)':12}" + "".join(f"{sparsity:>16}" for sparsity in SPARSITIES))
    for name in [*ALLOCATIONS, "suggested"]:
        cells = []
        for sparsity in SPARSITIES:
            if name in ALLOCATIONS:
                plan = gpmt.plan(network, sparsity=sparsity, allocation=ALLOCATIONS[name])
            else:
                plan = found.suggest(network, sparsity)
            top1, loss = score(network, plan, batches, source)
            cells.append(f"{top1:.1%} ({loss:.2f})")
        print(f"{name:12}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
