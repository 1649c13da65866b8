"""The tensors that an ONNX file stores, with all floating numbers in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpmt.errors import CheckpointError, RuntimeProgramError
from gpmt.formats.onnx_tensors import TensorReader
from gpmt.formats.short_repr import short_repr

_TEXTS = 8
_GROWTH, _SMALL = 4, 2**26


class StoredTensors:
    """Reads tensors; all of them together take little more memory than the files that hold them.

    Attributes:
        converted: how many tensors were of another floating type, by its name.
    """

    def __init__(self, path: Path) -> None:
        self.converted: dict[str, int] = {}
        self._path = path
        self._reader = TensorReader(path)
        self._taken = 0

    def read(self, name: str, proto: Any) -> Tensor:
        """Return the tensor of a TensorProto or SparseTensorProto; errors call it by the name that is given."""
        is_sparse = hasattr(proto, "indices")
        if not is_sparse and proto.data_type == _TEXTS:
            raise RuntimeProgramError(
                f"{self._path} has texts for {short_repr(name)}, but only numbers are read; export it without"
            )
        tensor = self._reader.sparse(name, proto) if is_sparse else self._reader.dense(name, proto)
        self._taken += tensor.numel() * max(tensor.element_size(), 4)
        files = self._path.stat().st_size + sum(data.numel() for data in self._reader.files.values())
        if self._taken > _SMALL + _GROWTH * files:
            raise CheckpointError(f"{self._path} reads the same data over and over; export it again")
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            kind = str(tensor.dtype).removeprefix("torch.")
            self.converted[kind] = self.converted.get(kind, 0) + 1
            return tensor.float()
        return tensor
