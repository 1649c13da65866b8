"""Calls of PyTorch as plain data and back; a file can only name public operators."""

import json
from dataclasses import replace

import pytest
import torch
from tests.runtime.networks import Lambda, noise
from tests.runtime.reference import run

from gpmt.errors import RuntimeProgramError
from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.operators import Fallback
from gpmt.runtime.ir.torch_calls import Ref, TorchCall, TorchCalls
from gpmt.runtime.ir.torch_calls_encoding import decode_calls, encode_calls
from gpmt.runtime.passes.pipeline import optimize

aten = torch.ops.aten


def stored(*calls, inputs=("x",), outputs=("y",)):
    return {"calls": [list(call) for call in calls], "inputs": list(inputs), "outputs": list(outputs)}


NEGATE = ["aten.neg.default", [{"value": "x"}], {}, ["y"]]


def test_round_trip():
    def function(s, x, ids):
        y = s.table[ids].softmax(-1, dtype=torch.float32)
        a, b = torch.cat([y, y * float("inf")], 1).nan_to_num(posinf=3.0).chunk(2)
        z = torch.full((2, 3), -torch.inf, device="cpu", dtype=torch.float32).maximum(x)
        index = torch.topk(x, 2, dim=-1)[1]
        return a.sum(), b.roll(1), z, index, x.to(torch.float64), x.permute(1, 0), x[None, :, [0, 2]]

    network = Lambda(function, table=noise(5, 3))
    inputs = [noise(2, 3), torch.tensor([[0, 4], [1, 1]])]
    graph = optimize(capture(network, tuple(inputs)).graph)
    assert all(isinstance(operator, Fallback) for operator in graph.operators)
    expected = run(graph, inputs)
    for index, operator in enumerate(graph.operators):
        encoded = encode_calls(operator.calls)
        again = decode_calls(json.loads(json.dumps(encoded, allow_nan=False)))
        assert encode_calls(again) == encoded
        graph.operators[index] = replace(operator, calls=again)
    for one, other in zip(run(graph, inputs), expected, strict=True):
        assert torch.equal(one, other)
        assert one.dtype == other.dtype


def test_own_operators_are_not_stored():
    target = torch.ops.aten._local_scalar_dense.default
    assert encode_calls(TorchCalls([TorchCall(target, (Ref("x"),), {}, (None,))], ["x"], [])) is None
    generator = torch.Generator()
    step = TorchCall(aten.bernoulli.default, (Ref("x"),), {"generator": generator}, ("y",))
    assert encode_calls(TorchCalls([step], ["x"], ["y"])) is None


@pytest.mark.parametrize(
    "name",
    [
        "aten.from_file.default",
        "aten._index_put_impl_.default",
        "aten._unsafe_index.Tensor",
        "gpmt.neg.default",
        "os.system.default",
        "aten.__class__.default",
        "aten.neg",
        "aten.neg.default.__call__",
        "prim.device.default",
        "",
    ],
)
def test_only_public_operators_come_from_a_file(name):
    with pytest.raises(
        RuntimeProgramError, match="only public operators of aten, prims, torchvision may be called"
    ):
        decode_calls(stored([name, [], {}, ["y"]]))


@pytest.mark.parametrize("name", ["aten.neg.nothing", "aten.no_such_thing.default", "aten.neg.__call__"])
def test_unknown_operators(name):
    with pytest.raises(RuntimeProgramError, match=f"calls {name}, unknown to PyTorch .*; save it again"):
        decode_calls(stored([name, [], {}, ["y"]]))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (None, "no calls, inputs and outputs"),
        ({**stored(NEGATE), "more": 1}, "no calls, inputs and outputs"),
        ({"calls": 3, "inputs": [], "outputs": []}, "no calls, inputs and outputs"),
        (stored(NEGATE[:3]), "a call is not"),
        (stored([*NEGATE[:2], {1: 2}, ["y"]]), "an argument has no name"),
        (stored(NEGATE, inputs=[]), "reads 'x' before it is made"),
        (stored(NEGATE, outputs=["z"]), "no call makes its output 'z'"),
        (stored(NEGATE, inputs=[3]), "3 is not the name"),
        (stored([*NEGATE[:3], [["y"]]]), "is not the name"),
        (stored(["aten.neg.default", [{"value": 3}], {}, ["y"]]), "is not an argument"),
        (stored(["aten.neg.default", [{"dtype": "Tensor"}], {}, ["y"]]), "is not an argument"),
        (stored(["aten.neg.default", [{"device": "cuda"}], {}, ["y"]]), "is not an argument"),
        (stored(["aten.neg.default", [{"float": "0"}], {}, ["y"]]), "is not an argument"),
        (stored(["aten.neg.default", [b"x"], {}, ["y"]]), "is not an argument"),
        (stored(["aten.neg.default", [{"dtype": "float32", "value": "x"}], {}, ["y"]]), "is not an argument"),
    ],
)
def test_damaged(data, what):
    with pytest.raises(RuntimeProgramError, match=f"damaged step on PyTorch: .*{what}.*; save it again"):
        decode_calls(data)


def test_torchvision_operators():
    torchvision = pytest.importorskip("torchvision")
    network = Lambda(lambda s, x, boxes: torchvision.ops.roi_align(x, boxes, 2))
    inputs = noise(1, 2, 8, 8), torch.tensor([[0.0, 1, 1, 5, 6]])
    graph = optimize(capture(network, inputs).graph)
    (operator,) = graph.operators
    assert operator.target == "torchvision.roi_align"
    assert torch.equal(decode_calls(encode_calls(operator.calls))(*inputs)[0], network(*inputs))


@pytest.mark.parametrize(("args", "kwargs"), [((-1, -1), {}), ((-1,), {"dtype": 6})])
def test_numbers_are_not_dtypes(args, kwargs):
    """PyTorch itself ends the process for a dtype of -1."""
    call = ["aten.softmax.int", [{"value": "x"}, *args], kwargs, ["y"]]
    with pytest.raises(RuntimeProgramError, match="for its dtype, which is not a dtype"):
        decode_calls(stored(call))
