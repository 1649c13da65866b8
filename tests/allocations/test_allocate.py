"""Allocations: exact totals and floors for all, and each against its own definition."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gpmt
from gpmt.allocations import baselines, reference
from gpmt.allocations.lamp import lamp_counts
from gpmt.errors import BudgetError

EXACT_TOTALS = ["exact", "uniform", "erk", "lamp", "random"]


def network(seed=0, **sizes):
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}.weight": torch.randn(shape, generator=generator) * (i + 1)
        for i, (name, shape) in enumerate(sizes.items())
    }


NET = network(stem=(8, 3, 3, 3), depthwise=(16, 1, 3, 3), body=(64, 40), wide=(20, 300), head=(10, 12))


@pytest.mark.parametrize("allocation", EXACT_TOTALS)
@settings(max_examples=25, deadline=None)
@given(parts=st.integers(0, 999), min_kept=st.integers(0, 60))
def test_totals_are_exact_and_floors_are_kept(allocation, parts, min_kept):
    sparsity = Fraction(parts, 1000)
    try:
        plan = gpmt.plan(NET, sparsity=sparsity, min_kept=min_kept, allocation=allocation)
    except BudgetError as error:
        assert "ask for a sparsity of at most" in str(error)  # noqa: PT017
        return
    masks = plan.masks()
    assert plan.pruned == masks.total_pruned == plan.numel * parts // 1000
    for row in plan.tensors:
        assert min(row.numel, min_kept) <= row.kept == masks.kept(row.name) <= row.numel


@pytest.mark.parametrize("allocation", [*EXACT_TOTALS[:-1], "reference"])
def test_within_a_tensor_the_largest_magnitudes_stay(allocation):
    masks = gpmt.plan(NET, sparsity=0.8, min_kept=20, allocation=allocation).masks()
    for name, weight in NET.items():
        kept, pruned = weight[masks[name]].abs(), weight[~masks[name]].abs()
        assert not len(pruned) or not len(kept) or kept.min() >= pruned.max()


def test_an_unknown_allocation_lists_the_known():
    with pytest.raises(
        BudgetError, match=r"allocation is 'magic', but must be one of exact, reference, uniform"
    ):
        gpmt.plan(NET, sparsity=0.5, allocation="magic")


@pytest.mark.parametrize("allocation", [*EXACT_TOTALS, "reference"])
def test_an_infeasible_minimum_fails_before_any_weight_is_read(allocation):
    unread = {name: weight.to("meta") for name, weight in NET.items()}
    with pytest.raises(BudgetError, match=r"needs 360 .* ask for a sparsity of at most 0\.9601"):
        gpmt.plan(unread, sparsity=0.99, min_kept=72, allocation=allocation)


def test_uniform_gives_every_tensor_the_same_density():
    plan = gpmt.plan(NET, sparsity=0.75, allocation="uniform")
    assert all(abs(row.kept - row.numel / 4) <= 1 for row in plan.tensors)


def test_erk_keeps_in_proportion_to_the_sum_of_dimensions():
    plan = gpmt.plan(NET, sparsity=0.9, allocation="erk")
    free = [row for row in plan.tensors if row.kept < row.numel]
    scales = [row.kept / sum(row.shape) for row in free]
    assert len(free) >= 2
    assert max(scales) - min(scales) < 1 / min(sum(row.shape) for row in free)
    whole = [row for row in plan.tensors if row.kept == row.numel]
    assert all(row.numel <= max(scales) * sum(row.shape) + 1 for row in whole)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(1, 60), st.integers(0, 60)), min_size=1, max_size=6),
    st.data(),
)
def test_shares_are_exact_clipped_and_in_proportion(rows, data):
    weights = [weight for weight, _, _ in rows]
    sizes = [size for _, size, _ in rows]
    floors = [min(floor, size) if weight else size for weight, size, floor in rows]
    total = data.draw(st.integers(sum(floors), sum(sizes)))
    parts = baselines.share(weights, [(size,) for size in sizes], total, floors)
    assert sum(parts) == total
    assert all(floor <= part <= size for floor, part, size in zip(floors, parts, sizes, strict=True))
    free = [p / w for w, p, f, s in zip(weights, parts, floors, sizes, strict=True) if f < p < s]
    slack = max((1 / w for w in weights if w), default=0)
    assert not free or max(free) - min(free) <= 2 * slack


def lamp_oracle(weights, total):
    scored = []
    for tensor, values in enumerate(weights):
        squares = np.sort(values.astype(np.float64) ** 2)
        scores = squares / np.cumsum(squares[::-1])[::-1]
        scored += [(score, tensor) for score in scores]
    chosen = sorted(scored, key=lambda entry: (-entry[0], entry[1]))[:total]
    return [sum(tensor == index for _, tensor in chosen) for index in range(len(weights))]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 400), min_size=1, max_size=5), st.floats(0.01, 1))
def test_lamp_counts_are_those_of_its_definition(seed, sizes, density):
    random = np.random.default_rng(seed)
    weights = [
        (random.standard_normal(size) * 10.0 ** random.integers(-3, 3)).astype(np.float32) for size in sizes
    ]
    total = max(1, int(density * sum(sizes)))
    tensors = {f"t{i}": torch.from_numpy(values) for i, values in enumerate(weights)}
    [counts] = lamp_counts(tensors, totals=[total], floors=[0] * len(sizes))
    assert counts == lamp_oracle(weights, total)


def test_lamp_with_ties_and_zeros_is_exact_in_total():
    tensors = {
        "a": torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0]),
        "b": torch.zeros(4),
        "c": torch.ones(6, dtype=torch.float64),
    }
    for total in range(1, 16):
        [counts] = lamp_counts(tensors, totals=[total], floors=[0, 1, 0] if total else [0] * 3)
        assert sum(counts) == total
        assert counts[1] >= 1


def test_random_depends_on_the_seed_only():
    first, again, other = (
        gpmt.plan(weights, sparsity=0.5, allocation="random", seed=seed).masks()
        for weights, seed in [
            (NET, 1),
            (network(seed=9, **{n.split(".")[0]: w.shape for n, w in NET.items()}), 1),
            (NET, 2),
        ]
    )
    assert first == again
    assert first != other


def test_random_masks_are_spread_evenly():
    weights = {"a.weight": torch.ones(100, 1000), "b.weight": torch.ones(100, 1000)}
    masks = gpmt.plan(weights, sparsity=0.9, allocation="random", seed=3).masks()
    for name in masks:
        columns, rows = masks[name].sum(0), masks[name].sum(1)
        assert abs(masks.kept(name) - 10_000) < 400  # 4 standard deviations
        assert rows.min() > 50
        assert rows.max() < 150
        assert columns.max() < 30
    assert not torch.equal(masks["a.weight"], masks["b.weight"])


@given(st.integers(-(2**63), 2**63 - 1))
def test_the_generator_is_splitmix64(counter):
    state = counter * 0x9E37_79B9_7F4A_7C15 % 2**64
    state = (state ^ state >> 30) * 0xBF58_476D_1CE4_E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D0_49BB_1331_11EB % 2**64
    expected = state ^ state >> 31
    assert int(baselines._mix(torch.tensor([counter]))) % 2**64 == expected


# --- The authors' scheme, written out as their scripts do it -----------------------------------------------


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


@settings(max_examples=150, deadline=None)
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
        plan = gpmt.plan(tensors, sparsity=f"{percent}%", min_kept=min_kept, allocation="reference")
    except BudgetError as error:
        assert "ask for a sparsity" in str(error) or expected is None  # noqa: PT017
        return
    if expected is not None:
        masks = plan.masks()
        for name, mask in zip(tensors, expected, strict=True):
            assert masks[name].flatten().tolist() == mask.tolist()


def test_the_case_where_the_scripts_never_end():
    """Sparsities 0.5 and 0.99 in tensors of 1,000 and 9,000, target 0.95, minimum 1 %: rounding stops it short."""
    with pytest.raises(BudgetError, match=r"stays at 0\.9499999999999998 for ever .*rounding"):
        reference.refine([0.5, 0.99], [1000, 9000], target=0.95, min_kept=100)


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
    with pytest.raises(BudgetError, match=r"stays at 0\.9499999999999998 for ever"):
        gpmt.plan(tensors, sparsity=0.95, min_kept="1%", allocation="reference")


def test_where_scaling_cannot_reach_the_target_reference_says_why():
    """All of the pruning falls on a tensor that the minimum then protects; the other one starts at zero."""
    with pytest.raises(
        BudgetError, match=r'allocation "reference" cannot reach sparsity 0\.6 with min_kept 50'
    ):
        reference.refine([0.0, 0.9], [100, 100], target=0.6, min_kept=50)
