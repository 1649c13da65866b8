"""Lookups and copies of tokens, in programs and as steps."""

import torch
from tests.runtime.lowering.lowered import labels, lowered, one_step
from tests.runtime.networks import Lambda, noise
from torch import nn

from gpmt.runtime.ir.operators import Embedding
from gpmt.runtime.lowering.steps import InputTensor


def test_integers_are_read_as_they_are():
    operator = Embedding("x", "y", noise(7, 6).numpy())
    step, candidate = one_step(lowered([operator], {"x": (2, 5), "y": (2, 5, 6)}), "embedding")
    assert step.arguments["input"] == InputTensor("x", contiguous=True)
    assert (candidate.spec.rows, candidate.spec.integer_bytes) == (7, 8)


def test_images_as_tokens_among_constants():
    def function(s, x):
        y = torch.cat([s.token.expand(len(x), -1, -1), s.conv(x).flatten(2).transpose(1, 2)], 1)
        y = s.linear(y + s.positions)
        return y[:, 1:], y[:, 0], y.mean(1)

    parts = {
        "conv": nn.Conv2d(3, 6, 3),
        "linear": nn.Linear(6, 5),
        "token": noise(1, 1, 6),
        "positions": noise(13, 6),
    }
    steps = labels(Lambda(function, **parts), noise(2, 3, 5, 6))
    assert steps == [
        "import", "conv 3×3", "pixels to tokens", "place tokens", "linear", "slice", "slice", "mean", "export",
        "export", "export",
    ]  # fmt: skip


def test_tokens_as_images():
    def function(s, x):
        return s.conv(s.linear(x).transpose(1, 2).reshape(2, 5, 3, 4))

    steps = labels(
        Lambda(function, linear=nn.Linear(6, 5), conv=nn.Conv2d(5, 2, 3, padding=1)), noise(2, 12, 6)
    )
    assert steps == ["import", "linear", "tokens to pixels", "conv 3×3", "export"]
