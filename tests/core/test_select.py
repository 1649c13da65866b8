"""Selection against a full sort, over dtypes, ties, floors, chunk sizes, threads and both kinds of kernel."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core import key_loops, select
from gpmt.core.keys import KEY32, KEY64, MagnitudeKeys, flat_chunks, key_format_of, key_value
from gpmt.errors import WeightsError
from tests.core.oracle import keep

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]

# Few distinct values make ties; the others spread over many exponents, with both zeros and subnormals.
FEW = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -2.0])
MANY = st.floats(-65504, 65504, width=16)


@st.composite
def networks(draw, values=FEW | MANY):
    tensors = []
    for _ in range(draw(st.integers(1, 4))):
        data = draw(st.lists(values, min_size=1, max_size=40))
        tensors.append(torch.tensor(data, dtype=draw(st.sampled_from(DTYPES))))
    return tensors


def run(tensors, totals, floors, *, chunk=1 << 18):
    key_format = key_format_of(tensors)
    sources = [MagnitudeKeys(f"t{i}", tensor, key_format, chunk=chunk) for i, tensor in enumerate(tensors)]
    return sources, key_format, select.select(sources, key_format, totals=totals, floors=floors)


def masks_of(sources, key_format, selection):
    masks = []
    for source, cut in zip(sources, selection.cuts, strict=True):
        packed = np.zeros((source.numel + 7) // 8, np.uint8)
        start, ties = 0, cut.ties
        for keys in source.chunks():
            _, tied = key_loops.pack_kept(
                keys, bits=key_format.bits, threshold=cut.key, ties=ties, packed=packed, start=start
            )
            ties -= tied
            start += len(keys)
        masks.append(np.unpackbits(packed, count=source.numel, bitorder="little").astype(bool))
    return masks


@settings(max_examples=300, deadline=None)
@given(networks(), st.data())
def test_the_masks_are_those_of_a_full_sort(tensors, data):
    sizes = [len(tensor) for tensor in tensors]
    floors = [data.draw(st.integers(0, size)) for size in sizes]
    totals = data.draw(st.lists(st.integers(sum(floors), sum(sizes)), min_size=1, max_size=5))
    chunk = data.draw(st.sampled_from([1, 3, 8, 1 << 18]))
    sources, key_format, selections = run(tensors, totals, floors, chunk=chunk)
    weights = [tensor.double().numpy() for tensor in tensors]
    for total, selection in zip(totals, selections, strict=True):
        expected = keep(weights, total=total, floors=floors)
        got = masks_of(sources, key_format, selection)
        assert [mask.tolist() for mask in got] == [mask.tolist() for mask in expected]
        assert [cut.kept for cut in selection.cuts] == [int(mask.sum()) for mask in expected]


@settings(max_examples=100, deadline=None)
@given(networks(values=FEW), st.data())
def test_a_floor_binds_where_the_global_threshold_alone_would_keep_less(tensors, data):
    sizes = [len(tensor) for tensor in tensors]
    floors = [data.draw(st.integers(0, size)) for size in sizes]
    total = data.draw(st.integers(sum(floors) + 1, max(sum(floors) + 1, sum(sizes))))
    if total > sum(sizes):
        return
    _, _, [selection] = run(tensors, [total], floors)
    for cut, floor, tensor in zip(selection.cuts, floors, tensors, strict=True):
        strictly_above = int((tensor.double().abs() > key_value(selection.key, key_format_of(tensors))).sum())
        assert not cut.binds or (cut.kept == floor and strictly_above < floor)


@settings(max_examples=60, deadline=None)
@given(networks(), st.data())
def test_the_order_of_tensors_does_not_change_the_counts_without_ties(tensors, data):
    distinct = torch.cat([tensor.double().abs() for tensor in tensors])
    if len(distinct.unique()) != len(distinct):
        return
    order = data.draw(st.permutations(range(len(tensors))))
    total = data.draw(st.integers(1, len(distinct)))
    _, _, [first] = run(tensors, [total], [0] * len(tensors))
    _, _, [second] = run([tensors[i] for i in order], [total], [0] * len(tensors))
    assert [first.cuts[i].kept for i in order] == [cut.kept for cut in second.cuts]


@pytest.fixture(params=[1, 2, 8])
def threads(request, monkeypatch):
    monkeypatch.setattr(select, "thread_count", lambda sources: min(request.param, len(sources)))
    return request.param


def test_threads_do_not_change_the_result(threads):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator).round(decimals=2) for size in (3000, 10, 70_000, 999)]
    floors = [100, 10, 0, 900]
    sources, key_format, [selection] = run(tensors, [20_000], floors)
    expected = keep([tensor.numpy() for tensor in tensors], total=20_000, floors=floors)
    assert all(
        np.array_equal(a, b) for a, b in zip(masks_of(sources, key_format, selection), expected, strict=True)
    )


def test_many_totals_in_batches_equal_one_at_a_time(monkeypatch):
    tensors = [torch.randn(500, generator=torch.Generator().manual_seed(1)), torch.randn(300)]
    totals = list(range(20, 780, 40))
    together = run(tensors, totals, [10, 10])[2]
    monkeypatch.setattr(select, "HISTOGRAM_BYTES", 0)
    assert run(tensors, totals, [10, 10])[2] == together
    assert [run(tensors, [total], [10, 10])[2][0] for total in totals] == together


def test_channels_last_weights_break_ties_by_logical_index():
    weight = torch.ones(4, 3, 2, 2).to(memory_format=torch.channels_last)
    sources, key_format, [selection] = run([weight], [10], [0], chunk=5)
    mask = masks_of(sources, key_format, selection)[0]
    assert mask.tolist() == [True] * 10 + [False] * 38


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 30), st.randoms())
def test_flat_chunks_follow_the_logical_order(shape, chunk, random):
    tensor = torch.arange(int(np.prod(shape))).reshape(shape)
    axes = list(range(len(shape)))
    random.shuffle(axes)
    permuted = tensor.permute(axes)
    pieces = list(flat_chunks(permuted, chunk))
    assert torch.equal(torch.cat(pieces), permuted.reshape(-1))
    assert all(len(piece) <= chunk for piece in pieces)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_named(dtype, value):
    bad = torch.ones(20, dtype=dtype)
    bad[3] = bad[7] = value
    with pytest.raises(
        WeightsError, match=r"^t1 has 2 NaN or infinite of 20 weights and cannot be ranked; repair"
    ):
        run([torch.ones(5), bad], [10], [0, 0])


def test_the_largest_finite_weights_are_accepted():
    tensors = [torch.tensor([torch.finfo(dtype).max, 1.0], dtype=dtype) for dtype in DTYPES]
    for tensor in tensors:
        _, key_format, [selection] = run([tensor], [1], [0])
        assert key_value(selection.key, key_format) == torch.finfo(tensor.dtype).max


def test_weights_without_data_are_refused():
    with pytest.raises(WeightsError, match="t0 has no data"):
        run([torch.ones(3, device="meta")], [1], [0])


def test_float64_anywhere_widens_all():
    assert key_format_of([torch.ones(1), torch.ones(1, dtype=torch.float16)]) is KEY32
    assert key_format_of([torch.ones(1), torch.ones(1, dtype=torch.float64)]) is KEY64
    close = torch.tensor([1.0, 1.0 + 2**-40], dtype=torch.float64)
    sources, key_format, [selection] = run([torch.ones(1), close], [1], [0, 0])
    assert masks_of(sources, key_format, selection)[1].tolist() == [False, True]


class OffCpu:
    """A CPU tensor that says it lives elsewhere, so that the operations for other devices run here."""

    def __init__(self, tensor):
        self.tensor = tensor
        self.device = torch.device("meta")
        self.dtype = tensor.dtype

    def __getattr__(self, name):
        return getattr(self.tensor, name)

    def __and__(self, other):
        return self.tensor & other

    def __rshift__(self, other):
        return self.tensor >> other

    def __len__(self):
        return len(self.tensor)


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([KEY32, KEY64]), st.data())
def test_the_kernels_for_the_cpu_and_for_other_devices_agree(key_format, data):
    limits = torch.iinfo(key_format.integer)
    values = st.integers(limits.min, limits.max) | st.sampled_from([0, 1, limits.min, key_format.infinity])
    keys = torch.tensor(data.draw(st.lists(values, min_size=1, max_size=60)), dtype=key_format.integer)
    threshold = int(keys[0]) & ((1 << key_format.bits) - 1)
    for run_both in (
        lambda k: _top(k, key_format),
        lambda k: [_digit(k, key_format, shift) for shift in key_format.shifts[1:]],
        lambda k: key_loops.count_above(k, bits=key_format.bits, threshold=threshold),
        lambda k: [
            _pack(k, key_format, threshold, ties, start) for ties in (0, 1, 3, 99) for start in (0, 3, 8)
        ],
    ):
        assert run_both(keys) == run_both(OffCpu(keys))


def _top(keys, key_format):
    histogram = np.zeros(key_loops.TOP_BINS, np.int64)
    key_loops.count_top_digit(keys, bits=key_format.bits, histogram=histogram)
    return histogram.tolist()


def _digit(keys, key_format, shift):
    masked = [int(key) & ((1 << key_format.bits) - 1) for key in keys.tolist()]
    prefixes = np.unique([key >> (shift + 16) for key in masked[:3]])
    histograms = np.zeros((len(prefixes), key_loops.BINS), np.int64)
    key_loops.count_digit(keys, bits=key_format.bits, shift=shift, prefixes=prefixes, histograms=histograms)
    for row, prefix in zip(histograms, prefixes, strict=True):
        assert row.sum() == sum(key >> (shift + 16) == prefix for key in masked)
    return [np.flatnonzero(row).tolist() for row in histograms]


def _pack(keys, key_format, threshold, ties, start):
    packed = np.zeros((start + len(keys) + 7) // 8, np.uint8)
    counts = key_loops.pack_kept(
        keys, bits=key_format.bits, threshold=threshold, ties=ties, packed=packed, start=start
    )
    return counts, packed.tolist()


@settings(deadline=None)
@given(st.sampled_from(DTYPES), st.integers(0, 50), st.randoms())
def test_zeroing_by_packed_bits_gives_positive_zeros_and_keeps_the_rest(dtype, size, random):
    mask = np.array([random.random() < 0.5 for _ in range(size)], bool)
    weights = torch.full((size,), -3.0, dtype=dtype)
    key_loops.zero_pruned(weights, np.packbits(mask, bitorder="little"))
    expected = [-3.0 if keep_it else 0.0 for keep_it in mask]
    assert weights.tolist() == expected
    assert not torch.signbit(weights)[~torch.from_numpy(mask)].any()
