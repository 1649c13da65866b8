import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.oracle import keep

import gpmt
from gpmt.planning.decide import decide


@settings(max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    parts=st.integers(0, 99),
    floor=st.integers(0, 3),
    seed=st.integers(0, 999),
)
def test_exact_keeps_the_floors_and_then_the_largest_of_the_network(sizes, parts, floor, seed):
    generator = torch.Generator().manual_seed(seed)
    flat = [torch.randint(-3, 4, (size,), generator=generator).float() for size in sizes]  # with many ties
    floors = [min(size, floor) for size in sizes]
    total = sum(sizes) - sum(sizes) * parts // 100
    if total < sum(floors):
        return
    weights = {f"t{i}.weight": values.reshape(1, -1) for i, values in enumerate(flat)}
    [plan] = decide(weights, [f"{parts}%"], min_kept=floor, allocation="exact")
    masks = plan.masks()
    expected = keep([values.numpy() for values in flat], total=total, floors=floors)
    for name, mask in zip(weights, expected, strict=True):
        assert masks[name].flatten().tolist() == mask.tolist()


def test_exact_has_one_threshold_for_the_network(network):
    with pytest.warns(gpmt.GpmtWarning, match=r"no weight in 2 of 5 tensors \(stem\.weight, depthwise"):
        plan = gpmt.plan(network, sparsity=0.9, allocation="exact")
    assert plan.threshold is not None
    kept = sum(int((weight.abs() >= plan.threshold).sum()) for weight in network.values())
    assert kept == plan.kept


def test_exact_is_the_default(network):
    assert (
        gpmt.plan(network, sparsity=0.3).masks()
        == gpmt.plan(network, sparsity=0.3, allocation="exact").masks()
    )
