import numpy as np
import pytest
from tests.runtime.onnx_frontend.nodes import check, node, noise

OPERATORS = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
]  # fmt: skip


def test_all_over_space(tmp_path):
    nodes = [node(operator, ["x", "a"], [operator]) for operator in OPERATORS]
    inputs, axes = {"x": np.abs(noise(2, 3, 4, 5)) + 0.1}, {"a": np.array([2, 3])}
    check(tmp_path / "a.onnx", nodes, inputs, axes, outputs=OPERATORS, tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("keep", [0, 1])
def test_over_axes(tmp_path, operator, keep):
    inputs = {"x": np.abs(noise(2, 3, 4, 5)) + 0.1}
    for axes in ([1], [2, 3], [-1, 0], None):
        attributes = {} if axes is None else {"axes": axes}
        one = node(operator, ["x"], ["y"], keepdims=keep, **attributes)
        check(tmp_path / "a.onnx", one, inputs, opset=11, tolerance=1e-5)
        constants = {} if axes is None else {"a": np.array(axes)}
        one = node(operator, ["x", *constants], ["y"], keepdims=keep)
        check(tmp_path / "a.onnx", one, inputs, constants, tolerance=1e-5)


def test_no_axes_may_mean_none(tmp_path):
    one = node("ReduceSum", ["x"], ["y"], noop_with_empty_axes=1)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 3)}, opset=13)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
def test_places_of_extremes(tmp_path, operator, last):
    inputs = {"x": np.float32([[1, 3, 3, 1], [2, 0, 0, 2]])}
    for axis, keep in ((1, 0), (0, 1), (-1, 1)):
        one = node(operator, ["x"], ["y"], axis=axis, keepdims=keep, select_last_index=last)
        check(tmp_path / "a.onnx", one, inputs, opset=13)


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sums(tmp_path, exclusive, reverse):
    one = node("CumSum", ["x", "a"], ["y"], exclusive=exclusive, reverse=reverse)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 5)}, {"a": np.array(1)}, opset=14)


@pytest.mark.parametrize("largest", [0, 1])
def test_the_first_of_equal_ones(tmp_path, largest):
    inputs = {"x": np.float32([[1, 3, 3, 1], [2, 0, 0, 2]])}
    one = node("TopK", ["x", "k"], ["y", "i"], largest=largest, axis=1)
    check(tmp_path / "a.onnx", one, inputs, {"k": np.array([3])}, outputs=["y", "i"], opset=11)


@pytest.mark.slow
def test_means_over_space_are_native(tmp_path):
    nodes = [node("Conv", ["x", "w"], ["z"]), node("ReduceMean", ["z"], ["y"], axes=[2, 3], keepdims=0)]
    check(
        tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 5, 6)}, {"w": noise(4, 3, 1, 1)}, opset=13, native=True
    )
