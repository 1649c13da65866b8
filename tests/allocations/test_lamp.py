import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.allocations.lamp import lamp_counts


def lamp_oracle(weights, total):
    scored = []
    for tensor, values in enumerate(weights):
        squares = np.sort(values.astype(np.float64) ** 2)
        scores = squares / np.cumsum(squares[::-1])[::-1]
        scored += [(score, tensor) for score in scores]
    chosen = sorted(scored, key=lambda entry: (-entry[0], entry[1]))[:total]
    return [sum(tensor == index for _, tensor in chosen) for index in range(len(weights))]


@settings(max_examples=80)
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
