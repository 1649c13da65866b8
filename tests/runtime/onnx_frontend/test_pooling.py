import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runtime.onnx_frontend.nodes import check, node, noise

CASES = {
    "plain": {"kernel_shape": [3, 3]},
    "strides": {"kernel_shape": [3, 2], "strides": [2, 2]},
    "pads": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "uneven pads": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]},
    "upper": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "lower": {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    "rounded up": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "rounded up and padded": {
        "kernel_shape": [3, 3],
        "strides": [2, 2],
        "pads": [1, 1, 1, 1],
        "ceil_mode": 1,
    },
}


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("case", ["uneven pads", "upper", "rounded up and padded"])
def test_some_pools(tmp_path, operator, case):
    check(
        tmp_path / "a.onnx", node(operator, ["x"], ["y"], **CASES[case]), {"x": noise(2, 3, 7, 10)}, opset=19
    )


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("case", CASES)
def test_pools(tmp_path, operator, case):
    for opset in (10, 11, 19, 22):
        for size in ((8, 9), (7, 11)):
            one = node(operator, ["x"], ["y"], **CASES[case])
            check(tmp_path / "a.onnx", one, {"x": noise(2, 3, *size)}, opset=opset)


@pytest.mark.parametrize("case", [name for name in CASES if "rounded" not in name])
def test_means_that_count_the_padding(tmp_path, case):
    one = node("AveragePool", ["x"], ["y"], count_include_pad=1, **CASES[case])
    check(tmp_path / "a.onnx", one, {"x": noise(2, 3, 8, 9)}, opset=11)


def test_dilated_windows(tmp_path):
    one = node("MaxPool", ["x"], ["y"], kernel_shape=[2, 3], dilations=[2, 2], pads=[1, 1, 1, 1])
    check(tmp_path / "a.onnx", one, {"x": noise(1, 2, 7, 9)}, opset=11)


@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
def test_lines_and_volumes(tmp_path, operator):
    check(
        tmp_path / "a.onnx",
        node(operator, ["x"], ["y"], kernel_shape=[3], pads=[1, 0]),
        {"x": noise(2, 3, 8)},
    )
    one = node(operator, ["x"], ["y"], kernel_shape=[2, 2, 2], strides=[2, 1, 2])
    check(tmp_path / "a.onnx", one, {"x": noise(1, 2, 5, 4, 6)})


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 5, 7), (1, 2, 3, 4, 5)])
def test_pools_of_everything(tmp_path, operator, shape):
    check(tmp_path / "a.onnx", node(operator, ["x"], ["y"]), {"x": noise(*shape)})


@pytest.mark.slow
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("case", CASES)
def test_pools_of_images_are_native(tmp_path, operator, case):
    # The mean of unevenly padded windows has a divisor for each, which no kernel has where it begins with padding.
    native = operator == "MaxPool" or case != "lower"
    for size in ((8, 9), (7, 11)):
        one = node(operator, ["x"], ["y"], **CASES[case])
        check(tmp_path / "a.onnx", one, {"x": noise(2, 3, *size)}, opset=19, compiled=True, native=native)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), operator=st.sampled_from(["MaxPool", "AveragePool"]))
def test_any_pool_of_images(tmp_path, data, operator):
    draw = data.draw
    kernel = [draw(st.integers(1, 4)) for _ in range(2)]
    attributes = {
        "kernel_shape": kernel,
        "strides": [draw(st.integers(1, 3)) for _ in range(2)],
        "pads": [draw(st.integers(0, k - 1)) for k in kernel * 2],
    }
    if operator == "AveragePool":
        attributes["count_include_pad"] = draw(st.integers(0, 1))
    x = noise(1, 2, *(draw(st.integers(k, k + 7)) for k in kernel))
    check(tmp_path / "a.onnx", node(operator, ["x"], ["y"], **attributes), {"x": x}, opset=19, compiled=True)
