import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runtime.onnx_frontend.nodes import check, node, noise, write

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.open import open_onnx

CONVOLUTIONS = {
    "plain": ((2, 3, 9, 7), (4, 3, 3, 3), {}),
    "padded": ((1, 3, 9, 7), (4, 3, 3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "uneven pads": ((1, 3, 9, 7), (4, 3, 3, 3), {"pads": [0, 1, 2, 0], "strides": [2, 1]}),
    "depthwise": ((1, 4, 9, 7), (4, 1, 5, 3), {"group": 4, "pads": [2, 1, 2, 1]}),
    "groups": ((1, 4, 6, 7), (6, 2, 1, 1), {"group": 2}),
    "dilated": ((1, 2, 9, 9), (3, 2, 3, 3), {"dilations": [2, 3], "pads": [2, 3, 2, 3]}),
    "upper": ((1, 3, 10, 7), (4, 3, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "lower": ((1, 3, 10, 7), (4, 3, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 2]}),
    "valid": ((1, 3, 10, 7), (4, 3, 3, 4), {"auto_pad": "VALID", "kernel_shape": [3, 4]}),
    "line": ((2, 3, 11), (4, 3, 3), {"pads": [1, 2]}),
    "volume": ((1, 2, 5, 6, 7), (3, 2, 3, 2, 1), {"pads": [1, 0, 0, 1, 0, 0]}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(tmp_path, case):
    shape, weight, attributes = CONVOLUTIONS[case]
    constants = {"w": noise(*weight, seed=1), "b": noise(weight[0], seed=2)}
    for opset in (9, 11, 22):
        for inputs in (["x", "w", "b"], ["x", "w"]):
            check(
                tmp_path / "a.onnx",
                node("Conv", inputs, ["y"], **attributes),
                {"x": noise(*shape)},
                constants,
                opset=opset,
            )


@pytest.mark.slow
@pytest.mark.parametrize("case", [name for name in CONVOLUTIONS if name not in ("line", "volume")])
def test_convolutions_of_images_are_native(tmp_path, case):
    shape, weight, attributes = CONVOLUTIONS[case]
    constants = {"w": noise(*weight, seed=1), "b": noise(weight[0], seed=2)}
    check(
        tmp_path / "a.onnx",
        node("Conv", ["x", "w", "b"], ["y"], **attributes),
        {"x": noise(*shape)},
        constants,
        native=True,
    )


def test_a_weight_that_is_an_input(tmp_path):
    check(
        tmp_path / "a.onnx", node("Conv", ["x", "w"], ["y"]), {"x": noise(1, 2, 5, 5), "w": noise(3, 2, 3, 3)}
    )


TRANSPOSED = {
    "plain": {},
    "strides": {"strides": [2, 3]},
    "pads": {"strides": [2, 2], "pads": [1, 1, 1, 1]},
    "uneven pads": {"strides": [2, 2], "pads": [0, 1, 1, 0]},
    "output padding": {"strides": [3, 3], "pads": [1, 1, 1, 1], "output_padding": [1, 2]},
    "output shape": {"strides": [2, 2], "output_shape": [8, 10]},
    "upper": {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "lower": {"strides": [3, 3], "auto_pad": "SAME_LOWER"},
    "groups": {"group": 2, "strides": [2, 2]},
    "dilated": {"dilations": [2, 1], "pads": [1, 0, 1, 0]},
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed_convolutions(tmp_path, case):
    constants = {"w": noise(4, 3, 3, 3, seed=1), "b": noise(3 * TRANSPOSED[case].get("group", 1), seed=2)}
    one = node("ConvTranspose", ["x", "w", "b"], ["y"], **TRANSPOSED[case])
    check(tmp_path / "a.onnx", one, {"x": noise(2, 4, 4, 5)}, constants, opset=11, tolerance=1e-5)


@pytest.mark.parametrize(
    ("attributes", "sentence"),
    [
        ({"strides": [0, 1]}, r"its strides are \[0, 1\], not 2 numbers from 1 up"),
        ({"pads": [1, 1]}, r"its pads are \[1, 1\], not 4 numbers from 0 up"),
        ({"dilations": [1, 2**40]}, r"its dilations are"),
        ({"dilations": [9, 1]}, "its window of 19 does not fit into 5"),
        ({"group": 0}, "its group is 0"),
        ({"group": 3}, "expected|Given groups"),
        ({"auto_pad": "ALL"}, "its auto_pad is 'ALL'"),
        ({"kernel_shape": [2, 2]}, r"its kernel_shape is \[2, 2\], but its weight is for \[3, 3\]"),
        ({"strides": 2}, "its attribute strides is not a list of integers"),
    ],
)
def test_attributes_that_make_no_sense(tmp_path, attributes, sentence):
    one = node("Conv", ["x", "w"], ["y"], **attributes)
    x = noise(1, 2, 5, 5)
    path = write(tmp_path / "a.onnx", [one], {"x": x}, {"w": noise(3, 2, 3, 3)}, inferred=False)
    with pytest.raises(RuntimeProgramError, match=rf"of Conv of opset 18 \(node 'the_conv': .*({sentence})"):
        open_onnx(path)(torch.from_numpy(x))


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_convolution_of_images(tmp_path, data):
    draw = data.draw
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    sizes = [draw(st.integers(k, k + 9)) for k in kernel]
    attributes = {
        "group": groups,
        "strides": draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)),
        "pads": draw(st.lists(st.integers(0, 3), min_size=4, max_size=4)),
    }
    shape = (4, 4 // groups, *kernel)
    weight = noise(*shape, seed=1) * (np.random.default_rng(3).random(shape) < 0.3)
    one = node("Conv", ["x", "w"], ["y"], **attributes)
    x = noise(draw(st.integers(1, 2)), 4, *sizes)
    check(tmp_path / "a.onnx", one, {"x": x}, {"w": weight.astype(np.float32)}, native=True, tolerance=1e-5)
