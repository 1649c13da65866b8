from pathlib import Path

import numpy as np
import pytest
import torch

from gpmt.errors import CheckpointError
from gpmt.formats.onnx_tensors import TensorReader, load_proto

onnx = pytest.importorskip("onnx", reason="makes the files")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"a\.onnx cannot be read: No such file or directory; check the path$"
    ):
        load_proto(tmp_path / "a.onnx")
    (tmp_path / "a.onnx").write_bytes(b"\xff" * 9)
    with pytest.raises(
        CheckpointError, match=r"a\.onnx is truncated or damaged .*; copy or export it again$"
    ):
        load_proto(tmp_path / "a.onnx")


def test_tensors(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(bytes(9))
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = TensorReader(tmp_path / "a.onnx").dense("w", onnx.numpy_helper.from_array(array, "w"))
    assert torch.equal(found, torch.from_numpy(array))
