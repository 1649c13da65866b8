"""What a credible report of pruning contains (Blalock et al. 2020, arXiv 2003.03033), and what a report lacks."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gpmt.report.content.grid import Cell, Grid
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Subject
from gpmt.report.content.wording import first_names

BASELINES = ("uniform", "ERK", "LAMP", "random")
SEEDS, SPARSITIES = 3, 5
_NOT_TRAINED = "nothing was trained; gpmt run RECIPE trains, prunes and evaluates"
_NO_RESULT = "no run is finished"


@dataclass(frozen=True)
class Item:
    """One thing of the list; `note` says where it is, or what is missing and what adds it."""

    text: str
    present: bool
    note: str = ""


class _Answer(NamedTuple):
    """Whether one run, file or grid has a thing, and what is lacking where it has not."""

    title: str
    present: bool
    lacking: str


def checklist(report: Report) -> list[Item]:
    """Return the list for a report: first what each network and grid has to have, then what the experiment has to.

    Seeds, sparsities, baselines and the budget are judged by the grids, and by the runs where there are no grids.

    >>> from gpmt.report.content.subject import Score
    >>> run = Subject("run", "a", "runs/a", scores=[Score("dense", 0.9), Score("finetuned", 0.8)])
    >>> [item.present for item in checklist(Report("a", [run]))][:3]
    [True, True, False]
    """
    return [*_of_each(report), *_of_the_experiment(report)]


def _of_each(report: Report) -> list[Item]:
    def item(
        text: str,
        subject: Callable[[Subject], bool],
        grid: Callable[[Grid], bool],
        lacking: Callable[[Subject | Grid], str],
        note: str = "",
    ) -> Item:
        answers = [_Answer(one.title, subject(one), lacking(one)) for one in report.subjects]
        answers += [_Answer(one.title, grid(one), lacking(one)) for one in report.grids]
        return _joined(text, answers, note)

    return [
        item(
            "all runs are finished",
            lambda one: one.finished,
            lambda one: one.finished == one.total,
            lambda one: (
                f"{one.finished} of {one.total}"
                + (f", {failed} failed" if (failed := _failed(one)) else "")
                + "; its command with --resume goes on"
                if isinstance(one, Grid)
                else "not yet; gpmt run with --resume goes on"
            ),
        ),
        item(
            "a dense baseline from the same code, with the same budget",
            lambda one: one.score("dense") is not None,
            lambda one: one.dense is not None or _all(one, lambda cell: cell.dense is not None),
            _explained(
                "the network was not trained dense; gpmt compare RECIPE trains one with the same budget",
                "the dense network is not trained yet, or is not part of it; gpmt compare RECIPE has one",
            ),
        ),
        item(
            "accuracy before and after fine-tuning",
            lambda one: one.score("pruned") is not None and one.score("finetuned") is not None,
            lambda one: any(cell.pruned is not None for cell in _measured(one)),
            _explained("it prunes while it trains, or is not finished", "no method prunes a trained network"),
        ),
        item(
            "the sparsity that was reached, and what it is a share of",
            lambda one: one.numel > 0 and bool(one.layers),
            lambda one: bool(_measured(one)),
            lambda one: _NO_RESULT,
        ),
        item(
            "the number of weights that are not zero",
            lambda one: one.nonzero_parameters is not None,
            lambda one: bool(_measured(one)),
            lambda one: (
                "a plan knows no weights outside of its scope; give the pruned file"
                if isinstance(one, Subject) and one.kind == "plan"
                else _NO_RESULT
            ),
        ),
        item(
            "multiply-adds by a stated rule, dense and sparse",
            lambda one: one.macs_dense is not None and one.macs_sparse is not None,
            lambda one: _all(one, lambda cell: cell.macs is not None),
            lambda one: (
                "they need the network; gpmt inspect FILE --model NAME counts them"
                if isinstance(one, Subject)
                else "the layers of this network are not counted"
                if _measured(one)
                else _NO_RESULT
            ),
        ),
        item(
            "the layers of each network",
            lambda one: bool(one.layers),
            lambda one: bool(_measured(one)),
            lambda one: _NO_RESULT,
            "of each run in its metrics.json; fewest and dead above" if report.grids else "",
        ),
        item(
            "top-1 and top-5",
            lambda one: (
                (score := one.score("finetuned")) is not None and None not in (score.top1, score.top5)
            ),
            lambda one: _all(one, lambda cell: cell.finetuned_top5 is not None),
            _explained(
                "top-5 is not measured, or the run not finished", "top-5 is not measured for these classes"
            ),
        ),
    ]


def _of_the_experiment(report: Report) -> list[Item]:
    runs = [subject for subject in report.subjects if subject.kind == "run"]
    trained = bool(runs or report.grids)
    seeds = [_fewest_seeds(grid) for grid in report.grids] or _seeds_of_runs(runs)
    curves = [len({cell.asked for cell in _measured(grid)}) for grid in report.grids]
    curve = max(curves, default=len({run.asked for run in runs if run.asked}))
    budgets = [grid.epochs for grid in report.grids] or [sum(run.epochs.values()) or None for run in runs]
    # Grids have a budget each; runs beside one another are compared.
    same = None not in budgets and (bool(report.grids) or len(set(budgets)) == 1)
    compared = {cell.method.lower() for grid in report.grids for cell in grid.cells if cell.seeds}
    compared |= {run.allocation for run in runs if run.finished}
    lacking = [name for name in BASELINES if name.lower() not in compared]
    timed = any(run.seconds for run in runs) or any(_measured(grid) for grid in report.grids)
    return [
        _item(
            "the last epoch, not the best one on the test data",
            trained,
            _NOT_TRAINED,
        ),
        _item(
            f"at least {SEEDS} seeds",
            bool(seeds) and min(seeds) >= SEEDS,
            f"{min(seeds, default=0)}; gpmt sweep RECIPE seed=0,1,2 or gpmt compare RECIPE --seeds 0,1,2 adds more",
        ),
        _item(
            f"at least {SPARSITIES} sparsities",
            curve >= SPARSITIES,
            f"{curve}; gpmt compare RECIPE --sparsity 0.5,0.8,0.9,0.95,0.98 adds more",
        ),
        _item(
            "the total budget in epochs, the same for all",
            trained and same,
            "the runs differ in it; gpmt compare RECIPE gives all the same" if trained else _NOT_TRAINED,
        ),
        _item(
            "baselines at the same budget: uniform, ERK, LAMP, random",
            not lacking,
            f"{', '.join(lacking)} missing; gpmt compare RECIPE --methods {','.join(lacking)} adds them",
        ),
        Item(
            "times as measured",
            timed,
            "runs beside each other (--jobs) and other work lengthen them"
            if timed
            else _NO_RESULT
            if trained
            else _NOT_TRAINED,
        ),
    ]


def _explained(of_run: str, of_grid: str) -> Callable[[Subject | Grid], str]:
    """Return what says why something is lacking, by what lacks it."""

    def lacking(one: Subject | Grid) -> str:
        if isinstance(one, Grid):
            return of_grid if _measured(one) else _NO_RESULT
        return of_run if one.kind == "run" else _NOT_TRAINED

    return lacking


def _joined(text: str, answers: Sequence[_Answer], note: str) -> Item:
    """Return an item that is present where all have it; its note says who has not."""
    without = [answer for answer in answers if not answer.present]
    if not without:
        return Item(text, bool(answers), note)
    reasons: dict[str, list[str]] = {}
    for answer in without:
        reasons.setdefault(answer.lacking, []).append(answer.title)
    if len(answers) == 1 or (len(reasons) == 1 and len(without) == len(answers)):
        return Item(text, False, without[0].lacking)
    return Item(text, False, "; ".join(f"{first_names(names)}: {why}" for why, names in reasons.items()))


def _item(text: str, present: bool, lacking: str) -> Item:
    return Item(text, present, "" if present else lacking)


def _measured(grid: Grid) -> list[Cell]:
    return [cell for cell in grid.cells if cell.finetuned is not None]


def _all(grid: Grid, has: Callable[[Cell], bool]) -> bool:
    measured = _measured(grid)
    return bool(measured) and all(map(has, measured))


def _failed(grid: Grid) -> int:
    return sum(" failed" in text or " diverged" in text for cell in grid.cells for text in cell.lost)


def _fewest_seeds(grid: Grid) -> int:
    return min((len(cell.seeds) for cell in _measured(grid)), default=0)


def _seeds_of_runs(runs: Sequence[Subject]) -> list[int]:
    """Return how many seeds there are of each recipe."""
    seeds: dict[str, set[int | None]] = {}
    for run in runs:
        settings = {key: value for key, value in run.recipe.items() if key not in ("seed", "title", "about")}
        seeds.setdefault(json.dumps(settings, sort_keys=True, default=str), set()).add(run.seed)
    return [len(found) for found in seeds.values()]
