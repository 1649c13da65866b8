"""Samples of keys are the same however they are read."""

import numpy as np
import pytest
import torch

from gpmt.core.keys.key_reader import KeyReader, split
from gpmt.core.keys.keys import KEY32, MagnitudeKeys


class Chunked(MagnitudeKeys):
    def stored(self):
        return None


@pytest.mark.parametrize("every", [1, 7, 100, 3000])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_sample_is_every_nth_key_of_all_tensors_in_a_row(every, threads):
    tensors = [torch.rand(size) for size in (500, 3, 0, 1000, 77)]
    joined = torch.cat(tensors).view(torch.int32).numpy()
    for kind in (MagnitudeKeys, Chunked):
        sources = [kind("w", tensor, KEY32, chunk=64) for tensor in tensors]
        pool = KeyReader(sources, KEY32, threads).sample(every)
        rows = [pool.keys[o : o + n] for o, n in zip(pool.offsets, pool.lengths, strict=True)]
        assert np.concatenate(rows).tolist() == joined[every // 2 :: every].tolist()


def test_sources_are_split_into_groups_of_about_equal_size():
    sources = [MagnitudeKeys("w", torch.ones(size), KEY32) for size in (10, 50, 20, 30, 40)]
    groups = split(sources, 2)
    assert sorted(i for group in groups for i in group) == [0, 1, 2, 3, 4]
    assert sorted(sum(sources[i].numel for i in group) for group in groups) == [70, 80]


def test_keys_that_find_no_room_are_counted():
    reader = KeyReader([MagnitudeKeys("w", torch.rand(1000), KEY32)], KEY32, 1)
    counts, pool = reader.scan([0, 0x3F00_0000], [True, False], 1, 100)
    assert pool is None
    assert counts[0, 0] == 1000
    counts, pool = reader.scan([0, 0x3F00_0000], [True, False], 1, 1000)
    assert pool.lengths.tolist() == [1000 - counts[0, 1]]
