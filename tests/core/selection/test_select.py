"""Selection against a full sort, over dtypes, ties, floors, signs, chunk sizes, threads, samples and brackets."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.oracle import keep

from gpmt.core.keys import key_packing
from gpmt.core.keys.keys import (
    MagnitudeKeys,
    ScoreKeys,
    flat_chunks,
    key_format_of,
    key_value,
    score_format_of,
)
from gpmt.core.selection import own_thresholds, select, threshold_search
from gpmt.errors import WeightsError

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]

# Few distinct values make ties; the others spread over many exponents, with both zeros and subnormals.
FEW = st.sampled_from([0.0, -0.0, 0.5, -0.5, 1.0, -2.0])
MANY = st.floats(-65504, 65504, width=16)
SCORES = FEW | MANY | st.sampled_from([float("inf"), -float("inf")])


@st.composite
def networks(draw, values=FEW | MANY, longest=40):
    tensors = []
    for _ in range(draw(st.integers(1, 4))):
        data = draw(st.lists(values, min_size=1, max_size=longest))
        tensors.append(torch.tensor(data, dtype=draw(st.sampled_from(DTYPES))))
    return tensors


@st.composite
def sizes_of_the_search(draw):
    """Draw samples, pools and brackets so small that searches miss, widen, draw samples again and run out of room."""
    return {
        (threshold_search, "SAMPLE"): draw(st.sampled_from([2, 8, 1 << 18])),
        (threshold_search, "SAMPLED"): draw(st.sampled_from([2, 16])),
        (threshold_search, "SMALL"): draw(st.sampled_from([1, 8, 1 << 12])),
        (threshold_search, "POOL_BYTES"): draw(st.sampled_from([64, 256, 1 << 20])),
        (threshold_search, "MARGIN"): draw(st.sampled_from([0.0, 1.0, 4.0])),
        (threshold_search, "LIMITS"): draw(st.sampled_from([1, 1 << 20])),
        (own_thresholds, "SMALL"): draw(st.sampled_from([0, 10, 1 << 16])),
    }


class Chunks:
    """Keys that can only be read in chunks, of a size."""

    def __init__(self, name, tensor, key_format, chunk):
        self.name, self.numel, self.device = name, tensor.numel(), tensor.device
        self.tensor, self.key_format, self.chunk = tensor, key_format, chunk

    def chunks(self):
        for chunk in flat_chunks(self.tensor, self.chunk):
            yield chunk.to(self.key_format.dtype).view(self.key_format.integer)


def sources_of(tensors, *, chunk=None, signed=False):
    key_format = (score_format_of if signed else key_format_of)(tensors)
    kind = ScoreKeys if signed else MagnitudeKeys
    return [
        kind(f"t{i}", tensor, key_format) if chunk is None else Chunks(f"t{i}", tensor, key_format, chunk)
        for i, tensor in enumerate(tensors)
    ], key_format


def run(tensors, totals, floors, *, chunk=None, signed=False):
    sources, key_format = sources_of(tensors, chunk=chunk, signed=signed)
    return sources, key_format, select.select(sources, key_format, totals=totals, floors=floors)


def masks_of(sources, key_format, selection):
    packed = key_packing.pack_keys(
        sources,
        key_format,
        keys=[cut.key for cut in selection.cuts],
        ties=[cut.ties for cut in selection.cuts],
    )
    return [
        np.unpackbits(found.bits.numpy(), count=source.numel, bitorder="little").astype(bool)
        for source, found in zip(sources, packed, strict=True)
    ]


def check(tensors, data, *, sizes=None, chunks=(None, 1, 3, 8, 1 << 18), signed=False):
    lengths = [len(tensor) for tensor in tensors]
    floors = [data.draw(st.integers(0, length)) for length in lengths]
    totals = data.draw(st.lists(st.integers(sum(floors), sum(lengths)), min_size=1, max_size=5))
    chunk, threads = data.draw(st.sampled_from(chunks)), data.draw(st.sampled_from([1, 3]))
    with pytest.MonkeyPatch.context() as patch:
        for (module, name), value in (sizes or {}).items():
            patch.setattr(module, name, value)
        for module in (select, own_thresholds):
            patch.setattr(module, "thread_count", lambda sources: min(threads, len(sources)))
        sources, key_format, selections = run(tensors, totals, floors, chunk=chunk, signed=signed)
    weights = [tensor.double().numpy() for tensor in tensors]
    for total, selection in zip(totals, selections, strict=True):
        expected = keep(weights, total=total, floors=floors, signed=signed)
        got = masks_of(sources, key_format, selection)
        assert [mask.tolist() for mask in got] == [mask.tolist() for mask in expected]
        assert [cut.kept for cut in selection.cuts] == [int(mask.sum()) for mask in expected]


@settings(max_examples=150, deadline=None)
@given(networks(), st.data())
def test_the_masks_are_those_of_a_full_sort(tensors, data):
    check(tensors, data)


@settings(max_examples=100, deadline=None)
@given(networks(SCORES), st.data())
def test_signed_scores_rank_as_numbers_from_minus_to_plus_infinity(tensors, data):
    check(tensors, data, signed=True)


@settings(max_examples=60, deadline=None)  # many more are in test_many_searches_of_any_size
@given(networks(longest=150), sizes_of_the_search(), st.data())
def test_samples_brackets_and_pools_of_any_size_give_the_masks_of_a_full_sort(tensors, sizes, data):
    check(tensors, data, sizes=sizes, chunks=(None, 64))


@settings(max_examples=40, deadline=None)
@given(networks(SCORES, longest=150), sizes_of_the_search(), st.data())
def test_samples_brackets_and_pools_of_any_size_rank_scores_too(tensors, sizes, data):
    check(tensors, data, sizes=sizes, chunks=(None, 64), signed=True)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(networks(SCORES, longest=400), sizes_of_the_search(), st.booleans(), st.data())
def test_many_searches_of_any_size(tensors, sizes, signed, data):
    if not signed:
        tensors = [tensor.nan_to_num(posinf=1.0, neginf=-1.0) for tensor in tensors]
    check(tensors, data, sizes=sizes, chunks=(None, 1, 64), signed=signed)


@settings(max_examples=100)
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


@settings(max_examples=60)
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
    for module in (select, own_thresholds):
        monkeypatch.setattr(module, "thread_count", lambda sources: min(request.param, len(sources)))
    return request.param


def test_threads_do_not_change_the_result(threads):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator).round(decimals=2) for size in (1000, 10, 5000, 999)]
    floors = [100, 10, 0, 900]
    sources, key_format, [selection] = run(tensors, [3000], floors)
    expected = keep([tensor.numpy() for tensor in tensors], total=3000, floors=floors)
    assert all(
        np.array_equal(a, b) for a, b in zip(masks_of(sources, key_format, selection), expected, strict=True)
    )


def test_many_totals_in_batches_equal_one_at_a_time(monkeypatch):
    tensors = [torch.randn(500, generator=torch.Generator().manual_seed(1)), torch.randn(300)]
    totals = list(range(20, 780, 40))
    together = run(tensors, totals, [10, 10])[2]
    monkeypatch.setattr(threshold_search, "LIMITS", 1)
    assert run(tensors, totals, [10, 10])[2] == together
    assert [run(tensors, [total], [10, 10])[2][0] for total in totals] == together


def test_channels_last_weights_break_ties_by_logical_index():
    weight = torch.ones(4, 3, 2, 2).to(memory_format=torch.channels_last)
    sources, key_format, [selection] = run([weight], [10], [0], chunk=5)
    mask = masks_of(sources, key_format, selection)[0]
    assert mask.tolist() == [True] * 10 + [False] * 38


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_weight_that_is_not_finite_is_named(dtype, value):
    bad = torch.ones(20, dtype=dtype)
    bad[3] = bad[7] = value
    with pytest.raises(
        WeightsError, match=r"^t1 has 2 NaN or infinite of 20 weights and cannot be ranked; repair"
    ):
        run([torch.ones(5), bad], [10], [0, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("floors", [[0, 0], [5, 5]])
def test_scores_that_are_no_numbers_are_named(dtype, floors):
    bad = torch.ones(20, dtype=dtype)
    bad[3], bad[7], bad[8] = float("nan"), -float("nan"), float("inf")
    with pytest.raises(
        WeightsError, match=r"^the scores of t1 have 2 NaN of 20 and cannot be ranked; give -inf for what"
    ):
        run([torch.full((5,), -float("inf")), bad], [10], floors, signed=True)


@pytest.mark.parametrize("sign", [1, -1])
def test_no_number_of_either_sign_passes_for_the_keys_of_a_score(sign):
    bad = torch.tensor([1.0, sign * float("nan")]).copysign(torch.tensor([1.0, sign]))
    with pytest.raises(WeightsError, match="the scores of t0 have 1 NaN of 2"):
        run([bad], [1], [0], signed=True)


def test_scores_keep_plus_infinity_and_prune_minus_infinity():
    scores = torch.tensor([-1.0, float("inf"), -float("inf"), 0.0, -0.0, 2.0])
    for total, kept in [(1, [1]), (2, [1, 5]), (3, [1, 3, 5]), (5, [0, 1, 3, 4, 5])]:
        sources, key_format, [selection] = run([scores], [total], [0], signed=True)
        assert np.flatnonzero(masks_of(sources, key_format, selection)[0]).tolist() == kept
    assert key_value(selection.key, key_format) == -1.0


def test_the_largest_finite_weights_are_accepted():
    tensors = [torch.tensor([torch.finfo(dtype).max, 1.0], dtype=dtype) for dtype in DTYPES]
    for tensor in tensors:
        _, key_format, [selection] = run([tensor], [1], [0])
        assert key_value(selection.key, key_format) == torch.finfo(tensor.dtype).max


def test_weights_without_data_are_refused():
    with pytest.raises(WeightsError, match="t0 has no data"):
        run([torch.ones(3, device="meta")], [1], [0])


def test_a_float64_tensor_is_ranked_with_float32_ones_exactly():
    close = torch.tensor([1.0, 1.0 + 2**-40], dtype=torch.float64)
    sources, key_format, [selection] = run([torch.ones(1), close], [1], [0, 0])
    assert masks_of(sources, key_format, selection)[1].tolist() == [False, True]


class OnDevice(MagnitudeKeys):
    """Keys that say that they are on `device`, and that note the thread in which they are read."""

    def __init__(self, name, tensor, device):
        super().__init__(name, tensor, key_format_of([tensor]))
        self.device = torch.device(device)
        self.threads = set()

    def stored(self):
        return None  # read in chunks

    def chunks(self):
        self.threads.add(threading.get_ident())
        yield from super().chunks()


@pytest.mark.parametrize("devices", [["cuda", "cuda"], ["mps", "mps"], ["cpu", "cuda"]])
def test_keys_that_are_not_on_a_cpu_are_read_by_the_callers_thread(devices):
    """The current stream belongs to a thread, so another one would not wait for what the caller has queued."""
    tensors = [torch.randn(1 << 18, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    sources = [OnDevice("w", *pair) for pair in zip(tensors, devices, strict=True)]
    select.select(sources, key_format_of(tensors), totals=[1000], floors=[10, 10])
    assert [source.threads for source in sources] == [{threading.get_ident()}] * 2


def test_large_networks_on_a_cpu_are_read_by_several_threads():
    sources = [OnDevice("w", torch.ones(1 << 18), "cpu") for _ in range(2)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        select.select(sources, key_format_of([]), totals=[1000], floors=[10, 10])
    finally:
        torch.set_num_threads(before)
    assert threading.get_ident() not in set.union(*(source.threads for source in sources))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("signed", [False, True])
def test_the_operations_for_other_devices_select_the_same(dtype, signed, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator).to(dtype) for size in (3000, 77, 1205)]
    sources, key_format = sources_of(tensors, signed=signed)
    elsewhere = [
        Chunks(source.name, tensor, key_format, 500) for source, tensor in zip(sources, tensors, strict=True)
    ]
    for source in elsewhere:
        source.device = torch.device("cuda")
    monkeypatch.setattr(threshold_search, "SMALL", 100)
    monkeypatch.setattr(threshold_search, "POOL_BYTES", 1000)
    for totals, floors in [([500, 1000], [50, 50, 500]), ([100], [0, 50, 50])]:
        expected = select.select(sources, key_format, totals=totals, floors=floors)
        assert select.select(elsewhere, key_format, totals=totals, floors=floors) == expected


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_masks_of_a_gpu_are_those_of_the_cpu(dtype):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(size, generator=generator).to(dtype) for size in (1 << 18, 77, (1 << 20) + 5)]
    on_cpu, on_gpu = (
        run(tensors, [40_000], [50, 50, 50]),
        run([t.cuda() for t in tensors], [40_000], [50, 50, 50]),
    )
    assert on_gpu[2] == on_cpu[2]
    for ours, theirs in zip(
        masks_of(*on_gpu[:2], on_gpu[2][0]), masks_of(*on_cpu[:2], on_cpu[2][0]), strict=True
    ):
        assert np.array_equal(ours, theirs)


@pytest.mark.gpu
def test_selection_waits_for_what_the_caller_has_queued_on_its_stream():
    shapes = (1 << 20, 1 << 20)
    tensors = [torch.ones(size, device="cuda") for size in shapes]
    later = [torch.randn(size, generator=torch.Generator().manual_seed(1)) for size in shapes]
    staged = [tensor.cuda() for tensor in later]
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)  # about 0.1 s
        for tensor, values in zip(tensors, staged, strict=True):
            tensor.copy_(values)
        selections = run(tensors, [40_000], [50, 50])[2]
    assert selections == run(later, [40_000], [50, 50])[2]
