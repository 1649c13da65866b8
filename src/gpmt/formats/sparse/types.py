"""The types of tensors in a sparse file, as PyTorch and as safetensors name them."""

from __future__ import annotations

import torch

from gpmt.errors import CheckpointError

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}


def check_dtype(name: str, dtype: torch.dtype) -> str:
    """Return the safetensors name of a type. Raises `CheckpointError` for one that the format does not have."""
    if dtype not in CODES:
        raise CheckpointError(
            f"{name} is {dtype}, which a sparse file cannot hold; convert it first, e.g. to torch.float32"
        )
    return CODES[dtype]
