import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from gpmt.terminal.density_bars import SCALE, WIDTH, bar, curve, position, shows_blocks

DENSITIES = st.floats(0, 1, allow_subnormal=False)


@settings(max_examples=50)
@given(DENSITIES, DENSITIES, st.none() | DENSITIES)
def test_bars_fit_and_more_is_never_shorter(one: float, two: float, floor: float | None):
    less, more = sorted((one, two))
    assert 0 <= position(less) <= position(more) <= 1
    assert len(bar(one, floor)) <= WIDTH == len(SCALE)
    if less:
        assert len(bar(less)) <= len(bar(more))
    assert ("│" in bar(one, floor)) == bool(floor)
    assert ("×" in bar(one)) == (one == 0)
    assert bar(one, floor, blocks=False).isascii()


def test_the_scale_says_where_a_bar_ends():
    assert [len(bar(density)) for density in (1, 0.1, 0.01, 0.001, 0.0001, 0)] == [16, 12, 8, 4, 1, 1]
    assert bar(1).count("█") == 16
    assert bar(0.1, 0.01) == "████████│███"
    assert bar(0.001, 0.01) == "████    │"
    assert bar(1, 1) == "███████████████│"
    assert bar(0.1, 0.01, blocks=False) == "########|###"
    assert bar(0.0, 0.01, blocks=False) == "x       |"


@settings(max_examples=50)
@given(st.lists(DENSITIES, max_size=40), st.integers(-3, 30))
def test_a_curve_has_a_character_for_every_density_that_there_is_room_for(densities: list[float], width: int):
    line = curve(densities, width)
    assert len(line) == min(len(densities), max(width, 1))
    if len(densities) <= width:
        assert [character == "×" for character in line] == [density == 0 for density in densities]
    assert curve(densities, width, blocks=False).isascii()


def test_a_narrow_curve_has_the_means():
    assert curve([1, 1, 0.01, 0.01, 0, 0], 3) == "█▅×"
    assert curve([], 5) == ""


@pytest.mark.parametrize(("encoding", "shown"), [("utf-8", True), ("ascii", False), ("latin-1", False)])
def test_the_encoding_says_whether_blocks_are_shown(encoding: str, shown: bool):
    assert shows_blocks(Console(file=io.TextIOWrapper(io.BytesIO(), encoding=encoding))) is shown
