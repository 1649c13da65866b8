from dataclasses import replace

from tests.report import examples

from gpmt.report.content.subject import Histogram
from gpmt.report.page.histograms import histograms


def test_a_view_for_all_weights_and_for_each_block():
    picture = histograms(examples.run())
    assert [view.label for view in picture.views] == [
        "all weights in scope",
        "mlp.weight",
        examples.MARKUP,
    ]
    assert "threshold is 0.05" in picture.views[0].finding


def test_the_outline_has_the_counts_and_the_threshold_its_place():
    one = Histogram("", (-2.0, -1.0, 0.0), (30, 10), (0, 10), 0, 30, 0.1)
    view = histograms(examples.run(histograms=[one])).views[0]
    before = view.traces[0]
    assert (before["x"], before["y"]) == ([-2, -2, -1, -1, 0, 0], [0, 30, 30, 10, 10, 0])
    assert view.layout["shapes"][0]["x0"] == -1
    assert (
        "more than 75\xa0% of the magnitudes lie below it" not in view.finding
    )  # the bin of the threshold is unsure
    assert view.table.rows == [
        ["exactly 0", "", "0", "30"],
        ["0.01", "0.1", "30", "0"],
        ["0.1", "1", "10", "10"],
    ]


def test_what_is_not_known_is_not_drawn():
    picture = histograms(examples.weights_file())
    names = [trace["name"] for trace in picture.views[0].traces if trace.get("showlegend") is not False]
    assert names == ["after pruning"]
    assert "shapes" not in picture.views[0].layout
    unknown = replace(examples.histogram(), before=None, after=None)
    assert histograms(examples.run(histograms=[unknown])) is None
    assert histograms(examples.plan()) is None
