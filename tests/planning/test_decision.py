"""Cuts without a plan, and those of magnitudes with a factor for each tensor."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.oracle import keep

import gpmt
from gpmt.core.scope.scope import find_scope
from gpmt.errors import WeightsError
from gpmt.planning.decision import decide_cuts
from gpmt.pruner.arguments import complete


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "a.weight": torch.randn(10, 20),
        "b.weight": 2 * torch.randn(40, 5),
        "c.weight": torch.randn(3, 3),
    }


@pytest.mark.parametrize("options", [{}, {"min_kept": 7}, {"allocation": "erk"}, {"within": "tensor"}])
def test_the_plan_of_a_decision_is_that_of_the_request(options: dict[str, object]) -> None:
    tensors = weights()
    decision = decide_cuts(find_scope(tensors), Fraction(1, 2), complete(options))  # type: ignore[arg-type]
    expected = gpmt.plan(tensors, sparsity=0.5, **options)  # type: ignore[arg-type]
    assert decision.plan().to_dict() == expected.to_dict()
    assert decision.plan().masks() == expected.masks()


@settings(max_examples=40)
@given(st.data())
def test_factors_change_what_is_compared_between_tensors_only(data: st.DataObject) -> None:
    value = st.sampled_from([0.0, 0.5, -0.5, 1.0, -2.0]) | st.floats(-4, 4, width=16)
    tensors, factors = {}, {"a.weight": 1.0, "b.weight": 4.0}
    for name in factors:
        tensors[name] = torch.tensor(data.draw(st.lists(value, min_size=4, max_size=9))).view(1, -1)
    floor = data.draw(st.integers(0, 2))
    decision = decide_cuts(
        find_scope(tensors), Fraction(1, 2), complete({"min_kept": floor}), factors=factors
    )
    numel = sum(tensor.numel() for tensor in tensors.values())
    expected = keep(
        [tensor.flatten().double().numpy() * factors[name] for name, tensor in tensors.items()],
        total=numel - numel // 2,
        floors=[floor, floor],
    )
    masks = decision.plan().masks()
    for mask, found in zip(expected, masks.values(), strict=True):
        assert np.array_equal(found.flatten().numpy(), mask)
    assert decision.plan().threshold is None


def test_weights_that_are_not_finite_are_refused() -> None:
    tensors = weights()
    tensors["b.weight"][0, 0] = torch.nan
    for factors in (None, dict.fromkeys(tensors, 2.0)):
        with pytest.raises(WeightsError, match=r"b\.weight"):
            decide_cuts(find_scope(tensors), Fraction(1, 2), complete({}), factors=factors)
