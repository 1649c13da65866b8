"""One stored tensor: its checksum, its mask, and the jobs that fill it."""

import dataclasses
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.formats.checkpoints import bits
from tests.formats.sparse.networks import sparse

from gpmt.errors import CheckpointError
from gpmt.formats.bits import integers
from gpmt.formats.masks import rice
from gpmt.formats.sparse.header import Coding, Entry
from gpmt.formats.sparse.stored_tensor import StoredTensor

PATH = Path("m.sparse.safetensors")


def crc32(parts):
    crc = 0
    for part in parts:
        crc = zlib.crc32(integers(part).data, crc)
    return crc


def stored(weights, **changes):
    """Weights [rows, columns] of float32 as a sparse file has them: values and a mask."""
    mask = weights.flatten() != 0
    code = rice.encode(np.packbits(mask.numpy(), bitorder="little"), weights.numel())
    parts = [weights.flatten()[mask], torch.from_numpy(code.data.copy())]
    coding = Coding(code.kept, code.parameter, code.complement, code.data.size, "F32")
    entry = Entry("F32", tuple(weights.shape), crc32(parts), dataclasses.replace(coding, **changes))
    return StoredTensor(PATH, "fc.weight", entry, parts), parts


def filled(tensor, shape, seed=0):
    """The tensor that its jobs make, done in a random order."""
    out = torch.full(shape, 9.0)
    jobs = list(tensor.jobs(out))
    random.Random(seed).shuffle(jobs)
    for job in jobs:
        job()
    return out


@pytest.mark.parametrize("density", [0.0, 0.1, 0.9, 1.0])
def test_jobs_fill_a_tensor_in_any_order(density):
    weights = sparse((3, 1 << 19), density)
    tensor, _ = stored(weights)
    tensor.check()
    assert len(list(tensor.jobs(torch.empty_like(weights)))) > 1
    for seed in range(2):
        assert torch.equal(filled(tensor, weights.shape, seed), weights)


def test_the_mask_is_read_without_the_values():
    weights = sparse((30, 21))
    tensor, parts = stored(weights)
    parts[0].zero_()
    expected = np.packbits((weights != 0).numpy().reshape(-1), bitorder="little")
    np.testing.assert_array_equal(tensor.packed(), expected)


def test_a_dense_tensor_is_copied_bit_by_bit():
    weights = torch.tensor([[0x7FC00001, 0x7F800001], [-1, 0]], dtype=torch.int32).view(
        torch.float32
    )  # payloads of NaN
    tensor = StoredTensor(PATH, "fc.weight", Entry("F32", (2, 2), crc32([weights])), [weights])
    tensor.check()
    assert torch.equal(bits(filled(tensor, (2, 2))), bits(weights))


@pytest.mark.parametrize("part", [0, 1])
def test_a_flipped_bit_of_any_part_is_a_wrong_checksum(part):
    tensor, parts = stored(sparse((30, 20)))
    integers(parts[part])[-1] ^= 1
    with pytest.raises(
        CheckpointError,
        match=r"^m\.sparse\.safetensors: fc\.weight does not match its checksum \([0-9a-f]{8}, not [0-9a-f]{8}\); "
        r"copy it again, or read the others with --skip-bad \(skip_bad=True\)$",
    ):
        tensor.check()


def test_an_invalid_code_is_explained_by_its_checksum_where_that_is_wrong():
    tensor, parts = stored(sparse((30, 20)))
    parts[1][8:] = 0
    with pytest.raises(CheckpointError, match=r"fc\.weight does not match its checksum"):
        tensor.packed()
    with pytest.raises(CheckpointError, match=r"fc\.weight does not match its checksum"):
        filled(tensor, (30, 20))


def test_an_invalid_code_with_the_right_checksum_is_damaged_all_the_same():
    tensor, parts = stored(sparse((30, 20)))
    parts[1][8:] = 0
    tensor.entry = dataclasses.replace(tensor.entry, crc32=crc32(parts))
    with pytest.raises(CheckpointError, match=r"^m\.sparse\.safetensors: fc\.weight is damaged: "):
        filled(tensor, (30, 20))


def test_a_false_number_of_kept_weights_is_found_before_any_job():
    tensor, _ = stored(sparse((30, 20)), kept=7)
    with pytest.raises(CheckpointError, match=r"fc\.weight is damaged: .*not 7"):
        next(tensor.jobs(torch.empty(30, 20)))
