import math

import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import check, node, noise
from tests.runtime.onnx_frontend.test_network import export
from torch import nn

from gpmt.runtime.onnx_frontend.composites import GELU, LAYER_NORM
from gpmt.runtime.onnx_frontend.open import open_onnx

NUMBERS = {
    "half": np.float32(0.5), "one": np.float32(1), "two": np.float32(2), "four": np.float32(4),
    "root": np.float32(math.sqrt(2)),    "inverse": np.float32(math.sqrt(0.5)), "epsilon": np.float32(1e-5),
    "w": noise(4, seed=1), "b": noise(4, seed=2),
}  # fmt: skip


def gelu(*, divide=True, order=0, output="y"):
    scaled = node("Div", ["x", "root"], ["s"]) if divide else node("Mul", ["inverse", "x"], ["s"])
    ends = [
        [node("Mul", ["x", "a"], ["m"]), node("Mul", ["m", "half"], [output])],
        [node("Mul", ["half", "x"], ["m"]), node("Mul", ["m", "a"], [output])],
        [node("Mul", ["a", "half"], ["m"]), node("Mul", ["x", "m"], [output])],
    ]
    return [scaled, node("Erf", ["s"], ["e"]), node("Add", ["e", "one"], ["a"]), *ends[order]]


def layer_norm(*, power=True, axes=(-1,), swap=False):
    square = node("Pow", ["d", "two"], ["p"]) if power else node("Mul", ["d", "d"], ["p"])
    return [
        node("ReduceMean", ["x"], ["m"], axes=list(axes)),
        node("Sub", ["x", "m"], ["d"]),
        square,
        node("ReduceMean", ["p"], ["v"], axes=list(axes)),
        node("Add", ["v", "epsilon"], ["q"]),
        node("Sqrt", ["q"], ["r"]),
        node("Div", ["d", "r"], ["n"]),
        node("Mul", ["w", "n"] if swap else ["n", "w"], ["k"]),
        node("Add", ["k", "b"], ["y"]),
    ]


def operators(network):
    return [one.operator for one in network._nodes]


@pytest.mark.parametrize("divide", [True, False])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_gelu(tmp_path, divide, order):
    nodes = gelu(divide=divide, order=order)
    network = check(tmp_path / "a.onnx", nodes, {"x": noise(3, 4)}, NUMBERS, opset=13)
    assert operators(network) == [GELU]


@pytest.mark.parametrize("power", [True, False])
@pytest.mark.parametrize("swap", [True, False])
def test_layer_norm(tmp_path, power, swap):
    nodes = layer_norm(power=power, swap=swap)
    network = check(tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 4)}, NUMBERS, opset=13, tolerance=1e-5)
    assert operators(network) == [LAYER_NORM]


def changed(nodes, place, **inputs):
    for old, new in inputs.items():
        names = nodes[place].input
        names[list(names).index(old)] = new
    return nodes


@pytest.mark.parametrize(
    "nodes",
    [
        changed(gelu(), 0, root="two"),
        changed(gelu(), 2, one="two"),
        changed(gelu(), 4, half="two"),
        changed(gelu(), 3, x="e"),
        changed(layer_norm(), 2, two="four"),
        changed(layer_norm(), 6, d="x"),
        changed(layer_norm(), 1, x="w"),
        layer_norm(axes=(0,)),
        layer_norm(axes=(-2, -1)),
    ],
    ids=range(9),
)
def test_others_stay(tmp_path, nodes):
    inputs = {"x": np.abs(noise(4, 4)) + 0.5}
    network = check(tmp_path / "a.onnx", nodes, inputs, NUMBERS, opset=13, tolerance=1e-4)
    assert not {GELU, LAYER_NORM} & {*operators(network)}


@pytest.mark.parametrize("part", ["s", "e", "a", "m"])
def test_a_gelu_of_which_a_part_is_read(tmp_path, part):
    outputs = ["y", part]
    network = check(tmp_path / "a.onnx", gelu(), {"x": noise(3, 4)}, NUMBERS, outputs=outputs, opset=13)
    assert GELU not in operators(network)


@pytest.mark.parametrize("part", ["m", "d", "p", "v", "q", "r", "n", "k"])
def test_a_layer_norm_of_which_a_part_is_read(tmp_path, part):
    outputs = ["y", part]
    network = check(
        tmp_path / "a.onnx",
        layer_norm(),
        {"x": noise(3, 4)},
        NUMBERS,
        outputs=outputs,
        opset=13,
        tolerance=1e-5,
    )
    assert LAYER_NORM not in operators(network)


@pytest.mark.slow
@pytest.mark.parametrize(("dynamo", "opset"), [(True, 18), (False, 13), (False, 17)])
def test_an_encoder_that_pytorch_exports(tmp_path, dynamo, opset):
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.GELU(), nn.Linear(16, 4)).eval()
    path = export(layers, tmp_path / "a.onnx", torch.randn(2, 5, 8), dynamo=dynamo, opset_version=opset)
    network = open_onnx(path)
    assert len(operators(network)) == 4
    inputs = torch.randn(2, 5, 8)
    assert torch.allclose(network(inputs), layers(inputs), atol=1e-5)
