from dataclasses import replace

import pytest
from tests.report import examples
from tests.report.figures.drawn import inside, legend, lines

from gpmt.errors import FigureError
from gpmt.report.content.subject import Histogram
from gpmt.report.figures.histogram import histogram_figure, magnitudes_of


def steps(figure) -> dict:
    return {patch.get_gid(): patch.get_data() for patch in figure.axes[0].patches if patch.get_gid()}


def test_bins_and_threshold_are_those_given():
    subject = examples.run()
    [whole, *_] = subject.histograms
    figure = histogram_figure(magnitudes_of(subject))
    drawn = steps(figure)
    assert tuple(drawn["before"].values) == whole.before
    assert tuple(drawn["after"].values) == whole.after
    assert tuple(drawn["before"].edges) == tuple(10.0**edge for edge in whole.edges)
    assert {x for x, _ in lines(figure)["threshold"]} == {whole.threshold}
    assert legend(figure)[:2] == ["before (and 8 zeros)", "after (and 7,200 zeros)"]
    assert inside(figure)


def test_one_block():
    assert magnitudes_of(examples.run(), "mlp.weight").before == examples.run().histograms[1].before


def test_only_after():
    figure = histogram_figure(magnitudes_of(examples.weights_file()))
    assert set(steps(figure)) == {"after"}
    assert "threshold" not in lines(figure)


@pytest.mark.parametrize(
    "histogram",
    [
        Histogram("", (-2.0, -1.0), (0,), (0,), 5, 5, None),
        Histogram("", (-2.0, -1.0), (1,), None, 0, 0, 0.0),
        Histogram("", (-30.0, -29.0, 5.0), (1, 1), (0, 1), 0, 1, 1e-40),
    ],
)
def test_little_to_draw(histogram):
    figure = histogram_figure(magnitudes_of(replace(examples.run(), histograms=[histogram])))
    assert figure.rendered("svg")


def test_what_is_not_known_is_named():
    with pytest.raises(FigureError, match=r"runs/gp-mt has no mpl.weight to draw; did you mean mlp.weight"):
        magnitudes_of(examples.run(), "mpl.weight")
    with pytest.raises(FigureError, match=r"plan.json has no histograms to draw"):
        magnitudes_of(examples.plan())
    with pytest.raises(FigureError, match="has a histogram without counts"):
        magnitudes_of(replace(examples.run(), histograms=[Histogram("", (0.0, 1.0), None, None)]))
    with pytest.raises(FigureError, match=r"choose one, such as --layer mlp.weight"):
        magnitudes_of(replace(examples.run(), histograms=examples.run().histograms[1:]))
