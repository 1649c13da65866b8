"""Subjects, grids and reports made by hand, rich enough to draw everything from.

``run()`` is a finished run of two phases with floors that bind, a dead block, three blocks in one tensor and names
with markup in them; ``unfinished_run()`` the same after two epochs; ``plan()`` and ``weights_file()`` what they tell
without training; ``many_layers()`` a plan of 10,000 layers; ``sweep()`` and ``comparison()`` grids; ``report()`` all.
"""

from __future__ import annotations

import math
from dataclasses import replace

from gpmt.report.content.grid import Cell, Grid, Spread
from gpmt.report.content.report import Report
from gpmt.report.content.subject import (
    ChannelMap,
    Epoch,
    Histogram,
    Latency,
    Layer,
    Score,
    Sizes,
    Subject,
)

MARKUP = "head.<script>alert('x')</script>&amp;\"q\".weight"
"""The name of a tensor as a hostile file may have it."""

VERSIONS = {"python": "3.11.7", "torch": "2.14.1", "gpmt": "0.1.0", "numpy": "2.4.6"}
MACHINE = {"system": "Linux x86_64", "cpu": "A processor", "threads": 2, "device": "cpu", "processes": 1}
MACS_RULE = (
    "Multiply-accumulates of convolutions and linear layers for one input, all and without zero weights."
)
EDGES = tuple(-5 + i / 4 for i in range(21))
"""Bins of a quarter of a decade, from 1e-5 to 1."""


def layers() -> list[Layer]:
    """Return seven blocks: two convolutions, one of them dead, q, k and v in one tensor, and two linear layers."""
    return [
        Layer(
            "stem.weight",
            "stem.weight",
            "Conv2d",
            (16, 3, 3, 3),
            432,
            210,
            60,
            False,
            None,
            16,
            15,
            27648,
            13440,
        ),
        Layer("dw.weight", "dw.weight", "Conv2d", (16, 1, 3, 3), 144, 0, 0, False, None, 16, 0, 9216, 0),
        Layer("qkv.weight.q", "qkv.weight", "Linear", (16, 16), 256, 60, 60, True, None, 16, 12, 16384, 3840),
        Layer(
            "qkv.weight.k", "qkv.weight", "Linear", (16, 16), 256, 61, 60, False, None, 16, 11, 16384, 3904
        ),
        Layer("qkv.weight.v", "qkv.weight", "Linear", (16, 16), 256, 60, 60, True, None, 16, 16, 16384, 3840),
        Layer(
            "mlp.weight", "mlp.weight", "Linear", (256, 16), 4096, 120, 60, False, None, 256, 40, 262144, 7680
        ),
        Layer(MARKUP, MARKUP, "Linear", (10, 256), 2560, 289, 60, False, None, 10, 10, 2560, 289),
    ]


def histogram(name: str = "", weights: int = 8000, kept: int = 800, threshold: float = 0.05) -> Histogram:
    """Return the magnitudes of weights that are about log-normal; those from the threshold on are kept."""
    shares = [math.exp(-((edge + 1.6) ** 2) / 0.5) for edge in EDGES[:-1]]
    before = [int(weights * share / sum(shares)) for share in shares]
    above = [edge >= math.log10(threshold) for edge in EDGES[:-1]]
    left = sum(count for count, is_above in zip(before, above, strict=True) if is_above) or 1
    after = [count * kept // left if is_above else 0 for count, is_above in zip(before, above, strict=True)]
    after[above.index(True)] += kept - sum(after)
    zeros = weights - sum(before)
    return Histogram(name, EDGES, tuple(before), tuple(after), zeros, weights - kept, threshold)


def channels() -> list[ChannelMap]:
    """Return the maps of three tensors; most filters of ``mlp.weight`` and all of ``dw.weight`` are zero."""
    return [
        ChannelMap("stem.weight", (0, *[14] * 15), (70, 70, 70)),
        ChannelMap("dw.weight", (0,) * 16, (0,)),
        ChannelMap("mlp.weight", (0,) * 216 + (3,) * 40, (10, 0, *[8] * 12, 14, 0)),
    ]


def history(epochs: int = 5) -> list[Epoch]:
    """Return two phases: dense training, then fine-tuning while the sparsity rises in two steps."""
    dense = [Epoch("dense", 0, {"test_loss": 2.3, "test_top1": 0.1, "test_top5": 0.5, "test_images": 1000})]
    dense += [
        Epoch(
            "dense",
            epoch,
            {
                "lr": 0.1 * (1 - epoch / 6),
                "train_loss": 2.0 / epoch,
                "train_top1": 0.5 + 0.08 * epoch,
                "test_loss": 2.1 / epoch,
                "test_top1": 0.45 + 0.09 * epoch,
                "test_top5": 0.9 + 0.01 * epoch,
                "test_images": 1000,
                "images_per_second": 210.5,
                "seconds": 30.5,
            },
        )
        for epoch in range(1, 6)
    ]
    finetune = [
        Epoch(
            "finetune",
            epoch,
            {
                "lr": 0.05 * (1 - epoch / 6),
                "test_loss": 0.9 - 0.1 * epoch,
                "test_top1": 0.30 + 0.11 * epoch,
                "test_top5": 0.8 + 0.03 * epoch,
                "test_images": 1000,
                "sparsity": 0.5 if epoch < 2 else 0.9,
                "seconds": 31.0,
            },
        )
        for epoch in range(epochs + 1)
    ]
    return dense + finetune


def run(**changes: object) -> Subject:
    """Return a finished run in which everything is known; `changes` are fields to replace."""
    subject = Subject(
        kind="run",
        title="MobileNet-like network on digits",
        path="runs/gp-mt",
        asked="90 %",
        numel=8000,
        kept=800,
        parameters=8200,
        nonzero_parameters=1000,
        scope="The weights of all convolutions and linear layers of MobileNet, 97.6 % of its parameters",
        minimum="60",
        thresholds={"": 0.05},
        schedule="gradual",
        method="hard",
        allocation="exact",
        layers=layers(),
        histograms=[histogram(), histogram("mlp.weight", 4096, 120), histogram(MARKUP, 2560, 289)],
        channels=channels(),
        history=history(),
        scores=[
            Score("dense", 0.9012, 0.9511, 0.42, 1000),
            Score("pruned", 0.3042, 0.8021, 0.91, 1000),
            Score("recalibrated", 0.5333, 0.8512, 0.8, 1000),
            Score("finetuned", 0.8523, 0.9502, 0.45, 1000),
        ],
        sizes=Sizes(32_800, 9_120, 4_210),
        latency=Latency(3.21, 0.84, 1, "A processor"),
        macs_dense=350_720,
        macs_sparse=32_993,
        macs_rule=MACS_RULE,
        seed=0,
        verified=True,
        epochs={"dense": 5, "finetune": 5},
        seconds={"dense": 152.5, "prune": 0.013, "finetune": 186.0},
        recipe={
            "title": "MobileNet-like network on digits",
            "model": "mobilenet-small",
            "seed": 0,
            "data": {"name": "digits", "mean": [0.1, 0.2], "train_limit": None},
            "dense": {"epochs": 5, "lr": 0.1},
            "prune": {"sparsity": 0.9, "min_kept": 60, "schedule": "gradual", "exclude": []},
            "finetune": {"epochs": 5, "lr": 0.05},
        },
        versions=VERSIONS,
        machine=MACHINE,
        commands=["gpmt run digits sparsity=0.9 prune.min_kept=60 -o runs/gp-mt"],
        warnings=["dw.weight keeps none of its 144 weights; give a minimum with prune.min_kept"],
    )
    return replace(subject, **changes)  # type: ignore[arg-type]


def collapsed_run() -> Subject:
    """Return the run without floors: the same sparsity, one layer more dead, accuracy as by chance."""
    alone = [
        replace(layer, floor=0, binds=False)
        if layer.name != "qkv.weight.v"
        else replace(layer, kept=0, floor=0, binds=False, live_outputs=0, macs_sparse=0)
        for layer in layers()
    ]
    return run(
        title="The same without floors",
        path="runs/gp",
        minimum="",
        layers=[
            replace(one, kept=180, macs_sparse=11_520) if one.name == "mlp.weight" else one for one in alone
        ],
        scores=[
            Score("dense", 0.9012, 0.9511),
            Score("pruned", 0.1, 0.5),
            Score("finetuned", 0.1014, 0.5042),
        ],
        latency=None,
        macs_sparse=32_993,
        missing=[
            "latency: it is not measured; gpmt bench runs/gp/model.pt --json > runs/gp/bench.json adds it"
        ],
    )


def unfinished_run() -> Subject:
    """Return the run while it goes on: no result, two epochs of fine-tuning."""
    return run(
        finished=False,
        kept=0,
        numel=0,
        nonzero_parameters=None,
        layers=(),
        histograms=(),
        channels=(),
        thresholds={},
        history=history(2),
        scores=[Score("dense", 0.9012, 0.9511)],
        sizes=Sizes(),
        latency=None,
        macs_dense=None,
        macs_sparse=None,
        macs_rule="",
        verified=None,
        warnings=(),
        missing=["layers: the run has not finished; it writes metrics.json at its end"],
    )


def plan() -> Subject:
    """Return a plan: counts and floors, two groups with thresholds of their own, nothing measured."""
    groups = ["encoder" if layer.tensor == "qkv.weight" else "*" for layer in layers()]
    return Subject(
        kind="plan",
        title="plan.json",
        path="plan.json",
        asked="encoder 80 %, * 95 %",
        numel=8000,
        kept=800,
        scope="all tensors of two and more dimensions; the file does not tell its network",
        minimum="60",
        thresholds={"encoder": 0.02, "*": 0.07},
        allocation="exact",
        layers=[
            replace(layer, group=group, outputs=None, live_outputs=None, macs_dense=None, macs_sparse=None)
            for layer, group in zip(layers(), groups, strict=True)
        ],
        recipe={"sparsity": {"encoder": 0.8, "*": 0.95}, "min_kept": 60, "allocation": "exact"},
        versions={"gpmt": "0.1.0"},
        missing=["accuracy: a plan has none", "history: a plan has none"],
    )


def weights_file() -> Subject:
    """Return a file of weights: counts, histograms after pruning only, no plan."""
    return Subject(
        kind="file",
        title="model.safetensors",
        path="somewhere/model.safetensors",
        numel=8000,
        kept=800,
        parameters=8200,
        nonzero_parameters=1000,
        layers=[
            replace(layer, floor=None, binds=None, macs_dense=None, macs_sparse=None) for layer in layers()
        ],
        histograms=[replace(histogram(), before=None, zeros_before=0, threshold=None)],
        channels=channels(),
        sizes=Sizes(32_800, 9_120, 4_210),
        missing=["floors: a file of weights has none; give the plan with it"],
        warnings=["dw.weight keeps none of its 144 weights"],
    )


def many_layers(count: int = 10_000) -> Subject:
    """Return a plan of so many layers; every hundredth is dead and every tenth at its floor."""
    made = [
        Layer(
            name=f"blocks.{number // 4}.linear{number % 4}.weight",
            tensor=f"blocks.{number // 4}.linear{number % 4}.weight",
            kind="Linear",
            shape=(64, 64),
            numel=4096,
            kept=0 if number % 100 == 0 else 40 if number % 10 == 0 else 100 + number % 800,
            floor=0 if number % 100 == 0 else 40,
            binds=number % 10 == 0,
            outputs=64,
            live_outputs=0 if number % 100 == 0 else 64 - number % 20,
        )
        for number in range(count)
    ]
    return Subject(
        kind="plan",
        title=f"A network of {count:,} layers",
        path="large.json",
        asked="90 %",
        numel=sum(layer.numel for layer in made),
        kept=sum(layer.kept for layer in made),
        thresholds={"": 0.05},
        minimum="40",
        allocation="exact",
        layers=made,
        histograms=[histogram("", 4096 * count, sum(layer.kept for layer in made))],
        missing=[f"histograms: of the {count:,} blocks none is shown alone"],
    )


SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)


def comparison() -> Grid:
    """Return four methods with and without floors at five sparsities; the plain one collapses, seeds are lost."""
    cells = []
    for number, (method, floor) in enumerate(
        [("GP", ""), ("GP", "60"), ("gradual", "60"), ("AC/DC", "60"), ("<b>random</b>", "")]
    ):
        for place, asked in enumerate(SPARSITIES):
            collapsed = not floor and asked >= 0.9
            top1 = 0.1014 if collapsed else 0.96 - 0.02 * place**1.5 - 0.01 * (4 - number)
            lost = ("seed 2 diverged",) if method == "AC/DC" and asked == 0.98 else ()
            seeds = (0, 1) if lost else (0, 1, 2)
            cells.append(
                Cell(
                    method=method,
                    floor=floor,
                    setting="",
                    asked=asked,
                    seeds=seeds,
                    sparsity=Spread(asked, 0.0),
                    dense=Spread(0.9712, 0.0021),
                    pruned=Spread(0.1, 0.01) if method == "GP" else None,
                    recalibrated=Spread(0.2, 0.02) if method == "GP" else None,
                    finetuned=Spread(top1, 0.004 + 0.002 * place),
                    finetuned_top5=Spread(0.5 if collapsed else 0.99, 0.001),
                    macs=(1 - asked) * (1 + 0.1 * number),
                    latency_ms=1.0 + 4 * (1 - asked) + 0.1 * number,
                    fewest=0 if collapsed else 60 if floor else 7,
                    dead=place if collapsed else 0,
                    lost=lost,
                )
            )
    cells.append(
        Cell("HAM", "60", "", 0.98, (), lost=("all seeds are infeasible: floors need 1,200 weights",))
    )
    return Grid(
        kind="comparison",
        title="Comparison on digits",
        path="runs/compare",
        cells=cells,
        dense=Spread(0.9801, 0.0015),
        epochs=15,
        total=82,
        finished=77,
        runs=[f"runs/compare/run-{number}" for number in range(77)],
        versions=VERSIONS,
        machine=MACHINE,
        commands=["gpmt compare digits --sparsity 0.5,0.8,0.9,0.95,0.98 --seeds 0,1,2 -o runs/compare"],
        warnings=["AC/DC + 60 at 98 %: seed 2 diverged"],
    )


def sweep() -> Grid:
    """Return a sweep of one seed over sparsities and learning rates, without variants, MACs or latencies."""
    return Grid(
        kind="sweep",
        title="Learning rates on digits",
        path="runs/sweep",
        cells=[
            Cell(
                "",
                "",
                f"lr={lr}",
                asked,
                (0,),
                Spread(asked),
                Spread(0.97),
                None,
                None,
                Spread(0.97 - asked * lr),
            )
            for lr in (0.01, 0.1)
            for asked in (0.5, 0.9)
        ],
        total=4,
        finished=4,
        commands=["gpmt sweep digits lr=0.01,0.1 sparsity=0.5,0.9 -o runs/sweep"],
        missing=["seeds: one seed has no deviation; add seed=0,1,2"],
    )


def report() -> Report:
    """Return a report of all of them, with one path that could not be read."""
    return Report(
        title="Runs <of> digits",
        subjects=[run(), collapsed_run(), unfinished_run(), plan(), weights_file()],
        grids=[comparison(), sweep()],
        problems=["runs/damaged/metrics.json is damaged: line 3; run it again with --force"],
        made="2026-11-28T18:00:00+00:00",
    )
