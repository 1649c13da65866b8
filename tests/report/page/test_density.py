import math
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.report import examples

from gpmt.report.content.subject import Layer, Subject
from gpmt.report.page.density import density, finding, table


def subject(*kept: int, numel: int = 1000, floor: int | None = None) -> Subject:
    layers = [Layer(f"l{i}", f"l{i}", "Linear", (numel,), numel, k, floor) for i, k in enumerate(kept)]
    return Subject("plan", "p", "p", layers=layers)


def marks(picture) -> dict[str, list[tuple[float, float]]]:
    return {
        trace["name"]: list(zip(trace["x"], trace["y"], strict=True))
        for trace in picture.views[0].traces
        if trace.get("name")
    }


def test_each_block_has_its_place_and_its_state():
    found = marks(density(examples.run()))
    assert len(found["kept by the threshold"]) == 4
    assert len(found["kept by its floor"]) == 2
    assert [y for _, y in found["nothing kept"]] == [1]
    x, y = found["kept by the threshold"][0]
    assert math.isclose(10**x, 210 / 432)
    assert y == 0
    assert len(found["floor"]) == 6  # that of the dead block is zero


def test_dead_blocks_stand_left_of_all_others():
    found = marks(density(subject(0, 1, 1000)))
    assert found["nothing kept"][0][0] < min(x for x, _ in found["kept by the threshold"])


def test_the_finding_counts():
    words = finding(examples.run())
    assert "dw.weight of 7 blocks keeps none of the weights." in words
    assert "The sparsest otherwise is mlp.weight with 120 of 4,096 (2.93\xa0%)" in words
    assert "The floor decides how many weights stay in 2 blocks." in words
    assert finding(subject(5, 9)).startswith("All 2 blocks keep weights. The sparsest is l0 with 5 of 1,000")
    assert finding(subject(0, 0, 0, 0)) == "4 of 4 blocks keep none of the weights: l0, l1, l2 and 1 more."


def test_the_table_has_every_block_and_only_known_columns():
    shown = table(examples.run())
    assert len(shown.rows) == 7
    assert "floor" in shown.heads
    dead = dict(zip(shown.heads, shown.rows[1], strict=True))
    assert dead["kept"] == "0 (dead)"
    assert dead["outputs alive"] == "0 of 16"
    assert "floor" not in table(subject(3)).heads


def test_many_blocks_are_drawn_as_ranges_of_neighbours():
    many = examples.many_layers()
    view = density(many).views[0]
    assert sum(len(trace["x"]) for trace in view.traces) < 2000
    assert len(view.table.rows) == 10_000
    dead = next(trace for trace in view.traces if trace.get("name") == "some keep nothing")
    assert len(dead["x"]) == 100


@settings(max_examples=30)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=600))
def test_ranges_hold_every_density(kept):
    """Whatever the number of blocks: the drawn range is that of the blocks that keep something."""
    picture = density(subject(*kept, numel=50))
    values = [y for trace in picture.views[0].traces if len(kept) > 64 for y in trace["y"] if y is not None]
    alive = [math.log10(one / 50) for one in kept if one]
    if len(kept) > 64 and alive:
        drawn = [value for value in values if value >= min(alive) - 1e-9]
        assert math.isclose(min(drawn), min(alive), abs_tol=1e-9)
        assert math.isclose(max(drawn), max(alive), abs_tol=1e-9)


def test_no_layers_no_figure():
    assert density(Subject("file", "a", "a")) is None
    assert density(replace(examples.run(), layers=[Layer("e", "e", "", (), 0, 0)])) is None


def test_a_name_with_markup_is_escaped_in_labels():
    view = density(examples.run()).views[0]
    labels = [label for trace in view.traces for label in trace.get("hovertext", ())]
    labels += view.layout["yaxis"]["ticktext"]
    assert not any("<script" in label for label in labels)
    assert any("&lt;script&gt;" in label for label in labels)
