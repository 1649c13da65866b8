import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from gpmt.arithmetic import ceil_div, round_up

INTEGERS = st.integers(-(10**30), 10**30)  # beyond the exact range of floats
POSITIVE = st.integers(1, 10**18)


@given(INTEGERS, POSITIVE)
def test_ceil_div_is_the_exact_quotient_rounded_up(number: int, divisor: int) -> None:
    assert ceil_div(number, divisor) == math.ceil(Fraction(number, divisor))


@given(INTEGERS, POSITIVE)
def test_round_up_is_the_next_multiple(number: int, multiple: int) -> None:
    rounded = round_up(number, multiple)
    assert rounded % multiple == 0
    assert 0 <= rounded - number < multiple
