import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import check, node, noise, write

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.open import open_onnx

NORM = {
    "s": noise(4, seed=1),
    "b": noise(4, seed=2),
    "m": noise(4, seed=3),
    "v": np.abs(noise(4, seed=4)) + 0.1,
}


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 5), (2, 4, 5, 6)])
def test_batch_norm(tmp_path, shape):
    one = node("BatchNormalization", ["x", *NORM], ["y"], epsilon=1e-3)
    for opset in (9, 14, 15):
        check(tmp_path / "a.onnx", one, {"x": noise(*shape)}, NORM, opset=opset)


def test_batch_norm_in_training_mode(tmp_path):
    one = node("BatchNormalization", ["x", *NORM], ["y", "", ""], training_mode=1)
    path = write(tmp_path / "a.onnx", [one], {"x": noise(2, 4, 5, 6)}, NORM, inferred=False)
    with pytest.raises(RuntimeProgramError, match=r"Normalization .* is in training mode, not in evaluation"):
        open_onnx(path)(torch.ones(2, 4, 5, 6))


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 6)])
def test_instance_norm(tmp_path, shape):
    constants = {name: NORM[name] for name in "sb"}
    one = node("InstanceNormalization", ["x", "s", "b"], ["y"], epsilon=1e-3)
    check(tmp_path / "a.onnx", one, {"x": noise(*shape)}, constants, opset=9, tolerance=1e-5)


def test_group_norm(tmp_path):
    constants = {name: NORM[name] for name in "sb"}
    one = node("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=2)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 4, 5, 6)}, constants, opset=21, tolerance=1e-5)


@pytest.mark.parametrize("axis", [-1, 1, 2])
@pytest.mark.parametrize("shift", [True, False])
def test_layer_norm(tmp_path, axis, shift):
    shape = (2, 3, 4)[axis:]
    constants = {"s": noise(*shape, seed=1), **({"b": noise(*shape, seed=2)} if shift else {})}
    one = node("LayerNormalization", ["x", *constants], ["y"], axis=axis)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 3, 4)}, constants, opset=17, tolerance=1e-5)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_local_response_norm(tmp_path, size):
    one = node("LRN", ["x"], ["y"], size=size, alpha=0.1, beta=0.6, bias=2.0)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 7, 4, 3)}, opset=13, tolerance=1e-5)


@pytest.mark.parametrize("order", [1, 2])
def test_lp_norm(tmp_path, order):
    check(tmp_path / "a.onnx", node("LpNormalization", ["x"], ["y"], p=order, axis=1), {"x": noise(2, 3, 4)})


@pytest.mark.slow
def test_batch_norm_after_a_layer_is_native(tmp_path):
    nodes = [node("Conv", ["x", "w"], ["z"]), node("BatchNormalization", ["z", *NORM], ["y"])]
    constants = {"w": noise(4, 3, 3, 3), **NORM}
    check(tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 5, 6)}, constants, native=True)
    nodes = [node("MatMul", ["x", "w"], ["z"]), node("BatchNormalization", ["z", *NORM], ["y"])]
    check(tmp_path / "a.onnx", nodes, {"x": noise(2, 3)}, {"w": noise(3, 4), **NORM}, native=True)
