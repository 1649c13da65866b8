"""Tensors under masks piece by piece are the tensors under masks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpmt.core.keys.packed_bits import pack
from gpmt.formats.masked_bytes import MaskedBytes

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@settings(max_examples=40)
@given(st.integers(0, 200), st.sampled_from(DTYPES), st.sampled_from([8, 16, 64, 1024]), st.integers(0, 99))
def test_equals_the_masked_tensor(numel: int, dtype: torch.dtype, piece: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(numel, generator=generator).to(dtype)
    tensor[::7] = -0.0
    kept = torch.rand(numel, generator=generator) < 0.3
    told: list[int] = []
    masked = MaskedBytes({"w": pack("w", kept)}.get, told.append, piece)
    found = b"".join(bytes(part) for part in masked.pieces("w", tensor))
    expected = torch.where(kept, tensor, torch.zeros((), dtype=dtype))
    assert found == bytes(expected.view(torch.uint8).numpy())
    assert masked.zeros.get("w", 0) == int((expected == 0).sum())
    assert sum(told) == tensor.nbytes
    plain = b"".join(bytes(part) for part in masked.pieces("other", tensor))
    assert plain == bytes(tensor.view(torch.uint8).numpy())


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float8_e4m3fn])
def test_tensors_of_any_kind_are_written_as_they_are(dtype: torch.dtype) -> None:
    tensor = torch.arange(24).reshape(4, 6).to(dtype)
    found = b"".join(bytes(part) for part in MaskedBytes(lambda name: None, piece=8).pieces("w", tensor.T))
    assert found == bytes(tensor.T.contiguous().view(-1).view(torch.uint8).numpy())


def test_the_source_stays_as_it_is() -> None:
    tensor = torch.arange(1.0, 17)
    list(MaskedBytes(lambda name: torch.zeros(2, dtype=torch.uint8)).pieces("w", tensor))
    assert torch.equal(tensor, torch.arange(1.0, 17))
