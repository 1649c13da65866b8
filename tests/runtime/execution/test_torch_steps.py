"""Steps on PyTorch: what they may return, and the state of PyTorch that they run in."""

import pytest
import torch
from tests.runtime.execution.engines import run
from tests.runtime.networks import Lambda, noise
from torch import nn

import gpmt
from gpmt.errors import RuntimeProgramError
from gpmt.runtime.execution.torch_steps import as_compiled, run_torch_step
from gpmt.runtime.ir.values import Value
from gpmt.runtime.lowering.steps import TorchStep

IMAGES = noise(2, 8, 9, 10)


@torch.no_grad()
def test_tensors_with_the_negative_bit():
    network = Lambda(lambda s, x: s.conv(torch.fft.fft2(x).conj().imag), conv=nn.Conv2d(8, 4, 3)).eval()
    assert torch.fft.fft2(IMAGES).conj().imag.is_neg()
    torch.testing.assert_close(run(network, IMAGES)[0], network(IMAGES), rtol=1e-4, atol=1e-3)


def test_steps_on_pytorch_that_fail_say_so():
    network = Lambda(lambda s, ids: nn.functional.embedding(ids.flip(0), s.table), table=torch.zeros(3, 4))
    program = gpmt.compile(network, torch.tensor([0, 1]), threads=1, tune=False)
    with pytest.raises(
        RuntimeProgramError,
        match=r"step flip, embedding on PyTorch \S+ fails: index out of range.*; check the inputs",
    ) as error:
        program(torch.tensor([0, 3]))
    assert isinstance(error.value.__cause__, IndexError)


@pytest.mark.parametrize(
    "result",
    [noise(2, 4), noise(2, 3).double(), noise(2, 3).to_sparse(), torch.empty(2, 3, device="meta"), None],
)
def test_a_step_that_returns_something_else_is_refused(result):
    step = TorchStep("double", ("x",), (Value("y", (2, 3)),), lambda x: (result,))
    with pytest.raises(
        RuntimeProgramError,
        match=r"step double on PyTorch \S+ does not make y as torch.float32 \[2, 3\]; compile the network again",
    ):
        run_torch_step(step, {"x": noise(2, 3)})


def test_gradients_and_autocast_are_off():
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16), as_compiled():
        assert not torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
