from dataclasses import replace

import pytest
from tests.report import examples
from tests.report.figures.drawn import inside, legend, lines, ticks

from gpmt.errors import FigureError
from gpmt.report.content.subject import Layer
from gpmt.report.figures.density import NAMED, density_figure, density_of


def test_points_are_the_densities_and_say_what_decides():
    subject = examples.run()
    density = density_of(subject)
    figure = density_figure([density])
    drawn = lines(figure)
    rows = dict(enumerate(subject.layers))
    for gid, wanted in {
        "threshold decides": [row for row in rows if not rows[row].binds and not rows[row].dead],
        "floor decides": [row for row in rows if rows[row].binds and not rows[row].dead],
    }.items():
        assert drawn[gid] == [(rows[row].density, row) for row in wanted]
    [(zero, row)] = drawn["no weight left"]
    assert rows[int(row)].name == "dw.weight"
    assert zero < min(layer.density for layer in subject.layers if layer.kept)
    floors = [(layer.floor / layer.numel, row) for row, layer in rows.items() if layer.floor]
    assert drawn["floor"] == floors
    assert "all: 10 %" in legend(figure)
    assert ticks(figure.axes[0].xaxis)[0] == "0"
    assert inside(figure)


def test_names_stand_beside_their_lines_and_are_not_markup():
    figure = density_figure([density_of(examples.run())])
    assert ticks(figure.axes[0].yaxis)[:2] == ["stem.weight", "dw.weight"]
    assert b"<script>" not in figure.rendered("svg")


def test_several_networks_are_drawn_over_each_other():
    first, second = examples.run(), examples.collapsed_run()
    figure = density_figure([density_of(first), density_of(second)], title="Two")
    drawn = lines(figure)
    assert [x for x, _ in drawn[first.title]][2:] == [layer.density for layer in first.layers][2:]
    assert legend(figure) == [first.title, second.title]
    assert figure.legends[0].get_title().get_text() == "Two"


@pytest.mark.parametrize("count", [1, 2, NAMED, NAMED + 1, 500])
def test_any_number_of_blocks(count: int):
    subject = examples.many_layers(count)
    figure = density_figure([density_of(subject)])
    drawn = lines(figure)
    along = 1 if count > NAMED else 0
    found = sorted(
        (point[1 - along], point[along])
        for gid in ("threshold decides", "floor decides", "kept")
        for point in drawn.get(gid, ())
    )
    assert found == [(place, layer.density) for place, layer in enumerate(subject.layers) if layer.kept]
    assert figure.get_figheight() * 2.54 <= 24
    assert inside(figure)


def test_all_dead_and_nothing_pruned():
    layers = [Layer("a", "a", "", (10,), 10, 0), Layer("b", "b", "", (10,), 10, 0)]
    figure = density_figure([density_of(replace(examples.run(), layers=layers))])
    assert len(lines(figure)["no weight left"]) == 2
    layers = [Layer("a", "a", "", (10,), 10, 10)]
    figure = density_figure([density_of(replace(examples.run(), layers=layers))])
    assert lines(figure)["kept"] == [(1.0, 0)]


def test_a_subject_without_blocks_says_why():
    with pytest.raises(
        FigureError, match="runs/gp-mt has no blocks to draw; layers: the run has not finished"
    ):
        density_of(examples.unfinished_run())


def test_hostile_names_are_drawn():
    layers = [
        Layer(name, name, "", (10,), 10, 5) for name in ("$x^", "a\x00b\n", "x" * 5000, "層", "\\frac{", "")
    ]
    figure = density_figure([density_of(replace(examples.run(), layers=layers))])
    assert figure.rendered("svg")
    assert figure.rendered("png")
