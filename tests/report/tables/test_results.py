from dataclasses import replace

import pytest
from tests.report import examples

from gpmt.errors import FigureError
from gpmt.report.content.grid import Cell, Grid, Spread
from gpmt.report.content.report import Report
from gpmt.report.tables.results import results_table, results_tables


def test_a_line_for_each_method_and_a_column_for_each_sparsity():
    grid = examples.comparison()
    table = results_table(grid)
    assert table.heads == ["method", "50 %", "80 %", "90 %", "95 %", "98 %"]
    assert [row[0] for row in table.rows] == [
        "dense", "GP", "GP+MT", "gradual+MT", "AC/DC+MT", "<b>random</b>", "HAM+MT",
    ]  # fmt: skip
    assert table.rows[0][1:] == ["98.01 ± 0.15"] * 5
    cell = grid.cells[0]
    assert table.rows[1][1] == f"{100 * cell.finetuned.mean:.2f} ± {100 * cell.finetuned.std:.2f}"
    assert table.rows[1][3] == "10.14 ± 0.80†"
    assert table.rows[-1][1:] == ["–"] * 5
    assert len(table.notes) == 2


def test_the_best_of_each_column_is_bold():
    table = results_table(examples.comparison())
    best = {}
    for row, texts in enumerate(table.rows[1:], 1):
        for column, text in enumerate(texts[1:], 1):
            if text != "–":
                best.setdefault(column, []).append((float(text.split()[0]), row))
    assert table.bold == {(max(found)[1], column) for column, found in best.items()}


def test_equal_accuracies_are_all_the_best():
    cells = [Cell(name, "", "", 0.9, (0,), finetuned=Spread(0.5)) for name in "ab"]
    table = results_table(Grid("sweep", "", "", cells))
    assert table.bold == {(0, 1), (1, 1)}
    assert table.notes == ["top-1 % on the test data"]


def test_records_have_all_digits():
    grid = examples.comparison()
    [first, *_, last] = results_table(grid).records
    assert first["finetuned_mean"] == grid.cells[0].finetuned.mean
    assert (first["seeds"], first["macs"], last["lost"]) == ("0 1 2", 0.5, grid.cells[-1].lost[0])


def test_runs_are_one_table_and_grids_one_each():
    runs = [examples.run(), replace(examples.collapsed_run(), seed=1)]
    tables = results_tables(Report("all", subjects=[*runs, examples.plan()], grids=[examples.sweep()]))
    assert [table.title for table in tables] == ["Learning rates on digits", "runs"]
    assert [row[0] for row in tables[1].rows] == ["gradual+MT", "gradual"]


def test_without_accuracies_it_says_what_to_give():
    message = "no accuracy is known of plan.json; give runs, .* or --layers for the blocks"
    with pytest.raises(FigureError, match=message):
        results_tables(Report("plan", subjects=[examples.plan()]))
