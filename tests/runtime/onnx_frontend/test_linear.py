import numpy as np
import pytest
from tests.runtime.onnx_frontend.nodes import check, node, noise


def test_a_linear_layer(tmp_path):
    constants = {"w": noise(5, 4, seed=1), "b": noise(5, seed=2)}
    one = node("Gemm", ["x", "w", "b"], ["y"], transB=1, alpha=0.5, beta=2.0)
    check(tmp_path / "a.onnx", one, {"x": noise(3, 4)}, constants, opset=13)


@pytest.mark.slow
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (), (3, 1), (3, 5)])
@pytest.mark.parametrize("factors", [{}, {"alpha": 0.5, "beta": 2.0}, {"beta": 0.0}])
def test_gemm(tmp_path, transposed, bias, factors):
    constants = {"w": noise(5, 4, seed=1) if transposed else noise(4, 5, seed=1)}
    if bias is not None:
        constants["b"] = noise(*bias, seed=2)
    one = node("Gemm", ["x", "w", *(["b"] if bias is not None else [])], ["y"], transB=transposed, **factors)
    for opset in (9, 11, 13) if bias is not None else (11, 13):
        check(tmp_path / "a.onnx", one, {"x": noise(3, 4)}, constants, opset=opset)


def test_gemm_of_what_is_computed(tmp_path):
    one = node("Gemm", ["x", "z", "c"], ["y"], transA=1, alpha=0.5)
    inputs = {"x": noise(4, 3), "z": noise(4, 5, seed=1), "c": noise(5, seed=2)}
    check(tmp_path / "a.onnx", one, inputs, opset=13)


@pytest.mark.parametrize(
    "shapes", [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((4,), (4, 5))]
)
def test_matmul(tmp_path, shapes):
    one = node("MatMul", ["x", "w"], ["y"])
    check(tmp_path / "a.onnx", one, {"x": noise(*shapes[0]), "w": noise(*shapes[1], seed=1)}, opset=9)
    check(tmp_path / "a.onnx", one, {"x": noise(*shapes[0])}, {"w": noise(*shapes[1], seed=1)}, opset=13)


def test_einsum(tmp_path):
    one = node("Einsum", ["x", "z"], ["y"], equation="bij,bjk->bik")
    check(tmp_path / "a.onnx", one, {"x": noise(2, 3, 4), "z": noise(2, 4, 5)}, opset=12)


@pytest.mark.slow
@pytest.mark.parametrize("transposed", [0, 1])
def test_linear_layers_are_native(tmp_path, transposed):
    sparse = noise(30, 40, seed=1) * (np.random.default_rng(0).random((30, 40)) < 0.1)
    weight = sparse.astype(np.float32) if transposed else np.ascontiguousarray(sparse.T, np.float32)
    constants = {"w": weight, "b": noise(30), "v": noise(30, 7), "c": noise(7)}
    nodes = [
        node("Gemm", ["x", "w", "b"], ["h"], transB=transposed, alpha=0.5, beta=2.0),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "v"], ["m"]),
        node("Add", ["c", "m"], ["y"]),
    ]
    check(tmp_path / "a.onnx", nodes, {"x": noise(5, 40)}, constants, native=True)
