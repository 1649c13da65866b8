"""The fixture is a network that PyTorch's exporter wrote (fixtures/make_onnx.py); onnx itself makes the others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests.formats.checkpoints import FIXTURES
from tests.formats.importers.weight_files.onnx_files import (
    TensorProto,
    helper,
    known,
    numpy_helper,
    read,
    write,
)

from gpmt.formats.importers.weight_files import onnx as importer


def test_what_pytorch_exports() -> None:
    path = FIXTURES / "exported.onnx"
    assert known(path)
    checkpoint = read(path)
    expected = load_file(FIXTURES / "exported_expected.safetensors")
    assert (checkpoint.path, checkpoint.source, checkpoint.masks) == (path, "ONNX", None)
    assert importer.NAME == "ONNX"
    assert checkpoint.metadata["producer"].startswith("pytorch ")
    assert int(checkpoint.metadata["opset"]) >= 18
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.state_dict[name], tensor), name
    # The rest is a shape for Reshape.
    assert {checkpoint.state_dict[name].dtype for name in checkpoint.state_dict if name not in expected} <= {
        torch.int64
    }
    assert (expected["fc.weight"] == 0).sum() > 50
    checkpoint.state_dict["fc.weight"].zero_()
    assert torch.equal(read(path).state_dict["fc.weight"], expected["fc.weight"])


DTYPES = {
    "FLOAT": torch.float32,
    "FLOAT16": torch.float16,
    "BFLOAT16": torch.bfloat16,
    "DOUBLE": torch.float64,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "BOOL": torch.bool,
}


def test_any_byte_but_zero_is_true(tmp_path: Path) -> None:
    path = write(tmp_path / "a.onnx", [helper.make_tensor("a", TensorProto.BOOL, [3], b"\2\0\1", raw=True)])
    assert read(path).state_dict["a"].view(torch.uint8).tolist() == [1, 0, 1]


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("raw", [True, False])
def test_types_of_numbers(tmp_path: Path, name: str, raw: bool) -> None:
    numbers = [0.0, 1.0, 0.5, -2.0, 1.0, 3.0] if "FLOAT" in name or name == "DOUBLE" else [0, 1, 1, 0, 1, 1]
    if name.startswith("INT"):
        numbers[2] = -5
    expected = torch.tensor(numbers, dtype=DTYPES[name]).view(2, 3)
    if raw:
        data: Any = expected.view(torch.uint8).numpy().tobytes()
    else:
        data = numbers
    proto = helper.make_tensor("w", getattr(TensorProto, name), [2, 3], data, raw=raw)
    found = read(write(tmp_path / "a.onnx", [proto])).state_dict["w"]
    assert found.dtype == DTYPES[name]
    assert torch.equal(found.to(torch.float64), expected.to(torch.float64))


@given(shape=st.lists(st.integers(0, 4), max_size=4), external=st.booleans(), seed=st.integers(0, 99))
def test_shapes(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], external: bool, seed: int
) -> None:
    array = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    options = {"save_as_external_data": True, "size_threshold": 0} if external else {}
    write(path, [numpy_helper.from_array(array, "w")], **options)
    found = read(path).state_dict["w"]
    assert found.shape == torch.Size(shape)
    assert torch.equal(found, torch.from_numpy(array))


def test_order_and_names_are_the_files(tmp_path: Path) -> None:
    names = ["onnx::MatMul_7", "b", "a.weight", "/x/y"]
    protos = [numpy_helper.from_array(np.ones(1), name) for name in names]
    assert list(read(write(tmp_path / "a.onnx", protos)).state_dict) == names
