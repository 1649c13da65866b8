import torch
from hypothesis import given
from hypothesis import strategies as st

import gpmt
from gpmt.allocations.random import _mix


def test_random_depends_on_the_seed_only(network, other_network):
    first, again, other = (
        gpmt.plan(weights, sparsity=0.5, allocation="random", seed=seed).masks()
        for weights, seed in [(network, 1), (other_network, 1), (network, 2)]
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
    assert int(_mix(torch.tensor([counter]))) % 2**64 == expected
