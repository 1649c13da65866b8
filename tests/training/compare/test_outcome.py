import json

import pytest
from tests.html_reader import HtmlReader
from tests.training.compare.comparisons import results_of, small_comparison

from gpmt.runs.log import NOT_FINITE
from gpmt.training.compare.outcome import outcome
from gpmt.training.sweep.grid import Point


def top1(point: Point) -> float:
    base = {"dense": 0.99, "GP": 0.8, "GP+MT": 0.85, "gradual": 0.9, "gradual+MT": 0.9}[point.variant]
    return base - (0.1 if point.values["sparsity"] == "0.95" and point.variant == "gradual" else 0)


def test_a_cell_has_mean_and_deviation_over_the_seeds_and_the_best_is_marked():
    comparison = small_comparison()
    found = outcome(comparison, results_of(comparison, lambda p: top1(p) + p.recipe.seed / 100))
    assert (found["epochs"], found["dense_epochs"], found["sparsities"]) == (6, 4, ["0.9", "0.95"])
    assert [(row["method"], row["floor"]) for row in found["rows"]] == [
        ("GP", None),
        ("GP", "0.25%"),
        ("gradual", None),
        ("gradual", "0.25%"),
    ]
    gp, *_ = found["rows"]
    assert (gp["epochs"], gp["seconds"]) == ({"dense": 4, "finetune": 2}, 3.5)
    cell = gp["cells"][0]
    assert cell["finetuned_top1"] == {"mean": pytest.approx(0.805), "std": pytest.approx(0.00707, abs=1e-5)}
    assert cell["pruned_top1"]["mean"] == pytest.approx(0.1)
    assert (cell["seeds"], cell["kept"]["mean"], cell["macs"]) == ([0, 1], 100, 0.15)
    assert [[cell["best"] for cell in row["cells"]] for row in found["rows"]] == [
        [False, False],
        [False, False],
        [True, False],
        [True, True],
    ]
    assert found["dense"]["cells"][0]["finetuned_top1"]["mean"] == pytest.approx(0.995)
    assert found["dense"]["epochs"] == {"dense": 6, "finetune": 0}


def test_what_has_no_result_says_why():
    comparison = small_comparison()
    results = results_of(
        comparison,
        top1,
        failed={
            "GP sparsity=0.9 seed=1": f"{NOT_FINITE} nan in epoch 1",
            "gradual sparsity=0.9 seed=0": "killed by SIGKILL",
        },
        infeasible={f"GP+MT sparsity=0.95 seed={seed}": "too many" for seed in (0, 1)},
        to_do={"gradual sparsity=0.95 seed=0", "gradual sparsity=0.95 seed=1"},
        dead={"gradual+MT sparsity=0.9 seed=1"},
    )
    found = outcome(comparison, results)
    cells = {(r["method"], r["floor"], c["sparsity"]): c for r in found["rows"] for c in r["cells"]}
    diverged = cells["GP", None, "0.9"]
    assert (diverged["diverged"], diverged["failed"], diverged["seeds"]) == ([1], [], [0])
    assert diverged["finetuned_top1"] == {"mean": 0.8, "std": None}
    failed = cells["gradual", None, "0.9"]
    assert (failed["diverged"], failed["failed"], failed["to_do"], failed["seeds"]) == ([], [0], [], [1])
    infeasible = cells["GP", "0.25%", "0.95"]
    assert (infeasible["infeasible"], infeasible["finetuned_top1"]) == ("too many", None)
    assert infeasible["to_do"] == []
    assert cells["gradual", None, "0.95"]["to_do"] == [0, 1]
    assert cells["gradual", "0.25%", "0.9"]["dead"] == 1
    assert cells["gradual", "0.25%", "0.9"]["fewest_kept"] == 0
    assert [entry["variant"] for entry in found["infeasible"]] == ["GP+MT", "GP+MT"]


def test_before_the_first_run_all_is_to_do():
    comparison = small_comparison()
    nothing = results_of(comparison, top1, to_do=[point.title for point in comparison.grid.points])
    found = outcome(comparison, nothing)
    assert all(c["to_do"] == [0, 1] and not c["best"] for row in found["rows"] for c in row["cells"])
    assert (found["weights"], found["dense"]["seconds"]) == (None, None)


def test_a_notebook_shows_it_as_a_table():
    comparison = small_comparison()
    results = results_of(comparison, top1, to_do={"GP sparsity=0.9 seed=1"}, dead={"GP sparsity=0.9 seed=0"})
    found = outcome(comparison, results)
    assert json.loads(json.dumps(found)) == found
    table = HtmlReader(found._repr_html_()).rows
    assert table[0] == ["method", "floor", "90 %", "95 %", "epochs", "time"]
    assert table[1] == ["dense", "–", "99.00 ± 0.00", "99.00 ± 0.00", "6", "3.5 s"]
    assert table[2] == ["GP", "–", "80.00†‡", "80.00 ± 0.00", "4 + 2", "3.5 s"]
    assert len(table) == 6
    assert "‡ not all seeds" in found._repr_html_()
