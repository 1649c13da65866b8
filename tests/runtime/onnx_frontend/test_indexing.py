import numpy as np
import pytest
import torch
from tests.runtime.onnx_frontend.nodes import check, node, noise, write

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.onnx_frontend.open import open_onnx

HUGE = 2**63 - 1


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(tmp_path, axis):
    inputs = {"x": noise(2, 3), "z": noise(2, 3, seed=1)}
    check(
        tmp_path / "a.onnx",
        node("Concat", ["x", "z", "c"], ["y"], axis=axis),
        inputs,
        {"c": noise(2, 3)},
        opset=9,
    )


SLICES = {
    "one": ([1], [3], [1], [1]),
    "to the end": ([1], [HUGE], [1], [1]),
    "from the end": ([-2], [-1], [-1], [1]),
    "steps": ([0, 1], [HUGE, 5], [0, 1], [2, 2]),
    "backwards": ([-1], [-HUGE], [1], [-1]),
    "backwards in steps": ([4], [0], [1], [-2]),
    "nothing": ([3], [1], [1], [1]),
    "all": ([0], [HUGE], [1], [1]),
}


@pytest.mark.parametrize("case", SLICES)
def test_slice(tmp_path, case):
    values = {name: np.array(numbers) for name, numbers in zip("seat", SLICES[case], strict=True)}
    for opset in (10, 13):
        check(
            tmp_path / "a.onnx", node("Slice", ["x", *"seat"], ["y"]), {"x": noise(4, 6)}, values, opset=opset
        )
    starts, ends, axes, steps = SLICES[case]
    if steps == [1]:
        one = node("Slice", ["x"], ["y"], starts=starts, ends=ends, axes=axes)
        check(tmp_path / "a.onnx", one, {"x": noise(4, 6)}, opset=9)


def test_a_slice_of_all_first_axes(tmp_path):
    values = {"s": np.array([1, 2]), "e": np.array([3, 5])}
    check(tmp_path / "a.onnx", node("Slice", ["x", "s", "e"], ["y"]), {"x": noise(4, 6)}, values, opset=11)


@pytest.mark.parametrize("sizes", [[2, 4], [3, 3], [6, 0]])
def test_split(tmp_path, sizes):
    one = node("Split", ["x"], ["y", "z"], axis=1, split=sizes)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 6)}, outputs=["y", "z"], opset=11)
    one = node("Split", ["x", "s"], ["y", "z"], axis=1)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 6)}, {"s": np.array(sizes)}, outputs=["y", "z"], opset=13)


def test_split_evenly(tmp_path):
    one = node("Split", ["x"], ["y", "z"], axis=1)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 6)}, outputs=["y", "z"], opset=13)
    one = node("Split", ["x"], ["y", "z"], axis=1, num_outputs=2)
    check(tmp_path / "a.onnx", one, {"x": noise(2, 7)}, outputs=["y", "z"], opset=18)


@pytest.mark.parametrize("indices", [1, -1, [0, 2], [1, 2, 3], [-1, 0, 0], [[0, 1], [2, 3]]])
@pytest.mark.parametrize("axis", [0, 1])
def test_gather(tmp_path, indices, axis):
    one, places = node("Gather", ["x", "i"], ["y"], axis=axis), np.array(indices)
    check(tmp_path / "a.onnx", one, {"x": noise(4, 5)}, {"i": places}, opset=9)
    check(tmp_path / "a.onnx", one, {"x": noise(4, 5), "i": places}, opset=13)


def test_an_embedding(tmp_path):
    one = node("Gather", ["w", "i"], ["y"])
    network = check(tmp_path / "a.onnx", one, {"i": np.array([[3, 0], [1, 3]])}, {"w": noise(4, 5)}, opset=13)
    assert [*dict(network.named_parameters())] == ["w"]


def test_gather_elements(tmp_path):
    inputs = {"x": noise(3, 4), "i": np.array([[0, -1], [2, 1]])}
    check(tmp_path / "a.onnx", node("GatherElements", ["x", "i"], ["y"], axis=1), inputs, opset=13)


@pytest.mark.parametrize(
    "pads", [[0, 0, 1, 2, 0, 0, 3, 0], [0] * 8, [1, 0, 0, 0, 0, 2, 0, 0], [0, 0, -1, 0, 0, 0, 0, 1]]
)
def test_pad_with_a_constant(tmp_path, pads):
    inputs = {"x": noise(2, 3, 4, 5)}
    check(tmp_path / "a.onnx", node("Pad", ["x"], ["y"], pads=pads, value=0.5), inputs, opset=9)
    constants = {"p": np.array(pads), "v": np.float32(0.5)}
    check(tmp_path / "a.onnx", node("Pad", ["x", "p", "v"], ["y"]), inputs, constants, opset=13)


@pytest.mark.parametrize("mode", ["reflect", "edge", "wrap"])
@pytest.mark.parametrize("pads", [[0, 0, 1, 2, 0, 0, 2, 1], [0, 0, 0, 1, 0, 0, 0, 1]])
def test_pad_in_other_modes(tmp_path, mode, pads):
    one = node("Pad", ["x", "p"], ["y"], mode=mode)
    opset = 19 if mode == "wrap" else 13
    check(tmp_path / "a.onnx", one, {"x": noise(2, 3, 4, 5)}, {"p": np.array(pads)}, opset=opset)


def test_pad_some_axes(tmp_path):
    constants = {"p": np.array([1, 2, 0, 1]), "v": np.float32(0), "a": np.array([3, 2])}
    check(tmp_path / "a.onnx", node("Pad", ["x", "p", "v", "a"], ["y"]), {"x": noise(1, 2, 3, 4)}, constants)


@pytest.mark.parametrize("upper", [0, 1])
def test_triangles(tmp_path, upper):
    one = node("Trilu", ["x", "k"], ["y"], upper=upper)
    check(tmp_path / "a.onnx", one, {"x": noise(3, 4)}, {"k": np.array(1)}, opset=14)


@pytest.mark.slow
def test_channels_and_pads_are_native(tmp_path):
    nodes = [
        node("Pad", ["x", "p"], ["padded"]),
        node("Conv", ["padded", "w"], ["z"]),
        node("Split", ["z"], ["a", "b"], axis=1),
        node("Slice", ["z", "s", "e", "one"], ["c"]),
        node("Concat", ["b", "a", "c"], ["y"], axis=1),
    ]
    constants = {
        "p": np.array([0, 0, 1, 2, 0, 0, 2, 1]),
        "w": noise(6, 3, 3, 3),
        "s": np.array([2]),
        "e": np.array([5]),
        "one": np.array([1]),
    }
    check(tmp_path / "a.onnx", nodes, {"x": noise(2, 3, 7, 6)}, constants, opset=13, native=True)


@pytest.mark.parametrize(
    ("one", "constants", "sentence"),
    [
        (node("Gather", ["x", "i"], ["y"]), {"i": np.array([4])}, "an index is outside of its axis of 4"),
        (node("Split", ["x", "i"], ["y"]), {"i": np.array([9])}, r"it splits 4 into \[9\] for 1 outputs"),
        (node("Slice", ["x", "i", "i", "i", "i"], ["y"]), {"i": np.array([0])}, "or a step is 0"),
        (node("Pad", ["x", "i"], ["y"]), {"i": np.array([2**40, 0, 0, 0])}, "elements, more than"),
        (node("Pad", ["x", "i"], ["y"]), {"i": np.array([1])}, "it has 1 pads for 2 axes"),
        (node("Pad", ["x", "i"], ["y"], mode="odd"), {"i": np.array([0] * 4)}, "its mode is 'odd'"),
    ],
)
def test_what_cannot_be(tmp_path, one, constants, sentence):
    path = write(tmp_path / "a.onnx", [one], {"x": noise(4, 6)}, constants, inferred=False)
    with pytest.raises(RuntimeProgramError, match=sentence):
        open_onnx(path)(torch.ones(4, 6))
