"""The solvers against the optimum, and against SparseGPT's own steps with the whole inverse."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpmt.compensation import solvers
from gpmt.compensation.solvers import SOLVERS, damped, exact, sparsegpt


def case(
    seed: int, *, blocks: int = 2, outputs: int = 3, inputs: int = 12, vectors: int = 40, density: float = 0.5
):
    """Return random weights, masks and inputs that are alike, [blocks, vectors, inputs]."""
    generator = torch.Generator().manual_seed(seed)
    double = {"generator": generator, "dtype": torch.float64}
    mix = torch.randn(blocks, inputs, inputs, **double)
    x = torch.randn(blocks, vectors, inputs, **double) @ mix
    weights = torch.randn(blocks, outputs, inputs, **double)
    kept = torch.rand(blocks, outputs, inputs, generator=generator) < density
    return weights, kept, x


def loss(new: Tensor, old: Tensor, x: Tensor, damping: float) -> Tensor:
    """Return what the solvers make small, of each output: mean squared error and damping."""
    gram = x.mT @ x * 2 / x.shape[1]
    penalty = damping * gram.diagonal(dim1=1, dim2=2).mean(1)[:, None] * (new - old).square().sum(-1)
    return 2 * ((new - old) @ x.mT).square().mean(-1) + penalty


def ridge(weights: Tensor, kept: Tensor, x: Tensor, damping: float) -> Tensor:
    """Return the best new weights, of each output by least squares in NumPy."""
    new = torch.zeros_like(weights)
    for block in range(len(weights)):
        scale = damping * (x[block].square().sum(0) * 2 / len(x[block])).mean()
        rows = torch.cat(
            [x[block] * (2 / len(x[block])) ** 0.5, torch.eye(x.shape[2]).double() * scale.sqrt()]
        )
        for output, keep in enumerate(kept[block]):
            target = rows @ weights[block, output]
            solution = np.linalg.lstsq(rows[:, keep].numpy(), target.numpy(), rcond=None)[0]
            new[block, output, keep] = torch.from_numpy(solution)
    return new


def step_by_step(weights: Tensor, kept: Tensor, hessian: Tensor) -> Tensor:
    """Return what SparseGPT defines: column after column, with the inverse of what is left of H."""
    new = weights.clone()
    for block, output in np.ndindex(weights.shape[:2]):
        for column in range(weights.shape[2]):
            if not kept[block, output, column]:
                inverse = torch.linalg.inv(hessian[block, column:, column:])
                change = new[block, output, column] / inverse[0, 0] * inverse[0]
                new[block, output, column:] -= change
                new[block, output, column] = 0
    return new


@settings(max_examples=10)
@given(
    st.integers(0, 1000),
    st.sampled_from([1e-6, 0.01, 1.0]),
    st.sampled_from([0.1, 0.5, 0.9]),
    st.sampled_from([1, 100, 1 << 22]),
)
def test_exact_is_the_least_squares(seed: int, damping: float, density: float, elements: int):
    weights, kept, x = case(seed, density=density)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solvers, "_ELEMENTS", elements)
        new = exact(weights, kept, damped(x.mT @ x, x.shape[1], damping))
    assert torch.allclose(new, ridge(weights, kept, x, damping), rtol=1e-4, atol=1e-6)
    assert not new[~kept].any()


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([1, 4, 5, 12, 128]), st.sampled_from([0.1, 0.5, 0.9]))
def test_sparsegpt_is_the_definition_however_columns_are_grouped(seed: int, columns: int, density: float):
    weights, kept, x = case(seed, density=density)
    hessian = damped(x.mT @ x, x.shape[1], 0.01)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solvers, "COLUMNS", columns)
        new = sparsegpt(weights, kept, hessian)
    assert torch.allclose(new, step_by_step(weights, kept, hessian), rtol=1e-6, atol=1e-9)
    assert not new[~kept].any()


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([0.01, 1.0]))
def test_sparsegpt_is_not_better_than_exact(seed: int, damping: float):
    weights, kept, x = case(seed)
    hessian = damped(x.mT @ x, x.shape[1], damping)
    best, found = (loss(solve(weights, kept, hessian), weights, x, damping) for solve in (exact, sparsegpt))
    masked = loss(torch.where(kept, weights, 0), weights, x, damping)
    assert (best <= found + 1e-9).all()
    assert (best <= masked + 1e-9).all()


def test_sparsegpt_is_exact_where_the_first_columns_are_pruned():
    weights, kept, x = case(0)
    kept[..., :6], kept[..., 6:] = False, True
    hessian = damped(x.mT @ x, x.shape[1], 0.01)
    assert torch.allclose(sparsegpt(weights, kept, hessian), exact(weights, kept, hessian))


def test_sparsegpt_can_be_worse_than_the_mask_alone():
    # x0 = 10 (x1 - x2), so that what is pruned of x0 goes to x1 and x2; then x2 is pruned, too late for x1.
    generator = torch.Generator().manual_seed(0)
    x1 = torch.randn(100, generator=generator, dtype=torch.float64)
    x2 = x1 + 0.1 * torch.randn(100, generator=generator, dtype=torch.float64)
    x = torch.stack([10 * (x1 - x2), x1, x2], dim=1)[None]
    weights, kept = torch.ones(1, 1, 3, dtype=torch.float64), torch.tensor([[[False, True, False]]])
    new = sparsegpt(weights, kept, damped(x.mT @ x, 100, 1e-4))
    assert loss(new, weights, x, 0.0) > 10 * loss(torch.where(kept, weights, 0), weights, x, 0.0)


def test_inputs_that_are_always_zero_join_nothing():
    weights, kept, x = case(1)
    x[..., 3], kept[..., 3] = 0, True
    x[..., 7], kept[..., 7] = 0, False
    hessian = damped(x.mT @ x, x.shape[1], 0.01)
    for solve in (exact, sparsegpt):
        new = solve(weights, kept, hessian)
        assert torch.equal(new[..., 3], weights[..., 3])
        assert not new[..., 7].any()
    assert torch.equal(damped(torch.zeros(1, 2, 2).double(), 5, 0.01), torch.eye(2).double()[None])


def test_nothing_pruned_changes_nothing_and_nothing_kept_is_zero():
    weights, kept, x = case(2)
    hessian = damped(x.mT @ x, x.shape[1], 0.01)
    for solve in (exact, sparsegpt):
        assert torch.equal(solve(weights, torch.ones_like(kept), hessian), weights)
        assert not solve(weights, torch.zeros_like(kept), hessian).any()


def test_a_matrix_that_is_not_positive_definite_is_an_error():
    weights, kept, _ = case(3)
    for solve in (exact, sparsegpt):
        with pytest.raises(torch.linalg.LinAlgError):
            solve(weights, kept, -torch.eye(12).double().expand(2, 12, 12))


def test_auto_is_exact_where_that_is_affordable(monkeypatch: pytest.MonkeyPatch):
    weights, kept, x = case(4)
    hessian = damped(x.mT @ x, x.shape[1], 0.01)
    cost = int(kept.sum(-1).pow(3).sum()) / 3
    for affordable, solve in ((cost, exact), (cost * 0.99, sparsegpt)):
        monkeypatch.setattr(solvers, "AFFORDABLE", affordable)
        assert torch.equal(SOLVERS["auto"](weights, kept, hessian), solve(weights, kept, hessian))
    assert not torch.equal(exact(weights, kept, hessian), sparsegpt(weights, kept, hessian))
