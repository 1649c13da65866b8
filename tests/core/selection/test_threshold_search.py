"""How often the search for thresholds reads a network: once, as a rule, whatever the number of thresholds is."""

import numpy as np
import pytest
import torch

from gpmt.core.keys import device_keys
from gpmt.core.keys.key_reader import KeyReader
from gpmt.core.keys.keys import KEY32, KEY64, SCORE32, MagnitudeKeys, ScoreKeys
from gpmt.core.selection import threshold_search
from gpmt.core.selection.threshold_search import find_thresholds

NUMEL = 400_000


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    scales = torch.rand(8, generator=generator)
    return [torch.randn(NUMEL // 8, generator=generator) * scale for scale in scales]


def reader_of(tensors, key_format=KEY32):
    kind = ScoreKeys if key_format.signed else MagnitudeKeys
    return KeyReader([kind(f"t{i}", tensor, key_format) for i, tensor in enumerate(tensors)], key_format, 2)


def _keys(source, key_format):
    for chunk in source.chunks():
        yield device_keys.keys_of(chunk, key_format).numpy()


def check(reader, totals, floors):
    """Check that each threshold is the largest that keeps enough."""
    thresholds = find_thresholds(reader, totals, np.array(floors, np.int64))
    keys = [np.concatenate([*_keys(source, reader.key_format)]) for source in reader.sources]
    for total, threshold in zip(totals, thresholds, strict=True):
        assert threshold.above.tolist() == [int((one > threshold.key).sum()) for one in keys]
        assert threshold.equal.tolist() == [int((one == threshold.key).sum()) for one in keys]
        assert np.maximum(floors, threshold.above).sum() < total
        assert np.maximum(floors, threshold.above + threshold.equal).sum() >= total


@pytest.mark.parametrize(
    ("convert", "key_format"),
    [
        (lambda tensor: tensor, KEY32),
        (lambda tensor: tensor.double(), KEY64),
        (lambda tensor: tensor.bfloat16(), KEY32),
        (lambda tensor: tensor.half(), KEY32),
        (lambda tensor: tensor, SCORE32),
        (lambda tensor: tensor.reshape(100, -1).T, KEY32),
    ],
)
@pytest.mark.parametrize("floor", [0, 2500])
def test_a_network_is_read_once(convert, key_format, floor):
    tensors = [convert(tensor) for tensor in weights()]
    reader = reader_of(tensors, key_format)
    check(reader, [NUMEL // 10], [floor] * 8)
    assert reader.passes == 1


def test_several_totals_share_the_pass():
    reader = reader_of(weights())
    check(reader, [NUMEL // part for part in (2, 3, 5, 10, 20)], [100] * 8)
    assert reader.passes == 1


def test_a_sparse_network_is_read_once():
    """Nearly all keys of the interval are zero: ties at the end of a bracket are counted, not collected."""
    tensors = [tensor * (tensor.abs() > tensor.abs().quantile(0.9)) for tensor in weights()]
    for total in (NUMEL // 5, NUMEL // 11):
        reader = reader_of(tensors)
        check(reader, [total], [0] * 8)
        assert reader.passes == 1


def test_where_a_bracket_would_hold_too_many_keys_a_sample_of_them_makes_a_narrower_one(monkeypatch):
    monkeypatch.setattr(threshold_search, "POOL_BYTES", 4 * 8000)
    monkeypatch.setattr(threshold_search, "SAMPLE", 2000)
    reader = reader_of(weights())
    check(reader, [NUMEL // 10], [0] * 8)
    assert reader.passes == 2


def test_a_misleading_sample_costs_passes_but_no_weights(monkeypatch):
    """All that the sample sees is zero, so λ is above all brackets at first."""
    monkeypatch.setattr(threshold_search, "SAMPLED", 50)
    tensor = torch.rand(NUMEL, generator=torch.Generator().manual_seed(0)) + 100
    tensor[25::50] = 0
    reader = reader_of([tensor])
    check(reader, [NUMEL // 2], [0])
    assert 1 < reader.passes < 8


def test_many_thresholds_need_one_count_each_of_a_pass(monkeypatch):
    monkeypatch.setattr(threshold_search, "LIMITS", 100)
    reader = reader_of(weights())
    check(reader, [NUMEL // part for part in (2, 3, 5, 10, 20)], [0] * 8)
    assert reader.passes == 3
