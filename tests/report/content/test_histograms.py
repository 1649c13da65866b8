import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.report.content.histograms import MOST_BINS, MOST_BLOCKS, histograms

MAGNITUDES = st.one_of(st.just(0.0), st.floats(-1e3, 1e3), st.floats(-1e-30, 1e-30))


def oracle(values: np.ndarray, edges: tuple[float, ...], dtype: torch.dtype) -> list[int]:
    """Count one value after another; the first bin takes what is smaller, the last what is larger."""
    limits = torch.tensor([10.0**edge for edge in edges], dtype=dtype).tolist()
    counts = [0] * (len(edges) - 1)
    for value in np.abs(values).tolist():
        if value and np.isfinite(value):
            place = sum(value >= limit for limit in limits[1:-1])
            counts[place] += 1
    return counts


@settings(max_examples=40, deadline=None)
@given(
    st.lists(MAGNITUDES, min_size=1, max_size=60),
    st.lists(MAGNITUDES, min_size=1, max_size=60),
    st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
)
def test_every_weight_is_counted_once(first: list[float], second: list[float], dtype: torch.dtype):
    blocks = {"a": torch.tensor([first]).to(dtype), "b": torch.tensor([second]).to(dtype)}
    whole, *each = histograms(blocks, None)
    key_dtype = torch.float64 if dtype == torch.float64 else torch.float32
    for found, tensor in zip(each, blocks.values(), strict=True):
        assert found.before is not None
        values = tensor.double().numpy().ravel()
        assert list(found.before) == oracle(values, found.edges, key_dtype)
        assert found.zeros_before == int((values == 0).sum())
        assert found.after is None
    assert whole.before == tuple(sum(counts) for counts in zip(*(one.before for one in each), strict=True))
    assert len(whole.edges) <= MOST_BINS + 1
    assert sorted(set(whole.edges)) == list(whole.edges)


def test_before_and_after_share_edges_and_thresholds_are_those_of_the_groups():
    torch.manual_seed(0)
    before = {"a": torch.randn(50, 40), "b": torch.randn(30, 40) / 10}
    after = {name: torch.where(tensor.abs() >= 0.5, tensor, 0.0) for name, tensor in before.items()}
    whole, a, b = histograms(before, after, threshold=None, thresholds={"a": 0.5})
    assert whole.edges == a.edges == b.edges
    assert (whole.threshold, a.threshold, b.threshold) == (None, 0.5, None)
    assert whole.before is not None
    assert whole.after is not None
    assert sum(whole.before) + whole.zeros_before == sum(whole.after) + whole.zeros_after == 3200
    assert whole.zeros_after == sum(int((tensor == 0).sum()) for tensor in after.values())


def test_nothing_and_zeros_alone_have_a_histogram_without_counts():
    assert histograms(None, None) == []
    [whole, _] = histograms(None, {"a": torch.zeros(2, 3)})
    assert whole.zeros_after == 6
    assert sum(whole.after or ()) == 0


def test_weights_that_are_not_finite_are_in_no_bin():
    [whole, _] = histograms(None, {"a": torch.tensor([[1.0, float("nan"), float("inf"), 0.0]])})
    assert sum(whole.after or ()) == 1


def test_of_many_blocks_the_largest_have_one():
    blocks = {f"b{number}": torch.ones(1, 1 + number % 7) for number in range(MOST_BLOCKS + 30)}
    found = histograms(None, blocks)
    assert len(found) == 1 + MOST_BLOCKS
    assert [one.name for one in found[1:]] == sorted((one.name for one in found[1:]), key=list(blocks).index)
    shown = {blocks[one.name].numel() for one in found[1:]}
    assert max(blocks[name].numel() for name in blocks if name not in {one.name for one in found}) <= min(
        shown
    )


def test_views_of_blocks_are_counted_as_they_are():
    tensor = torch.arange(1.0, 25).view(4, 6)
    [whole, left, right] = histograms(None, {"l": tensor[:, :2], "r": tensor[:, 2:].t()})
    assert sum(left.after or ()) == 8
    assert sum(right.after or ()) == 16
    assert sum(whole.after or ()) == 24
