"""Accuracies of runs as lines: one for each method, one point for each sparsity, mean and deviation over seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from gpmt.errors import FigureError
from gpmt.report.content.grid import Cell, Grid, Spread
from gpmt.report.content.pareto import pareto
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Subject

X = Literal["sparsity", "macs", "latency"]
FLOOR = "+MT"


@dataclass(frozen=True)
class Point:
    """The runs of one method at one sparsity.

    Attributes:
        x: sparsity, or share of the multiply-accumulates that is left, or milliseconds.
        y, std: top-1 accuracy as a fraction; the deviation over seeds is None for one seed.
        seeds: how many there are.
        dead: the most layers without any weight, in any seed.
        front: whether no other point of the figure has at least this accuracy and costs less.
    """

    x: float
    y: float
    std: float | None
    seeds: int
    dead: int = 0
    front: bool = False


@dataclass(frozen=True)
class Series:
    """One line, with its points from left to right."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Accuracies:
    """The lines of a figure.

    Attributes:
        x: what is along the x axis.
        moment: when the accuracy was measured: "fine-tuned", "pruned" or "measured" where lines differ in it.
        series: one for each method and floor.
        dense: the accuracy of networks that are not pruned; None where it is not known.
        chance: that of guessing; None where it is not known.
    """

    x: X
    moment: str
    series: tuple[Series, ...]
    dense: Spread | None
    chance: float | None = None


def accuracies_of(report: Report, x: X, *, chance: float | None = None) -> Accuracies:
    """Return the accuracies of sweeps, comparisons and runs, as lines along x.

    Raises `FigureError` where no run has both an accuracy and an x.
    """
    grids = list(report.grids)
    runs = [subject for subject in report.subjects if subject.kind == "run"]
    if cells := cells_of_runs(runs):
        grids.append(Grid("sweep", "runs", "", cells))
    paths = ", ".join([*(grid.path for grid in report.grids), *(subject.path for subject in report.subjects)])
    found = [(grid, cell) for grid in grids for cell in grid.cells if _top1(cell) is not None]
    if not found:
        raise FigureError(
            f"no accuracy is known of {paths or 'nothing'}; give runs, sweeps or comparisons that have finished runs"
        )
    labelled: dict[str, list[Point]] = {}
    for grid in grids:
        for name, cell in zip(labels(grid.cells), grid.cells, strict=True):
            point = _point(cell, x)
            if point is not None:
                name = name if len(grids) == 1 else f"{name}, {grid.title}"
                labelled.setdefault(name, []).append(point)
    if not labelled:
        remedy = {
            "sparsity": "give runs that have finished",
            "macs": "multiply-accumulates are counted for networks that gpmt run knows; take --x sparsity",
            "latency": "measure it with gpmt bench, or take --x macs or --x sparsity",
        }
        raise FigureError(f"no {x} is known of {paths}; {remedy[x]}")
    series = [
        Series(label, tuple(sorted(points, key=lambda point: (point.x, -point.y))))
        for label, points in labelled.items()
    ]
    moments = {"fine-tuned" if cell.finetuned else "pruned" for _, cell in found}
    moment = moments.pop() if len(moments) == 1 else "measured"
    return Accuracies(x, moment, tuple(_with_front(series, x)), _dense(grids), chance)


def labels(cells: Sequence[Cell]) -> list[str]:
    """Return the name of the line of each cell: its method, "+MT" with floors, and what else tells it apart.

    The floor itself is named where lines of one method differ in it.
    """
    floors: dict[tuple[str, str], set[str]] = {}
    for cell in cells:
        if cell.floor:
            floors.setdefault((cell.method, cell.setting), set()).add(cell.floor)
    return [_label(cell, floors.get((cell.method, cell.setting), set())) for cell in cells]


def _label(cell: Cell, floors: set[str]) -> str:
    name = cell.method.removesuffix(FLOOR) + (FLOOR if cell.floor else "")
    details = [f"σ = {cell.floor}"] if cell.floor and len(floors) > 1 else []
    details += [cell.setting] if cell.setting else []
    if not name:
        return ", ".join(details) or "runs"
    return f"{name} ({', '.join(details)})" if details else name


def cells_of_runs(runs: Iterable[Subject]) -> list[Cell]:
    """Group runs that differ only in the seed: mean and deviation of their accuracies."""
    groups: dict[tuple[str, str, str], list[Subject]] = {}
    for run in runs:
        if run.finished and run.numel:
            groups.setdefault((method_of(run), run.minimum, run.asked), []).append(run)
    return [_cell(method, floor, members) for (method, floor, _), members in groups.items()]


def method_of(run: Subject) -> str:
    """Name the method of a run as comparisons do: GP for one-shot global pruning, else what differs from it."""
    allocation = "GP" if run.allocation in ("", "exact") else run.allocation
    parts = [] if run.schedule in ("", "one-shot") else [run.schedule]
    parts += [] if parts and allocation == "GP" else [allocation]
    parts += [] if run.method in ("", "hard") else [run.method]
    return " ".join(parts)


def _cell(method: str, floor: str, runs: Sequence[Subject]) -> Cell:
    shares = [
        run.macs_sparse / run.macs_dense for run in runs if run.macs_sparse is not None and run.macs_dense
    ]
    times = [run.latency.sparse_ms for run in runs if run.latency is not None]
    return Cell(
        method=method,
        floor=floor,
        setting="",
        asked=_asked(runs[0]),
        seeds=tuple(run.seed if run.seed is not None else number for number, run in enumerate(runs)),
        sparsity=_spread([run.sparsity for run in runs]),
        dense=_spread([score.top1 for run in runs if (score := run.score("dense"))]),
        pruned=_spread([score.top1 for run in runs if (score := run.score("pruned"))]),
        finetuned=_spread([score.top1 for run in runs if (score := run.score("finetuned"))]),
        macs=fmean(shares) if shares else None,
        latency_ms=fmean(times) if times else None,
        dead=max(len(run.dead) for run in runs),
    )


def _asked(run: Subject) -> float:
    """Return the sparsity that was asked for, where it is one number, else the one that was reached."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) %", run.asked)
    return float(found[1]) / 100 if found else run.sparsity


def _spread(values: Iterable[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    return Spread(fmean(known), stdev(known) if len(known) > 1 else None)


def _top1(cell: Cell) -> Spread | None:
    return cell.finetuned or cell.pruned


def _point(cell: Cell, x: X) -> Point | None:
    top1 = _top1(cell)
    place = {
        "sparsity": cell.sparsity.mean if cell.sparsity else cell.asked,
        "macs": cell.macs,
        "latency": cell.latency_ms,
    }[x]
    if top1 is None or place is None:
        return None
    return Point(place, top1.mean, top1.std, len(cell.seeds), cell.dead)


def _dense(grids: Sequence[Grid]) -> Spread | None:
    """Return the accuracy of dense networks: of those trained as long, else the mean of those that were pruned."""
    for grid in grids:
        if grid.dense is not None:
            return grid.dense
    means = [cell.dense.mean for grid in grids for cell in grid.cells if cell.dense is not None]
    return Spread(fmean(means)) if means else None


def _with_front(series: Sequence[Series], x: X) -> list[Series]:
    """Mark the points that no other one is better than."""
    sign = -1 if x == "sparsity" else 1
    points = [(sign * point.x, point.y) for each in series for point in each.points]
    front = {points[index] for index in pareto(points)}
    return [
        replace(each, points=tuple(replace(p, front=(sign * p.x, p.y) in front) for p in each.points))
        for each in series
    ]
