from dataclasses import replace

from tests.report import examples

from gpmt.report.content.grid import Cell, Grid, Spread
from gpmt.report.page.grid_summary import collapsed, facts, matrix, rescues, verdict


def grid(**accuracies: float) -> Grid:
    cells = [
        Cell("GP", floor.strip("_"), "", 0.9, (0,), Spread(0.9), Spread(0.98), None, finetuned=Spread(value))
        for floor, value in accuracies.items()
    ]
    return Grid("comparison", "g", "g", cells, Spread(0.98), total=2, finished=2)


def test_collapse_and_rescue():
    found = verdict(grid(_=0.1, f60=0.95))
    assert found.headline == "Collapse, and rescue by floors"
    assert found.sentence == (
        "Collapsed: GP at 90\xa0% (10\xa0%). A floor rescues 1 of them: at 90\xa0% GP + f60 reaches 95.00\xa0% in "
        "place of 10.00\xa0%."
    )
    assert [(gone.floor, kept.floor) for gone, kept in rescues(grid(_=0.1, f60=0.95))] == [("", "f60")]


def test_collapse_alone_and_none():
    assert verdict(grid(_=0.1, f60=0.2)).headline == "Collapse"
    assert verdict(grid(_=0.9, f60=0.8)).sentence.endswith("GP + f60 at 90\xa0%.")
    assert verdict(Grid("sweep", "g", "g", total=4)).sentence == "0 of 4 runs finished."


def test_what_starts_from_nothing_is_measured_by_the_best_that_is_known():
    """Methods that train from scratch have a dense accuracy by chance, which no collapse is below half of."""
    one = grid(_=0.1)
    low = replace(one, dense=None, cells=[replace(one.cells[0], dense=Spread(0.1)), *grid(f60=0.95).cells])
    assert collapsed(low, low.cells[0])


def test_the_matrix_has_each_method_and_marks_the_best():
    found = matrix(examples.comparison())
    assert found.heads == [f"{number}\xa0%" for number in (50, 80, 90, 95, 98)]
    rows = dict(found.rows)
    assert [entry.collapsed for entry in rows["GP"]] == [False, False, True, True, True]
    assert rows["GP"][2].note == "2 dead"
    assert all(sum(rows[label][column].best for label in rows) == 1 for column in range(5))
    assert rows["HAM + 60"][4].words == "–"
    assert rows["HAM + 60"][0].words == ""


def test_facts():
    found = {fact.name: fact.value for fact in facts(examples.comparison())}
    assert found["Runs"] == "77 of 82"
    assert found["Seeds"] == "3"
