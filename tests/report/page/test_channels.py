from tests.report import examples

from gpmt.report.content.subject import ChannelMap
from gpmt.report.page.channels import channels


def test_outputs_and_inputs_that_are_entirely_zero():
    outputs, inputs = channels(examples.run()).views
    assert outputs.finding == (
        "233 of 288 outputs are entirely zero, in 3 of 3 tensors. Nothing is left in dw.weight."
    )
    assert inputs.finding.startswith("3 of 20 inputs are entirely zero, in 2 of 3 tensors.")
    assert outputs.table.rows[2] == ["mlp.weight", "256", "216", "0", "3"]


def test_a_strip_shows_what_is_zero_in_its_place():
    one = ChannelMap("a", (0, 4, 4, 0), (1, 2))
    strip = channels(examples.run(channels=[one])).views[0].traces[0]["z"][0]
    quarter = len(strip) // 4
    assert set(strip[:quarter]) == set(strip[-quarter:]) == {-0.5}
    assert min(strip[quarter:-quarter]) == 1


def test_more_outputs_than_places():
    one = ChannelMap("a", (*[0] * 1500, *[7] * 500), (1,))
    strip = channels(examples.run(channels=[one])).views[0].traces[0]["z"][0]
    assert strip.count(-0.5) == 0.75 * len(strip)


def test_of_many_tensors_the_worst_are_drawn_and_all_are_listed():
    maps = [ChannelMap(f"t{i}", (0,) * (i % 7) + (1,) * 9, (1, 1)) for i in range(500)]
    view = channels(examples.run(channels=maps)).views[0]
    assert len(view.traces[0]["z"]) == 80
    assert len(view.table.rows) == 500
    assert "The figure has the 80 tensors with the most, the table all." in view.finding


def test_none_is_zero():
    view = channels(examples.run(channels=[ChannelMap("a", (3, 1), (2, 2))])).views[0]
    assert view.finding == "None of the 2 outputs of 1 tensor is entirely zero."
    assert channels(examples.plan()) is None
