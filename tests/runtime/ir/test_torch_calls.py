"""Calls of PyTorch as one function: what its results share, and when values are freed."""

import torch
from tests.runtime.networks import noise
from torch import nn

from gpmt.runtime.frontend.capture import capture
from gpmt.runtime.ir.torch_calls import Ref, TorchCall, TorchCalls

aten = torch.ops.aten


def test_results_share_no_memory_with_arguments():
    x = noise(2, 3)
    steps = [
        TorchCall(aten.t.default, (Ref("x"),), {}, ("y",)),
        TorchCall(aten.view.default, (Ref("x"), [6]), {}, ("z",)),
    ]
    for result in TorchCalls(steps, ["x"], ["y", "z", "x"])(x):
        assert result.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()
        assert result.is_contiguous()


def test_results_that_are_not_read_are_freed():
    steps = [
        TorchCall(aten.neg.default, (Ref("x"),), {}, ("y",)),
        TorchCall(aten.sum.default, (Ref("y"),), {}, ("z",)),
    ]
    calls = TorchCalls(steps, ["x"], ["z"])
    assert calls._dead == [[], ["y"]]
    assert calls(torch.ones(3))[0] == -3


def test_report_of_a_layer():
    (operator,) = capture(nn.Softplus(), noise(2, 3)).graph.operators
    assert (operator.target, operator.reason) == ("softplus", "there is no kernel for it")
