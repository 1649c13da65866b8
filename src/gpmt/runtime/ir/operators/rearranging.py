"""Dimensions in another order, and images as tokens and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import INPUT, ORDER, OUTPUT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require, require_last_features
from gpmt.runtime.ir.values import Shape


@dataclass(frozen=True)
class Permute(Operator):
    """Dimension i of the output is dimension `order[i]` of the input.

    It has no kernel: a pass lets operators read its input instead, or leaves it to PyTorch.
    """

    input: str
    output: str
    order: tuple[int, ...]


def _permute_shape(permute: Permute, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    require(sorted(permute.order) == list(range(len(shapes[0]))), "its order is not one of its dimensions")
    return tuple(shapes[0][axis] for axis in permute.order)


define(
    Permute,
    fields={"input": INPUT, "output": OUTPUT, "order": ORDER},
    shape=_permute_shape,
    reads_images=False,
)


@dataclass(frozen=True)
class PixelsToTokens(Operator):
    """An image [n, c, h, w] with the channels last: [n, h · w, c] or [n, h, w, c], as `output` has it."""

    input: str
    output: str


def _tokens_shape(op: PixelsToTokens, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    batch, channels, height, width = shapes[0]
    require_last_features(output)
    return (batch, height * width, channels) if len(output) == 3 else (batch, height, width, channels)


define(PixelsToTokens, fields={"input": INPUT, "output": OUTPUT}, shape=_tokens_shape)


@dataclass(frozen=True)
class TokensToPixels(Operator):
    """Tokens [n, h · w, c] or [n, h, w, c] as an image [n, c, h, w], that of `output`."""

    input: str
    output: str


def _pixels_shape(op: TokensToPixels, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    require(len(output) == 4, "its output is not an image")
    require_last_features(shapes[0])
    batch, channels, height, width = output
    accepted = (batch, height * width, channels), (batch, height, width, channels)
    require(shapes[0] in accepted, "its tokens are not the pixels of its output")
    return output


define(TokensToPixels, fields={"input": INPUT, "output": OUTPUT}, shape=_pixels_shape, reads_images=False)
