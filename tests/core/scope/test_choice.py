"""What patterns choose, and what is said where they choose nothing; more is in test_scope.py."""

import pytest
from tests.core.networks import Net
from torch import nn

from gpmt.core.layers.reach import Reach
from gpmt.core.scope.candidates import find_candidates
from gpmt.core.scope.choice import match_candidates, select
from gpmt.errors import ScopeError


def test_reaches():
    rows = find_candidates(Net()).rows
    found = {rows[i].name: reach for i, reach in match_candidates(rows, "head", "exclude", True).items()}
    assert found == {"head.weight": Reach.LAYER, "head.bias": Reach.LAYER}


def test_an_output_head_is_named():
    net = nn.ModuleDict({"fc": nn.Linear(3, 3), "top": nn.ModuleDict({"lm_head": nn.Linear(3, 9)})})
    rows = find_candidates(net).rows
    for pattern in ("top.lm_head", "top.lm_head.weight"):
        assert {rows[i].name for i in select(rows, pattern, True)} == {"top.lm_head.weight"}
    with pytest.raises(
        ScopeError, match=r"^scope pattern 'top' matches only the output head 'top\.lm_head\.weight'; "
    ):
        select(rows, "top", True)
    assert {rows[i].name for i in select(rows, "type:Linear", True)} == {"fc.weight"}
