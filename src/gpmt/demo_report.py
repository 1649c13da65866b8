"""The demonstration as a report: its table, and the networks of the sparsity at which a minimum helps most."""

from __future__ import annotations

from datetime import datetime

from gpmt.demo import Comparison, Level, Outcome, percent
from gpmt.report.content.grid import Cell, Grid, Spread
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Score, Subject
from gpmt.training.run.environment import versions

TITLE = "Global pruning without and with a minimum per layer"


def demo_report(comparison: Comparison) -> Report:
    """Return what the demonstration measured as a report, which `write_page` shows."""
    best = max(comparison.levels, key=lambda level: level.gain)
    network = f"a small MobileNet on scikit-learn's digits, {percent(best.sparsity)} pruned"
    return Report(
        title=TITLE,
        subjects=[
            _subject(comparison, best, best.gp, f"GP at {percent(best.sparsity)}"),
            _subject(comparison, best, best.gp_mt, f"GP+MT at {percent(best.sparsity)}"),
        ],
        grids=[_grid(comparison)],
        made=datetime.now().astimezone().isoformat(timespec="seconds"),
        problems=[] if best.gp.layers else [f"the layers of {network}: they were not counted"],
    )


def _grid(comparison: Comparison) -> Grid:
    dense = Spread(comparison.accuracy_dense)
    cells = [
        Cell(
            method="GP",
            floor="" if outcome.min_kept == 0 else f"{outcome.min_kept:,}",
            setting="",
            asked=level.sparsity,
            seeds=(comparison.seed,),
            sparsity=Spread(1 - outcome.kept / comparison.weights),
            dense=dense,
            pruned=Spread(outcome.accuracy_pruned),
            finetuned=Spread(outcome.accuracy_finetuned),
            fewest=min((layer.kept for layer in outcome.layers), default=outcome.sparsest_kept),
            dead=outcome.dead,
        )
        for level in comparison.levels
        for outcome in (level.gp, level.gp_mt)
    ]
    return Grid(
        kind="comparison",
        title="A small MobileNet on scikit-learn's digits",
        path="gpmt demo",
        cells=cells,
        dense=dense,
        epochs=sum(comparison.epochs.values()),
        total=len(cells),
        finished=len(cells),
        versions=versions(),
        commands=_command(comparison),
        missing=[
            f"seeds: one ({comparison.seed}); gpmt demo --seed {comparison.seed + 1} trains another network",
            "MACs, sizes, latencies: gpmt run digits and gpmt bench measure them",
        ],
    )


def _subject(comparison: Comparison, level: Level, outcome: Outcome, title: str) -> Subject:
    return Subject(
        kind="run",
        title=title,
        path="gpmt demo",
        asked=percent(level.sparsity),
        numel=comparison.weights,
        kept=outcome.kept,
        minimum=f"{outcome.min_kept:,}" if outcome.min_kept else "",
        scope=f"the {comparison.layers} convolutions and linear layers",
        schedule="one-shot",
        allocation="exact",
        layers=outcome.layers,
        scores=[
            Score("dense", comparison.accuracy_dense, images=comparison.images.get("test")),
            Score("pruned", outcome.accuracy_pruned),
            Score("finetuned", outcome.accuracy_finetuned),
        ],
        seed=comparison.seed,
        epochs=comparison.epochs,
        commands=_command(comparison),
        missing=["magnitudes, filters, curves: gpmt run digits writes a run with all of them"],
    )


def _command(comparison: Comparison) -> list[str]:
    return [f"gpmt demo --seed {comparison.seed}"]
