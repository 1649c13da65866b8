import torch

from gpmt.reachability import network
from gpmt.reachability.rules import RULES


def test_rules_are_of_operators() -> None:
    assert network.RULES is RULES
    unknown = [name for name in RULES if not hasattr(torch.ops.aten, name)]
    assert unknown == []
