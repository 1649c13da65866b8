import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import check, node, noise, write

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.open import open_onnx

PLACES = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]


def resize(**attributes):
    return node("Resize", ["x", "", "s"], ["y"], **attributes)


def test_twice_as_large(tmp_path):
    inputs, scales = {"x": noise(2, 3, 4, 6)}, {"s": np.float32([1, 1, 2, 3])}
    for mode in ("nearest", "linear"):
        check(tmp_path / "a.onnx", resize(mode=mode), inputs, scales, opset=13, tolerance=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_nearest(tmp_path, place, rounding):
    one = resize(mode="nearest", coordinate_transformation_mode=place, nearest_mode=rounding)
    for scales in ([1, 1, 2, 2], [1, 1, 4, 1], [1, 1, 0.5, 0.5], [1, 1, 3, 2]):
        check(tmp_path / "a.onnx", one, {"x": noise(2, 3, 4, 6)}, {"s": np.float32(scales)}, opset=13)


@pytest.mark.parametrize("sizes", [[2, 3, 8, 10], [2, 3, 5, 3]])
def test_nearest_to_sizes(tmp_path, sizes):
    empty = np.zeros(0, np.float32)
    constants = {"r": empty, "e": empty, "s": np.array(sizes)}
    ways = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    one = node("Resize", ["x", "r", "e", "s"], ["y"], mode="nearest", **ways)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 3, 4, 5)}, constants, opset=11)


def test_old_ways(tmp_path):
    inputs, constants = {"x": noise(2, 3, 4, 5)}, {"s": np.float32([1, 1, 2, 2])}
    check(
        tmp_path / "a.onnx", node("Upsample", ["x", "s"], ["y"], mode="nearest"), inputs, constants, opset=9
    )
    check(tmp_path / "a.onnx", node("Resize", ["x", "s"], ["y"], mode="nearest"), inputs, constants, opset=10)
    one = node("Upsample", ["x"], ["y"], mode="nearest", scales=[1.0, 1.0, 2.0, 3.0])
    check(tmp_path / "a.onnx", one, inputs, opset=8)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("place", ["half_pixel", "pytorch_half_pixel", "align_corners"])
def test_interpolation(tmp_path, mode, place):
    one = resize(mode=mode, coordinate_transformation_mode=place)
    for scales in ([1, 1, 2, 2], [1, 1, 0.5, 3]):
        check(
            tmp_path / "a.onnx",
            one,
            {"x": noise(2, 3, 4, 5)},
            {"s": np.float32(scales)},
            opset=13,
            tolerance=1e-5,
        )


@pytest.mark.slow
@pytest.mark.parametrize("scales", [[1, 1, 2, 2], [1, 1, 4, 2], [1, 1, 1, 2]])
def test_repeated_pixels_are_native(tmp_path, scales):
    one = resize(mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    check(
        tmp_path / "a.onnx", one, {"x": noise(2, 3, 4, 5)}, {"s": np.float32(scales)}, opset=13, native=True
    )


@pytest.mark.parametrize(
    ("attributes", "scales", "sentence"),
    [
        ({"mode": "nearest"}, [1, 1, 2**19, 2**19], "elements, more than|it makes"),
        ({"mode": "nearest"}, [1, 1, np.inf, 1], "its scales are"),
        ({"mode": "nearest"}, [1, 1, np.nan, 1], "its scales are"),
        ({"mode": "nearest"}, [1, 1, -1, 1], "its scales are"),
        ({"mode": "nearest"}, [2, 2], "it does not have 4 scales"),
        ({"mode": "linear"}, [1, 1, 1.3, 1], "its scales do not make whole sizes"),
        ({"mode": "cubic", "exclude_outside": 1}, [1, 1, 2, 2], "its attribute exclude_outside is 1"),
        ({"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}, [1, 1, 2, 2], "tf_crop"),
    ],
)
def test_what_cannot_be(tmp_path, attributes, scales, sentence):
    constants = {"s": np.float32(scales)}
    path = write(
        tmp_path / "a.onnx", [resize(**attributes)], {"x": noise(1, 2, 4, 5)}, constants, inferred=False
    )
    with pytest.raises(RuntimeProgramError, match=sentence):
        open_onnx(path)(torch.ones(1, 2, 4, 5))
