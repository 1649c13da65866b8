from dataclasses import replace
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report import examples

from gpmt.errors import FigureError
from gpmt.report.content.grid import Cell, Grid, Spread
from gpmt.report.content.report import Report
from gpmt.report.content.subject import Score, Subject
from gpmt.report.figures.series import accuracies_of, cells_of_runs, labels, method_of


def of_grids(*grids: Grid) -> Report:
    return Report("a report", grids=grids)


def test_points_are_the_cells():
    grid = examples.comparison()
    found = accuracies_of(of_grids(grid), "sparsity", chance=0.1)
    assert [series.label for series in found.series] == [
        "GP",
        "GP+MT",
        "gradual+MT",
        "AC/DC+MT",
        "<b>random</b>",
    ]
    points = [point for series in found.series for point in series.points]
    cells = [cell for cell in grid.cells if cell.finetuned]
    assert [(p.x, p.y, p.std, p.seeds, p.dead) for p in points] == [
        (c.sparsity.mean, c.finetuned.mean, c.finetuned.std, len(c.seeds), c.dead) for c in cells
    ]
    assert (found.moment, found.dense, found.chance) == ("fine-tuned", grid.dense, 0.1)


@pytest.mark.parametrize(("x", "name"), [("macs", "macs"), ("latency", "latency_ms")])
def test_other_costs(x, name):
    grid = examples.comparison()
    found = accuracies_of(of_grids(grid), x)
    xs = [point.x for series in found.series for point in series.points]
    assert sorted(xs) == sorted(getattr(cell, name) for cell in grid.cells if cell.finetuned)
    assert all(list(s.points) == sorted(s.points, key=lambda p: p.x) for s in found.series)


def test_floors_are_named_where_one_method_has_several():
    cells = [Cell("GP", floor, "", 0.9, (0,)) for floor in ("", "5", "0.1%")] + [
        Cell("ERK", "5", "", 0.9, (0,))
    ]
    assert labels(cells) == ["GP", "GP+MT (σ = 5)", "GP+MT (σ = 0.1%)", "ERK+MT"]
    assert labels([Cell("", "", "lr=0.1", 0.9, (0,)), Cell("", "", "", 0.9, (0,))]) == ["lr=0.1", "runs"]


def test_lines_of_several_grids_are_told_apart():
    found = accuracies_of(of_grids(examples.sweep(), replace(examples.sweep(), title="Again")), "sparsity")
    names = [series.label for series in found.series]
    assert names == [
        f"lr={lr}, {title}" for title in ("Learning rates on digits", "Again") for lr in ("0.01", "0.1")
    ]


def a_run(seed: int, top1: float, **changes) -> Subject:
    scores = [Score("dense", 0.9), Score("finetuned", top1)]
    return examples.run(seed=seed, scores=scores, schedule="one-shot", **changes)


def test_runs_that_differ_in_the_seed_are_one_point():
    tops = [0.8, 0.9, 0.85]
    runs = [a_run(seed, top1) for seed, top1 in enumerate(tops)] + [a_run(0, 0.1, minimum="")]
    found = accuracies_of(Report("runs", subjects=runs), "sparsity")
    assert [series.label for series in found.series] == ["GP+MT", "GP"]
    [point], [alone] = (series.points for series in found.series)
    assert (point.y, point.std, point.seeds) == pytest.approx((fmean(tops), stdev(tops), 3))
    assert (alone.y, alone.std) == (0.1, None)
    assert found.dense == Spread(pytest.approx(0.9))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "GP"),
        ({"schedule": "gradual"}, "gradual"),
        ({"allocation": "erk"}, "erk"),
        ({"allocation": "erk", "schedule": "gradual"}, "gradual erk"),
        ({"method": "feather"}, "GP feather"),
    ],
)
def test_names_of_methods(changes, name):
    assert method_of(Subject("run", "", "", **changes)) == name


def test_what_is_missing_is_named():
    with pytest.raises(
        FigureError, match=r"no accuracy is known of plan.json; give runs, sweeps or comparisons"
    ):
        accuracies_of(Report("plan", subjects=[examples.plan()]), "sparsity")
    with pytest.raises(FigureError, match="no latency is known of runs/sweep; measure it with gpmt bench"):
        accuracies_of(of_grids(examples.sweep()), "latency")
    with pytest.raises(FigureError, match="no macs is known of runs/sweep"):
        accuracies_of(of_grids(examples.sweep()), "macs")


places = st.tuples(st.integers(0, 5), st.integers(0, 5))


@settings(max_examples=60, deadline=None)
@given(st.lists(places, min_size=1, max_size=12), st.sampled_from(["macs", "sparsity"]))
def test_the_front_is_what_nothing_dominates(pairs, x):
    cells = [
        Cell(
            "GP", "", str(n), cost / 10, (0,), Spread(cost / 10), finetuned=Spread(top1 / 10), macs=cost / 10
        )
        for n, (cost, top1) in enumerate(pairs)
    ]
    found = accuracies_of(of_grids(Grid("sweep", "", "", cells)), x)
    best_first = max if x == "sparsity" else min
    front = {(p.x, p.y) for s in found.series for p in s.points if p.front}
    expected = set()
    for cost, top1 in pairs:
        rivals = [c for c, t in pairs if t >= top1]
        as_cheap = [t for c, t in pairs if c == cost]
        if best_first(rivals) == cost and max(as_cheap) == top1:
            expected.add((cost / 10, top1 / 10))
    assert front == expected


def test_a_run_stands_at_the_sparsity_that_was_asked_for():
    run = examples.run()
    assert [cell.asked for cell in cells_of_runs([replace(run, asked="93 %")])] == [0.93]
    assert [cell.asked for cell in cells_of_runs([replace(run, asked="head.* 50 %, * 98 %")])] == [
        run.sparsity
    ]
