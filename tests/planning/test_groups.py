from fractions import Fraction

from gpmt.core.budget.first_match import Named
from gpmt.planning.groups import Budget, Group, automatic_minimum_of, divide


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


def test_the_automatic_minimum_is_that_of_the_group_that_has_the_least():
    first = Group("a", Fraction(98, 100), (0, 2))  # 40 of 2,000 stay: 15 of 20 a block
    second = Group("*", Fraction(1, 2), (1,))  # 4 % of 300
    assert automatic_minimum_of([first], [1500, 300, 500]) == 15
    assert automatic_minimum_of([first, second], [1500, 300, 500]) == 12
    assert automatic_minimum_of([first, Group("empty", Fraction(1, 2), (1,))], [1500, 0, 500]) == 15
