import pytest

from gpmt.terminal.durations import duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (99.6, "2 min"),
        (5999, "100 min"),
        (6000, "1.7 h"),
    ],
)
def test_the_unit_fits_the_time(seconds: float, text: str):
    assert duration(seconds) == text
