"""Selection against a full sort, over dtypes, ties, floors, chunk sizes and threads."""

import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core import key_loops, select
from gpmt.core.keys import MagnitudeKeys, key_format_of, key_value
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


@settings(max_examples=300)
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
