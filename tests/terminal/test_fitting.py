import io

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gpmt.terminal.fitting import Column, draw_table, fit, fold

NAMES = ["encoder.layer.1.attention.self.query", "encoder.layer.11.attention.self.query"]


def columns() -> list[Column]:
    return [
        Column("shape", ["768×768"] * 2, spare=1),
        Column("weights", ["589,824"] * 2, "1,179,648", spare=10),
        Column("kept", ["58,982", "58,983"], "117,965"),
    ]


@given(st.text(st.sampled_from("abc.12"), max_size=60), st.integers(1, 50))
def test_folded_names_fit_and_lose_nothing(name: str, width: int) -> None:
    folded = fold(name, width)
    assert folded.replace("\n", "") == name
    assert all(len(line) <= width for line in folded.split("\n"))
    assert (folded == name) == (len(name) <= width)


def test_names_are_broken_after_dots_where_that_fits() -> None:
    assert fold(NAMES[1], 20) == "encoder.layer.11.\nattention.self.query"
    assert fold("a_name_without_dots", 10) == "a_name_wit\nhout_dots"


def test_columns_go_in_their_order_and_the_others_stay() -> None:
    names = Column("tensor", NAMES, "total", "left")
    shown = {
        width: [column.title for column in fit(names, columns(), width, 1)[1]]
        for width in (100, 60, 45, 30, 20)
    }
    assert shown == {
        100: ["shape", "weights", "kept"],
        60: ["weights", "kept"],
        45: ["weights", "kept"],
        30: ["kept"],
        20: ["kept"],
    }


def test_a_drawn_table_fits() -> None:
    for width in (25, 45, 60, 80, 120):
        out = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
        out.print(draw_table(Column("tensor", NAMES, "total", "left"), columns(), width, sections={0}))
        lines = out.file.getvalue().splitlines()
        assert max(map(len, lines)) <= width
        assert not any("…" in line for line in lines)
        for number in ("58,982", "58,983", "117,965"):
            assert any(number in line for line in lines)
