"""Weights that are nodes of the graph: read like initialisers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.formats.importers.weight_files.onnx_files import (
    TensorProto,
    constant,
    external,
    helper,
    numpy_helper,
    read,
    sparse,
    write,
    write_constants,
)

import gpmt
from gpmt.errors import CheckpointError


def tensor(*shape: int, dtype: Any = np.float32) -> Any:
    return numpy_helper.from_array(np.arange(1, 1 + int(np.prod(shape)), dtype=dtype).reshape(shape))


def test_constants_are_read_under_the_names_of_their_outputs(tmp_path: Path) -> None:
    weight, bias = tensor(3, 2), tensor(2)
    weight.name = "another name"
    path = write_constants(tmp_path / "a.onnx", {"linear_0.w_0": weight, "linear_0.b_0": bias})
    loaded = gpmt.load(path)
    assert loaded.source == "ONNX"
    assert list(loaded.state_dict) == ["linear_0.w_0", "linear_0.b_0"]
    assert torch.equal(loaded.state_dict["linear_0.w_0"], torch.arange(1.0, 7).view(3, 2))
    assert torch.equal(loaded.state_dict["linear_0.b_0"], torch.tensor([1.0, 2.0]))
    assert gpmt.plan(loaded.state_dict, sparsity=0.5, scope="*.w_0").pruned == 3


def test_initialisers_come_first(tmp_path: Path) -> None:
    initialiser = tensor(2, 2)
    initialiser.name = "i.weight"
    path = write(tmp_path / "a.onnx", [initialiser], nodes=[constant("c.weight", value=tensor(2, 2))])
    assert list(read(path).state_dict) == ["i.weight", "c.weight"]


def test_sparse_ones_and_lists_of_floats(tmp_path: Path) -> None:
    nodes = [
        constant("s.weight", sparse_value=sparse([2, 3], [1, 5], [2.0, 3.0])),
        constant("b", value_floats=[0.5, -1.5]),
    ]
    state = read(write(tmp_path / "a.onnx", [], nodes=nodes)).state_dict
    assert state["s.weight"].tolist() == [[0, 2, 0], [0, 0, 3]]
    assert state["b"].tolist() == [0.5, -1.5]


def test_shapes_axes_and_single_numbers_are_not_weights(tmp_path: Path) -> None:
    nodes = [
        constant("shape", value=tensor(2, dtype=np.int64)),
        constant("scalar", value=tensor()),
        constant("axis", value_int=1),
        constant("axes", value_ints=[1, 2]),
        constant("number", value_float=0.5),
        constant("text", value_string="abc"),
        helper.make_node("Constant", [], ["foreign"], domain="com.example", value=tensor(2, 2)),
        constant("weight", value=tensor(2, 2)),
    ]
    assert list(read(write(tmp_path / "a.onnx", [], nodes=nodes)).state_dict) == ["weight"]


@pytest.mark.parametrize(
    ("initialiser", "expected"), [((2, 2), ["first"]), ((2,), ["first", "anchors"]), (None, ["anchors"])]
)
def test_constants_of_pytorch_are_weights_only_where_its_initialisers_are_not(
    tmp_path: Path, initialiser: tuple[int, ...] | None, expected: list[str]
) -> None:
    held = [] if initialiser is None else [tensor(*initialiser)]
    for proto in held:
        proto.name = "first"
    nodes = [constant("anchors", value=tensor(3, 4))]
    path = write(tmp_path / "a.onnx", held, nodes=nodes, producer_name="pytorch")
    assert list(read(path).state_dict) == expected


@pytest.mark.parametrize("name", ["FLOAT8E4M3FN", "FLOAT8E5M2"])
def test_a_type_that_is_not_read_is_named_as_in_initialisers(tmp_path: Path, name: str) -> None:
    proto = TensorProto(data_type=getattr(TensorProto, name), dims=[2, 2], raw_data=bytes(4))
    with pytest.raises(CheckpointError, match=rf"a.onnx has 'w' in the ONNX type {name}, which is not read"):
        read(write_constants(tmp_path / "a.onnx", {"w": proto}))


def test_a_name_of_an_initialiser_again(tmp_path: Path) -> None:
    proto = tensor(2, 2)
    proto.name = "w"
    with pytest.raises(CheckpointError, match=r"has an initialiser 'w' that is there twice; export it again"):
        read(write(tmp_path / "a.onnx", [proto], nodes=[constant("w", value=tensor(2, 2))]))


def test_external_data_of_constants(tmp_path: Path) -> None:
    data = torch.randn(12)
    (tmp_path / "weights.bin").write_bytes(data.numpy().tobytes())
    held = {
        "first": external(location="weights.bin", offset="0", length="24"),
        "second": external(location="weights.bin", offset="24"),
    }
    state = read(write_constants(tmp_path / "a.onnx", held)).state_dict
    assert torch.equal(torch.stack([state["first"], state["second"]]).view(-1), data)
    with pytest.raises(CheckpointError, match=r"looks for 'w' past the end of .*weights.bin"):
        read(write_constants(tmp_path / "a.onnx", {"w": external(location="weights.bin", offset="28")}))


def test_external_data_that_onnx_writes(tmp_path: Path) -> None:
    path = write_constants(
        tmp_path / "a.onnx",
        {"w": tensor(5, 7), "b": tensor(7)},
        save_as_external_data=True,
        size_threshold=0,
        convert_attribute=True,
        location="a.data",
    )
    assert (tmp_path / "a.data").stat().st_size >= 168
    assert torch.equal(read(path).state_dict["w"], torch.arange(1.0, 36).view(5, 7))
    assert torch.equal(read(path).state_dict["b"], torch.arange(1.0, 8))
