"""The engines beside gpmt: each gives what PyTorch gives, or says why it does not run."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gpmt.cli.bench_engines import ENGINES, Subject, checked, prepare, subject_of
from gpmt.cli.engines import difference
from gpmt.errors import GpmtError


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.conv(images) * scale


INPUTS = {"images": torch.ones(2, 3, 8, 8), "scale": torch.full((2, 1, 1, 1), 3.0)}
POSITIONAL = (INPUTS["images"], INPUTS["scale"])


@pytest.mark.parametrize("inputs", [INPUTS, POSITIONAL], ids=["named", "positional"])
@pytest.mark.parametrize(
    "name",
    [
        "eager",
        pytest.param("compile", marks=pytest.mark.slow),
        "onnx",
        pytest.param("openvino", marks=pytest.mark.slow),
    ],
)
def test_every_engine_gives_what_pytorch_gives(name, inputs):
    network = Scaled().eval()
    with subject_of(network, inputs, 1) as subject:
        if lacking := ENGINES[name].lacking(subject):
            pytest.skip(f"{lacking} is not installed")
        calls, left_out = prepare(subject, [name], demanded=True)
    assert difference(calls[name](), [network(*POSITIONAL).detach()]) < 1e-5
    assert left_out == {}


def test_names():
    assert checked(None, every=True) is None
    assert checked("none", every=False) == ()
    assert checked("onnx,eager", every=False) == ("onnx", "eager")
    with pytest.raises(
        GpmtError, match=r"^--engines has 'tvm', but must be none, or some of eager, compile, onnx, openvino$"
    ):
        checked("eager,tvm", every=False)
    with pytest.raises(
        GpmtError, match=r"^--compare means all engines that are installed; leave out --engines"
    ):
        checked("eager", every=True)


class Unexportable(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("not today")


def test_an_engine_that_cannot_run_is_left_out_unless_demanded(tmp_path: Path):
    if ENGINES["onnx"].lacking(Subject(nn.Identity(), (), 1, tmp_path)):
        pytest.skip("onnxruntime, onnx or onnxscript is not installed")
    subject = Subject(Unexportable(2, 2), (torch.ones(1, 2),), 1, tmp_path)
    calls, left_out = prepare(subject, ["onnx"], demanded=False)
    assert calls == {}
    assert "not today" in left_out["onnx"]
    with pytest.raises(GpmtError, match="not today"):
        prepare(subject, ["onnx"], demanded=True)
