import pytest

from gpmt.report.content.grid import Spread
from gpmt.report.page.wording import count, listed, percent, power_of_ten, seconds, size, spread

NO_BREAK = "\xa0"


@pytest.mark.parametrize(
    ("fraction", "digits", "words"),
    [
        (0.0, 2, "0 %"),
        (1.0, 2, "100 %"),
        (0.123456, 2, "12.35 %"),
        (0.9999999, 2, "99.99999 %"),
        (1e-9, 2, "0.0000001 %"),
        (0.5, 4, "50 %"),
    ],
)
def test_a_share_never_looks_like_all_or_nothing(fraction, digits, words):
    assert percent(fraction, digits) == words.replace(" ", NO_BREAK)


def test_a_spread_of_one_seed_has_no_deviation():
    assert spread(Spread(0.5)) == f"50.00{NO_BREAK}%"
    assert spread(Spread(0.5, 0.0)) == f"50.00 ± 0.00{NO_BREAK}%"


def test_sizes_times_and_lists():
    assert [size(number) for number in (0, 999, 1000, 999_600, 10**13)] == [
        words.replace(" ", NO_BREAK) for words in ("0 bytes", "999 bytes", "1 kB", "1 MB", "10 TB")
    ]
    assert seconds(59.4) == f"59.4{NO_BREAK}s"
    assert seconds(3599.6) == "1 h 0 min"
    assert listed([]) == ""
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert count(2, "batch", "batches") == "2 batches"
    assert power_of_ten(-12) == "10⁻¹²"
