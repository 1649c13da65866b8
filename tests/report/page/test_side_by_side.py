from dataclasses import replace

from tests.report import examples

from gpmt.report.page.side_by_side import accuracies, densities, differences, numbers


def test_a_row_of_numbers_for_each():
    shown = numbers([examples.run(), examples.collapsed_run(), examples.plan()])
    rows = [dict(zip(shown.heads, row, strict=True)) for row in shown.rows]
    assert [row["state"] for row in rows] == ["Works, with dead layers", "Collapsed", "Dead layers"]
    assert [row["dead layers"] for row in rows] == ["1", "2", "1"]
    assert [row["last"] for row in rows] == ["85.23\xa0%", "10.14\xa0%", "–"]


def test_only_settings_that_differ_are_listed_and_only_of_runs():
    one = examples.run()
    other = replace(one, title="other", recipe={**one.recipe, "seed": 1, "title": "x"})
    shown = differences([one, other, examples.plan()])
    assert shown is not None
    assert shown.rows == [["seed", "0", "1"]]
    assert differences([one, one]) is None


def test_blocks_that_two_share_are_drawn_together():
    view = densities([examples.run(), examples.collapsed_run()]).views[0]
    assert [len(trace["x"]) for trace in view.traces] == [7, 7]
    assert view.traces[1]["marker"]["symbol"].count("x") == 2
    assert "2 dead (dw.weight and qkv.weight.v)" in view.finding


def test_different_networks_have_no_common_figure():
    other = replace(examples.run(), layers=[replace(examples.layers()[0], name="elsewhere")])
    assert densities([examples.run(), other]) is None
    assert densities([examples.run()]) is None


def test_curves_of_several_runs():
    view = accuracies([examples.run(), examples.unfinished_run(), examples.plan()]).views[0]
    assert len(view.traces) == 2
    assert accuracies([examples.run(), examples.plan()]) is None
