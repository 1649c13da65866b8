"""One-shot accuracy: what is left after pruning without training, by score, with floors and with compensation.

    python benchmarks/one_shot_accuracy.py WORK --fashion-mnist FOLDER --cifar10 FOLDER --resnet20 FILE
    python benchmarks/one_shot_accuracy.py WORK --fashion-mnist FOLDER --networks lenet5 --json FILE

Two networks, three dense trainings each: LeNet-5-Caffe on Fashion-MNIST from scratch, and ResNet-20 on CIFAR-10 from
a checkpoint in circulation (docs/results.md), both by `gpmt run` with the shipped recipes and the epochs given below.
Each is pruned by four scores at four sparsities, with and without a minimum for every layer, then compensated or not
(`gpmt.compensate`, whose solver "auto" is exact for such layers), then its batch normalisation is measured again
(`gpmt.recalibrate`); nothing is trained. All scores rank the whole network; Wanda also compares the weights of one
output with one another, as it was made to.

Scores and compensation see the same training images without augmentation, batch normalisation some more. ResNet-20 is
tested on 2,000 of the 10,000 test images, the same for all; --test changes that. WORK keeps the dense networks and a
line for each result, so that what was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import gpmt
from gpmt.errors import BudgetError
from gpmt.system import cpu_name
from gpmt.training import models
from gpmt.training.data import datasets
from gpmt.training.data.source import Source
from gpmt.training.weights import load_weights

Batches = list[Any]
Scores = dict[str, Tensor]

SEEDS = (0, 1, 2)
SOLVERS = ("none", "sparsegpt", "auto")
"""Compensation; SparseGPT's own solver is compared for one score only."""
BATCH = 128
SCORES: dict[str, Callable[[nn.Module, Batches], Scores]] = {
    "magnitude": lambda network, batches: gpmt.scores.magnitude(network),
    "Taylor": gpmt.scores.taylor,
    "Fisher": gpmt.scores.fisher,
    "Wanda": gpmt.scores.wanda,
    "Wanda, by row": gpmt.scores.wanda,
}


@dataclass(frozen=True)
class Subject:
    """A network and its data.

    Attributes:
        recipe: of the dense training, with `epochs` of it.
        model, data: names, as the recipe has them; `options` are those of the data.
        sparsities: those that are measured.
        floor: the minimum of every layer, where there is one.
        test: how many test images; None for all.
        images: of calibration; batch normalisation is measured on eight times as many.
    """

    title: str
    recipe: str
    epochs: int
    model: str
    data: str
    options: dict[str, Any]
    sparsities: tuple[float, ...]
    floor: str
    test: int | None
    images: int


SUBJECTS = {
    "lenet5": Subject(
        "LeNet-5-Caffe on Fashion-MNIST",
        "fashion-mnist-lenet5",
        3,
        "lenet5-caffe",
        "fashion-mnist",
        {},
        (0.9, 0.95, 0.98, 0.99),
        "0.1%",
        None,
        512,
    ),
    "resnet20": Subject(
        "ResNet-20 on CIFAR-10",
        "cifar10-resnet20-short",
        1,
        "resnet20",
        "cifar10",
        {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
        (0.5, 0.7, 0.8, 0.9),
        "0.2%",
        2000,
        128,
    ),
}


def train(subject: Subject, seed: int, folder: Path, root: Path, checkpoint: Path | None) -> Path:
    """Return the file of a dense network, trained now unless it is there."""
    run = folder / f"{subject.model}-{seed}"
    if not (run / "metrics.json").exists():
        settings = [
            f"data.root={root}",
            f"dense.epochs={subject.epochs}",
            "finetune.epochs=0",
            f"seed={seed}",
        ]
        settings += [f"dense.checkpoint={checkpoint}"] if checkpoint else []
        command = [sys.executable, "-m", "gpmt", "run", subject.recipe, *settings, "-o", str(run), "--quiet"]
        subprocess.run([*command, "--resume"] if (run / "recipe.yaml").exists() else command, check=True)
    return run / "dense.pt"


def decide(network: nn.Module, name: str, scores: Scores, sparsity: float, floor: str | int) -> gpmt.Masks:
    """Return the masks of one request."""
    options: dict[str, Any] = {"within": "row"} if name.endswith("row") else {"min_kept": floor}
    plan = gpmt.plan(network, sparsity=sparsity, scores=scores, **options)
    return plan.masks()


def cases_of(subject: Subject, name: str) -> list[tuple[Any, ...]]:
    """Return score, sparsity, floors and compensation of each cell; rows keep their share, without floors."""
    floors = (False,) if name.endswith("row") else (False, True)
    solvers = SOLVERS if name == "magnitude" else (SOLVERS[0], SOLVERS[-1])
    return list(product((name,), subject.sparsities, floors, solvers))


def top1(network: nn.Module, source: Source) -> float:
    """Return the share of the test images that are classified right."""
    right = images = 0
    network.eval()
    with torch.inference_mode():
        for batch, labels in source.test_batches(500):
            right += int((network(batch).argmax(1) == labels).sum())
            images += len(labels)
    return right / images


def measure(
    subject: Subject, source: Source, dense: nn.Module, done: set[tuple[Any, ...]], images: int
) -> Iterator[dict[str, Any]]:
    """Yield a result for each combination that is not done."""
    calibration = list(source.plain_batches(BATCH, images=images))
    recalibration = list(source.plain_batches(BATCH, images=8 * images))
    if ("dense",) not in done:
        yield {"case": ["dense"], "top1": top1(dense, source)}
    for name, score in SCORES.items():
        cases = cases_of(subject, name)
        if all(case in done for case in cases):
            continue
        scores = score(dense, calibration)
        for case in cases:
            if case in done:
                continue
            start = time.monotonic()
            try:
                found = cell(subject, source, dense, case, scores, calibration, recalibration)
            except BudgetError as error:
                print(f"{case}: {error}", file=sys.stderr)
                continue
            yield {"case": list(case), **found, "seconds": time.monotonic() - start}


def cell(
    subject: Subject,
    source: Source,
    dense: nn.Module,
    case: tuple[Any, ...],
    scores: Scores,
    calibration: Batches,
    recalibration: Batches,
) -> dict[str, Any]:
    """Prune a copy of a dense network and test it; return its accuracy, and what every tensor keeps."""
    name, sparsity, floors, solver = case
    masks = decide(dense, name, scores, sparsity, subject.floor if floors else 0)
    network, errors = copy.deepcopy(dense), None
    if solver != SOLVERS[0]:
        report = gpmt.compensate(network, masks, calibration, solver=solver)
        errors = {layer.name: (layer.masked, layer.compensated) for layer in report.layers}
    else:
        masks.apply_(network)
    gpmt.recalibrate(network, recalibration)
    kept = {each: masks.kept(each) for each in masks}
    return {"top1": top1(network, source), "kept": kept, "errors": errors}


def spread(values: list[float]) -> str:
    """Return mean and sample standard deviation in percent."""
    if not values:
        return "-"
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


def show(subject: Subject, results: list[dict[str, Any]], test: int, images: int) -> None:
    """Print the table of one network."""

    def found(case: list[Any]) -> list[float]:
        return [row["top1"] for row in results if row["case"] == case]

    dense = spread(found(["dense"]))
    print(f"\n{subject.title}, top-1 % on {test:,} test images; dense {dense}")
    print(f"{images:,} images of calibration; floor {subject.floor} of all weights")
    heads = "".join(f"{sparsity:>15.0%}" for sparsity in subject.sparsities)
    print(f"{'score':15}{'floor':7}{'compensation':13}{heads}")
    for name, floors, solver in product(SCORES, (False, True), SOLVERS):
        if (name, subject.sparsities[0], floors, solver) not in cases_of(subject, name):
            continue
        cells = (spread(found([name, sparsity, floors, solver])) for sparsity in subject.sparsities)
        marks = f"{'yes' if floors else 'no':7}{solver:13}"
        print(f"{name:15}{marks}" + "".join(f"{cell:>15}" for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="folder of the dense networks and the results")
    parser.add_argument("--networks", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--fashion-mnist", type=Path, help="folder of the IDX files")
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--resnet20", type=Path, help="a checkpoint of ResNet-20 on CIFAR-10")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--images", type=int, help="of calibration; by default 512 and, for ResNet-20, 128")
    parser.add_argument("--test", type=int, help="test images; by default 10,000 and, for ResNet-20, 2,000")
    parser.add_argument("--only-train", action="store_true", help="stop when the dense networks are there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    arguments = parser.parse_args()
    roots = {"lenet5": arguments.fashion_mnist, "resnet20": arguments.cifar10}
    for name in arguments.networks:
        if roots[name] is None or (name == "resnet20" and arguments.resnet20 is None):
            parser.error(f"{name} needs its data, and ResNet-20 its checkpoint too")
    warnings.simplefilter("ignore", gpmt.GpmtWarning)
    arguments.work.mkdir(parents=True, exist_ok=True)
    tables = {}
    for name in arguments.networks:
        subject = SUBJECTS[name]
        checkpoint = arguments.resnet20 if name == "resnet20" else None
        files = {
            seed: train(subject, seed, arguments.work, roots[name], checkpoint) for seed in arguments.seeds
        }
        if arguments.only_train:
            continue
        test = arguments.test or subject.test
        source = datasets.load(subject.data, root=roots[name], test_limit=test, **subject.options)
        images = arguments.images or subject.images
        settings = {"images": images, "test": source.test_size}
        log = arguments.work / f"{subject.model}.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        rows = [row for row in rows if row["settings"] == settings]
        for seed, file in files.items():
            dense = models.build(subject.model, num_classes=10, input_shape=source.input_shape)
            load_weights(dense, file, name=subject.model)
            done = {tuple(row["case"]) for row in rows if row["seed"] == seed}
            for result in measure(subject, source, dense.eval(), done, images):
                rows.append({"seed": seed, "settings": settings, **result})
                with log.open("a") as stream:
                    stream.write(json.dumps(rows[-1]) + "\n")
        rows = [row for row in rows if row["seed"] in files]
        show(subject, rows, source.test_size, images)
        tables[name] = rows
    if tables:
        print(f"\n{len(arguments.seeds)} seeds; {cpu_name()}, PyTorch {torch.__version__}")
    if arguments.json:
        document = {"processor": cpu_name(), "torch": torch.__version__, "results": tables}
        arguments.json.write_text(json.dumps(document))


if __name__ == "__main__":
    main()
