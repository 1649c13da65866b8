from fractions import Fraction

from gpmt.core.first_match import Named
from gpmt.planning.groups import Budget, divide


def test_blocks_are_divided_by_pattern_and_by_tensor():
    names = [Named(f"{tensor}.{part}", (tensor,), "") for tensor in ("a", "b") for part in ("q", "k")]
    budget = Budget.parse({"*.q": "90%", "*": 0.5})
    groups = divide(names, budget, "network")
    assert [(group.label, group.sparsity, group.places) for group in groups] == [
        ("*.q", Fraction(9, 10), (0, 2)),
        ("*", Fraction(1, 2), (1, 3)),
    ]
    assert [group.of for group in groups] == [" of *.q", " of *"]
    by_tensor = divide(names, Budget.parse(0.5), "tensor")
    assert [(group.label, group.places) for group in by_tensor] == [("a", (0, 1)), ("b", (2, 3))]
