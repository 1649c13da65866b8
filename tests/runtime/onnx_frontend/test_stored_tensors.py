import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import TensorProto, helper, numpy_helper

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.stored_tensors import StoredTensors


@pytest.fixture
def stored(tmp_path):
    (tmp_path / "a.onnx").write_bytes(bytes(10))
    return StoredTensors(tmp_path / "a.onnx")


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_floats_are_single_precision(stored, kind):
    found = stored.read("w", numpy_helper.from_array(np.array([0, 0.5, -2], kind), "w"))
    assert torch.equal(found, torch.tensor([0, 0.5, -2]))
    assert found.dtype == torch.float32
    assert stored.converted == ({} if kind is np.float32 else {np.dtype(kind).name: 1})


def test_bfloat16(stored):
    found = stored.read("w", helper.make_tensor("w", TensorProto.BFLOAT16, [2], [0.5, -3.0]))
    assert (found.tolist(), found.dtype) == ([0.5, -3.0], torch.float32)


def test_integers_stay(stored):
    found = stored.read("w", numpy_helper.from_array(np.array([2**40]), "w"))
    assert (found.tolist(), found.dtype) == ([2**40], torch.int64)
    assert stored.converted == {}


def test_texts(stored):
    with pytest.raises(RuntimeProgramError, match="has texts for 'w', but only numbers are read"):
        stored.read("w", helper.make_tensor("w", TensorProto.STRING, [1], [b"x"]))
