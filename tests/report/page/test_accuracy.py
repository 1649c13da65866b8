from tests.report import examples

from gpmt.report.content.grid import Cell, Grid
from gpmt.report.page.accuracy import against_cost, against_sparsity, table


def test_a_line_for_each_method_with_bars_over_the_seeds():
    view = against_sparsity(examples.comparison()).views[0]
    names = [trace["name"] for trace in view.traces]
    assert names == ["GP", "GP + 60", "gradual + 60", "AC/DC + 60", "&lt;b&gt;random&lt;/b&gt;", "dense"]
    assert view.traces[0]["error_y"]["array"][0] > 0
    assert view.traces[0]["marker"]["symbol"].endswith("-open")
    assert not view.traces[1]["marker"]["symbol"].endswith("-open")
    assert "One sample standard deviation" in view.finding.replace("Bars are one", "One")


def test_lines_differ_without_colour():
    view = against_sparsity(examples.comparison()).views[0]
    looks = [(trace["line"]["dash"], trace.get("marker", {}).get("symbol")) for trace in view.traces]
    assert len(set(looks)) == len(looks)


def test_one_seed_has_no_bars():
    view = against_sparsity(examples.sweep()).views[0]
    assert not any("error_y" in trace for trace in view.traces)
    assert "One seed, so no bars." in view.finding


def test_costs_that_are_not_measured_have_no_figure():
    assert against_cost(examples.sweep(), "macs") is None
    assert against_sparsity(Grid("sweep", "a", "a", [Cell("GP", "", "", 0.9, ())])) is None


def test_the_front_is_marked_in_figure_and_table():
    view = against_cost(examples.comparison(), "macs").views[0]
    front = next(trace for trace in view.traces if trace["name"] == "Pareto front")
    assert sum(row[-1] == "yes" for row in view.table.rows) == len(front["x"])
    assert front["x"] == sorted(front["x"])
    assert front["y"] == sorted(front["y"])


def test_the_table_has_every_cell_and_why_seeds_are_lost():
    shown = table(examples.comparison())
    assert len(shown.rows) == len(examples.comparison().cells)
    assert any("seed 2 diverged" in row[-1] for row in shown.rows)
    assert "ms" not in table(examples.sweep()).heads
