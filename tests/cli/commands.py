"""Commands run in the test's own process, and the weights that they are tried on."""

from typing import Any

import torch
from torch import Tensor
from typer.testing import CliRunner, Result

import gpmt as package
from gpmt.cli import app

N, PRUNED = 296, 266
"""Prunable weights of `weights`, and nine tenths of them rounded down."""


def gpmt(*arguments: Any, code: int = 0) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def error(*arguments: Any) -> str:
    """Run a command that must fail, and return its one sentence."""
    result = gpmt(*arguments, code=2)
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0].removeprefix("error: ")


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(8, 3, 3, 3, generator=generator),
        "bn.weight": torch.ones(8),
        "fc.weight": torch.randn(10, 8, generator=generator),
        "fc.bias": torch.zeros(10),
    }


def sparse_weights() -> dict[str, Tensor]:
    """`weights` and a larger tensor, nine tenths of them zero."""
    state = weights() | {"big.weight": torch.randn(100, 100, generator=torch.Generator().manual_seed(1))}
    package.plan(state, sparsity=0.9).masks().apply_(state)
    return state


def multiplied_weights() -> dict[str, Tensor]:
    """`weights` and a larger tensor, multiplied by masks of 0 and 1: two fifths and more of it are -0.0."""
    state = weights() | {"big.weight": torch.randn(100, 100, generator=torch.Generator().manual_seed(1))}
    masks = package.plan(state, sparsity=0.9).masks()
    return {name: tensor * masks[name] if name in masks else tensor for name, tensor in state.items()}


def assert_same(path: str, expected: dict[str, Tensor]) -> None:
    """Check that a file holds exactly these tensors."""
    actual = package.load(path).state_dict
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[name], tensor) for name, tensor in expected.items())
