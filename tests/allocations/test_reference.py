"""The authors' scheme, against itself written out as their scripts do it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpmt
from gpmt.allocations.reference import refine
from gpmt.errors import BudgetError
from gpmt.planning.decide import decide


def scripts_masks(weights, target, min_kept):
    """Prune flat weights as the authors' scripts do, with N in place of N + 1; None where they never end."""
    sizes = [len(values) for values in weights]
    pool = np.sort(np.abs(np.concatenate(weights)))
    threshold = pool[max(int(target * len(pool)), 1) - 1]
    masks = [np.abs(values) >= threshold for values in weights]
    if not min_kept:
        return masks
    sparsity = [1 - mask.sum() / mask.size for mask in masks]
    sparsity = [0.0 if n < min_kept else s for s, n in zip(sparsity, sizes, strict=True)]

    def total():
        return sum(s * n for s, n in zip(sparsity, sizes, strict=True)) / sum(sizes)

    for _ in range(2000):
        if not total():
            return None
        reached = total()
        sparsity = [s * target / reached for s in sparsity]
        sparsity = [
            1 - min_kept / n if (1 - s) * n < min_kept and n > min_kept else s
            for s, n in zip(sparsity, sizes, strict=True)
        ]
        if total() >= target:
            break
    else:
        return None
    masks = []
    for values, s in zip(weights, sparsity, strict=True):
        rank = min(max(int(s * len(values)), 1), len(values))
        masks.append(np.abs(values) >= np.sort(np.abs(values))[rank - 1])
    return masks


@settings(max_examples=150)
@given(
    st.integers(0, 10_000),
    st.lists(st.integers(2, 300), min_size=2, max_size=5),
    st.integers(1, 98),
    st.integers(0, 20),
)
def test_reference_gives_the_masks_of_the_scripts(seed, sizes, percent, min_kept):
    random = np.random.default_rng(seed)
    weights = [random.standard_normal(size).astype(np.float32) for size in sizes]
    tensors = {f"t{i}.weight": torch.from_numpy(values).reshape(1, -1) for i, values in enumerate(weights)}
    expected = scripts_masks(weights, percent / 100, min_kept)
    try:
        [plan] = decide(tensors, [f"{percent}%"], min_kept=min_kept, allocation="reference")
    except BudgetError as error:
        assert "ask for a sparsity" in str(error) or expected is None  # noqa: PT017
        return
    if expected is not None:
        masks = plan.masks()
        for name, mask in zip(tensors, expected, strict=True):
            assert masks[name].flatten().tolist() == mask.tolist()


def test_the_case_where_the_scripts_never_end():
    """Sparsities 0.5 and 0.99 in tensors of 1,000 and 9,000, target 0.95, minimum 1 %: rounding stops it short."""
    with pytest.raises(BudgetError, match=r"stays at 0\.9499999999999998 forever .*rounding"):
        refine([0.5, 0.99], [1000, 9000], target=0.95, min_kept=100)


def test_that_case_is_exact_in_exact_and_an_error_in_reference():
    generator = torch.Generator().manual_seed(0)
    # The 500 largest weights are half of the first tensor; the minimum moves 100 of them to the second.
    first = torch.cat(
        [1e-3 + torch.rand(500, generator=generator) / 1e4, 2 + torch.rand(500, generator=generator)]
    )
    second = torch.cat([1e-3 + torch.rand(8910, generator=generator) / 1e4, torch.full((90,), 1.0)])
    tensors = {"a.weight": first.reshape(10, 100), "b.weight": second.reshape(90, 100)}
    exact = gpmt.plan(tensors, sparsity=0.95, min_kept="1%")
    assert exact.pruned == exact.masks().total_pruned == 9500
    assert [row.kept for row in exact.tensors] == [400, 100]
    with pytest.raises(BudgetError, match=r"stays at 0\.9499999999999998 forever"):
        gpmt.plan(tensors, sparsity=0.95, min_kept="1%", allocation="reference")


def test_where_scaling_cannot_reach_the_target_reference_says_why():
    """All of the pruning falls on a tensor that the minimum then protects; the other one starts at zero."""
    with pytest.raises(
        BudgetError, match=r'allocation "reference" cannot reach sparsity 0\.6 with min_kept 50'
    ):
        refine([0.0, 0.9], [100, 100], target=0.6, min_kept=50)
