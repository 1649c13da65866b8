"""Operators that stay on PyTorch: their values, their names, and arguments that no document holds."""

import pytest
import torch
from tests.runtime.ir.examples import NEGATE, graph_of

from gpmt.runtime.ir.document import DocumentError
from gpmt.runtime.ir.operators import fallback
from gpmt.runtime.ir.serialization import write
from gpmt.runtime.ir.torch_calls import Ref, TorchCall

ADD = TorchCall(torch.ops.aten.add.Tensor, (Ref("y"), Ref("z")), {}, ("sum",))
AGAIN = TorchCall(torch.ops.aten.neg.default, (Ref("sum"),), {}, ("end",))


def test_values_are_those_that_it_was_given():
    operator = fallback([NEGATE, ADD, AGAIN], ["x", "z"], ["y", "end"], "there is no kernel for it")
    assert (operator.inputs, operator.outputs) == (("x", "z"), ("y", "end"))
    x, z = torch.ones(3), torch.full((3,), 4.0)
    first, last = operator.calls(x, z)
    assert torch.equal(first, -x)
    assert torch.equal(last, x - z)


def test_the_target_names_each_operator_once():
    operator = fallback([NEGATE, ADD, AGAIN], ["x", "z"], ["end"], "")
    assert operator.target == "neg, add"


def test_arguments_that_are_not_plain_data_cannot_be_saved():
    call = TorchCall(torch.ops.aten.neg.default, (Ref("x"), object()), {}, ("y",))
    graph = graph_of(fallback([call], ["x"], ["y"], ""), {"x": (3,), "y": (3,)})
    with pytest.raises(DocumentError, match="cannot hold neg, which stays on PyTorch with arguments that"):
        write(graph)
