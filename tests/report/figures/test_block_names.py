import pytest
from tests.report.figures.drawn import ticks

from gpmt.report.figures.block_names import group_ticks, groups
from gpmt.report.figures.sizes import new_figure


def test_groups_follow_one_another_and_hold_everything():
    names = [f"layer{number // 7}.{number % 7}.conv.weight" for number in range(100)]
    found = groups(names)
    assert [size for _, _, size in found] == [7] * 14 + [2]
    assert [first for _, first, _ in found] == list(range(0, 100, 7))


def test_names_are_cut_deeper_where_all_begin_alike():
    names = [f"model.layers.{number}.weight" for number in range(5)]
    assert [start for start, _, _ in groups(names)] == [f"model.layers.{number}" for number in range(5)]


@pytest.mark.parametrize("names", [["a"], ["a", "b"], [""], ["a.b", "a.b"]])
def test_few_names(names):
    assert sum(size for _, _, size in groups(names)) == len(names)


def test_ticks_that_have_no_room_are_left_out():
    names = [f"part{number // 3}.weight" for number in range(60)] + ["rest.weight"] * 100
    with new_figure("column", 5) as figure:
        axes = figure.subplots()
        group_ticks(axes, names, figure.get_figwidth())
        shown = ticks(axes.xaxis)
    assert "rest" in shown
    assert 2 < len(shown) < 12


def test_too_many_groups_leave_the_numbers():
    with new_figure("column", 5) as figure:
        axes = figure.subplots()
        before = axes.get_xticks().tolist()
        group_ticks(axes, [f"n{number}" for number in range(100)], 3.3)
        assert axes.get_xticks().tolist() == before
