import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.keys.keys import KEY32, KEY64, SCORE32, MagnitudeKeys, ScoreKeys
from gpmt.core.selection.runs import mark_on_device, most_in_a_run, pack_runs, whole_runs


def slow(values, kept):
    """Sort each row: the largest first, of equal ones the first first."""
    marks = torch.zeros(values.shape, dtype=torch.bool)
    for row, line in enumerate(values.tolist()):
        for place in sorted(range(len(line)), key=lambda i: (-line[i], i))[:kept]:
            marks[row, place] = True
    return marks


def unpacked(bits, shape):
    count = int(np.prod(shape))
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=count, bitorder="little")).view(shape).bool()


@settings(max_examples=60)
@given(st.data())
def test_rows_are_those_of_a_sort_for_every_chunk_and_layout(data):
    runs, length = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 40))
    kept = data.draw(st.integers(0, length))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    values = torch.randint(-4, 5, (runs, length), generator=generator).to(dtype)
    signed = data.draw(st.booleans()) and dtype != torch.float64
    expected = slow(values.double() if signed else values.double().abs(), kept)
    if data.draw(st.booleans()):
        values = values.T.contiguous().T
    key_format = SCORE32 if signed else KEY64 if dtype == torch.float64 else KEY32
    kind = ScoreKeys if signed else MagnitudeKeys
    chunk = data.draw(st.sampled_from([1, 3, 16, 1 << 19]))
    [bits] = pack_runs(
        [kind("a", values, key_format, chunk=chunk)], key_format, lengths=[length], kept=[kept]
    )
    assert torch.equal(unpacked(bits, values.shape), expected)


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 9), st.integers(0, 1000))
def test_operations_for_other_devices_mark_the_same(runs, length, kept, seed):
    kept = min(kept, length)
    keys = torch.randint(-3, 4, (runs, length), generator=torch.Generator().manual_seed(seed)).int()
    assert torch.equal(mark_on_device(keys, kept), slow(keys, kept))


@given(st.integers(1, 9), st.integers(0, 9), st.lists(st.integers(0, 7), max_size=8))
def test_chunks_of_whole_runs_hold_the_same(length, runs, cuts):
    keys = torch.arange(length * runs)
    places = sorted(min(cut * length // 2, len(keys)) for cut in cuts)
    chunks = [keys[start:end] for start, end in zip([0, *places], [*places, len(keys)], strict=True)]
    found = list(whole_runs(chunks, length))
    assert all(len(chunk) and len(chunk) % length == 0 for chunk in found)
    assert torch.equal(torch.cat([keys[:0], *found]), keys)


def test_chunks_are_bounded(monkeypatch):
    monkeypatch.setattr("gpmt.core.selection.runs.CHUNK", 10)
    assert [len(chunk) for chunk in whole_runs([torch.arange(36)], 4)] == [8, 8, 8, 8, 4]
    assert [len(chunk) for chunk in whole_runs([torch.arange(36)], 18)] == [18, 18]


def test_several_sources_in_threads():
    values = [torch.randn(300, 1000), torch.randn(50, 40)]
    sources = [MagnitudeKeys(str(i), value, KEY32) for i, value in enumerate(values)]
    packed = pack_runs(sources, KEY32, lengths=[1000, 40], kept=[10, 20])
    for bits, value, kept in zip(packed, values, (10, 20), strict=True):
        marks = unpacked(bits, value.shape)
        assert (marks.sum(1) == kept).all()
        lowest = value.abs().masked_fill(~marks, torch.inf).min(1).values
        assert (value.abs().masked_fill(marks, 0).max(1).values <= lowest).all()


@pytest.mark.parametrize("length", [2, 3, 6])
def test_the_most_marks_of_a_run(length):
    marks = torch.tensor([True, True, False, True, False, False])
    assert most_in_a_run(marks, length) == {2: 2, 3: 2, 6: 3}[length]
