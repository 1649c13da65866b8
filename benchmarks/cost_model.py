"""How good the cost model's first choices are, and which constants the measured candidates would fit.

    python benchmarks/cost_model.py                                         # ResNet-50 at three sparsities
    python benchmarks/cost_model.py --networks resnet50 mobilenetv1 wrn-28-8 --threads 1 --json FILE

The layers are those of pruned networks, for one image. The most promising candidates of each layer are measured in
alternation, as when a program is compiled. Two tables follow:

* The constants in use, and those that fit the measured times best: least squares of the logarithms of the times, with
  one factor from cycles to seconds. The fit changes one constant after another by some percent, as long as one of
  these changes helps. What decides into how many items a layer is split is not fitted.
* The *regret* of both: how much longer the model's first choice takes than the fastest measured candidate of the
  layer. The median and the worst of all layers, and the mean weighted by the layers' times. The fitted constants are
  judged by the layers that they were fitted to, so for other layers they are worse.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch

from gpmt.runtime.codegen import processor
from gpmt.runtime.execution.measuring_alone import measure_candidates
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.lowering.cost_model import COST_MODEL, CostModel, Work, imbalance
from gpmt.runtime.lowering.lower import lower
from gpmt.runtime.lowering.steps import NativeStep
from gpmt.runtime.passes.pipeline import optimize
from gpmt.runtime.threads.thread_pool import ThreadPool
from gpmt.system import cpu_name
from networks import NETWORKS, Pruning, build, prune

NOT_FITTED = ("min_item_cycles", "items_per_thread")
STEPS = (0.5, 0.2, 0.05, 0.02)
"""Relative changes of a constant that the fit tries, up and down; the next one when none helps any more."""


@dataclass(frozen=True)
class Measured:
    """A candidate of a layer.

    Attributes:
        work: what the model counts.
        imbalance: of its items among the threads.
        seconds: of its fastest run.
    """

    work: Work
    imbalance: float
    seconds: float

    def cycles(self, model: CostModel) -> float:
        return model.cycles(self.work) * self.imbalance


@dataclass(frozen=True)
class LayerResult:
    """The measured candidates of a layer."""

    network: str
    sparsity: float
    name: str
    label: str
    candidates: list[Measured]

    def regret(self, model: CostModel) -> float:
        """Return how much longer the model's first choice takes than the fastest candidate, as a fraction."""
        chosen = min(self.candidates, key=lambda candidate: candidate.cycles(model))
        return chosen.seconds / self.best - 1

    @property
    def best(self) -> float:
        return min(candidate.seconds for candidate in self.candidates)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["resnet50"])
    parser.add_argument("--sparsities", nargs="+", type=float, default=[0.8, 0.9, 0.95])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=24, help="measured for each layer, at most")
    parser.add_argument("--rounds", type=int, default=8, help="measurements of each candidate")
    parser.add_argument("--json", type=Path, help="write all measurements here")
    args = parser.parse_args()
    pool = ThreadPool.shared(args.threads)
    layers = []
    for network in args.networks:
        for sparsity in args.sparsities:
            layers += list(measure(network, sparsity, pool, args.candidates, args.rounds))
            print(f"{network} at {sparsity:.0%}: {len(layers)} layers so far", file=sys.stderr, flush=True)
    fitted = fit(layers)
    show(layers, fitted, args.threads)
    if args.json:
        result = {
            "processor": cpu_name(),
            "vectors": processor.host().kind,
            "threads": args.threads,
            "in_use": asdict(COST_MODEL),
            "fitted": asdict(fitted),
            "layers": [asdict(layer) for layer in layers],
        }
        args.json.write_text(json.dumps(result, indent=1))


def measure(
    network: str, sparsity: float, pool: ThreadPool, max_candidates: int, rounds: int
) -> Iterator[LayerResult]:
    """Measure the layers of a network with random weights; layers with the same candidates once."""
    described = NETWORKS[network]
    model = build(described, None)
    prune(model, Pruning(f"{sparsity:.0%}", sparsity))
    lowered = lower(
        optimize(capture(model, torch.zeros(1, *described.shape)).graph), processor.host(), pool.threads
    )
    known = set()
    for step in lowered.steps:
        if not isinstance(step, NativeStep):
            continue
        found = step.candidates(lowered.planes)[:max_candidates]
        key = repr([candidate.spec for candidate in found])
        if len(found) == 1 or key in known:
            continue
        known.add(key)
        planes = {argument: lowered.planes[buffer] for argument, buffer in step.buffers.items()}
        seconds = measure_candidates(found, planes, pool, rounds)
        candidates = [
            Measured(candidate.work, imbalance(candidate.spec.items, pool.threads), time)
            for candidate, time in zip(found, seconds, strict=True)
            if candidate.work is not None
        ]
        yield LayerResult(network, sparsity, step.macs.name, step.label, candidates)


def fit(layers: Sequence[LayerResult]) -> CostModel:
    """Return the constants with the least squared error of the logarithms of all measured times."""
    samples = [candidate for layer in layers for candidate in layer.candidates]
    model, error = COST_MODEL, squared_error(samples, COST_MODEL)
    for step in STEPS:
        improved = True
        while improved:
            improved = False
            for field in fields(CostModel):
                if field.name in NOT_FITTED:
                    continue
                for factor in (1 + step, 1 / (1 + step)):
                    value = getattr(model, field.name) * factor
                    changed = replace(model, **{field.name: value})
                    changed_error = squared_error(samples, changed)
                    if changed_error < error * (1 - 1e-4):
                        model, error, improved = changed, changed_error, True
    return model


def squared_error(samples: Sequence[Measured], model: CostModel) -> float:
    """Return the variance of log(seconds / cycles), so that the factor from cycles to seconds does not matter."""
    return float(np.var([math.log(sample.seconds / sample.cycles(model)) for sample in samples]))


def show(layers: Sequence[LayerResult], fitted: CostModel, threads: int) -> None:
    candidates = sum(len(layer.candidates) for layer in layers)
    print(
        f"{cpu_name()} ({processor.host().kind}), threads: {threads}; {len(layers)} layers, {candidates} candidates\n"
    )
    print(f"{'constant':32} {'in use':>10} {'fitted':>10}")
    for field in fields(CostModel):
        used, found = getattr(COST_MODEL, field.name), getattr(fitted, field.name)
        print(f"{field.name:32} {used:10,.2f} {'' if field.name in NOT_FITTED else f'{found:,.2f}':>10}")
    print(f"\n{'regret':32} {'in use':>10} {'fitted':>10}")
    regrets = [[layer.regret(model) for layer in layers] for model in (COST_MODEL, fitted)]
    total = sum(layer.best for layer in layers)
    rows = {
        "median": [statistics.median(found) for found in regrets],
        "worst": [max(found) for found in regrets],
        "mean, weighted by time": [
            sum(layer.best * regret for layer, regret in zip(layers, found, strict=True)) / total
            for found in regrets
        ],
    }
    for name, (used, found) in rows.items():
        print(f"{name:32} {used:10.1%} {found:10.1%}")
    print("\nlayers with the largest regret of the constants in use:")
    for layer in sorted(layers, key=lambda layer: layer.regret(COST_MODEL), reverse=True)[:5]:
        print(
            f"  {layer.network} at {layer.sparsity:.0%}, {layer.name} ({layer.label}): {layer.regret(COST_MODEL):.1%}"
        )


if __name__ == "__main__":
    main()
