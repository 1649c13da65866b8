from fractions import Fraction

import pytest

from gpmt.core.selection.nm import NM
from gpmt.errors import BudgetError


def test_what_a_pattern_says():
    pattern = NM.parse("1:16")
    assert (pattern, str(pattern), pattern.sparsity) == (NM(1, 16), "1:16", Fraction(15, 16))
    pattern.check_sparsity(Fraction(15, 16))
    with pytest.raises(
        BudgetError, match=r"sparsity is 0\.5, but pattern 1:16 prunes 15 of every 16 weights, which"
    ):
        pattern.check_sparsity(Fraction(1, 2))


@pytest.mark.parametrize("value", ["4:2", "0:4", "4:4", "2", "2:4:8", "-1:4", "", 2, None, "2 : 4"])
def test_other_patterns_are_refused(value):
    with pytest.raises(BudgetError, match=r"^pattern is .*, but must be N:M with 0 < N < M, such as"):
        NM.parse(value)
