"""Pooling of images, and the mean of whole channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gpmt.runtime.ir.document import DocumentError, shorten
from gpmt.runtime.ir.fields import FLAG, INPUT, OUTPUT, PADDING, PAIR, FieldKind
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import count_windows, require
from gpmt.runtime.ir.values import Padding, Pair, Shape

_MAX_INPUT_WIDTH = 1 << 14
_MAX_WINDOW_WIDTH = 64  # kernels have an instruction for each column


@dataclass(frozen=True)
class Pool(Operator):
    """The largest or the mean element of every window of an image, within the limits of `pooling_problem`.

    Attributes:
        padding: (top, left, bottom, right); what is outside counts as -inf for "max".
        count_padding: whether the mean divides by the whole window or by the part that is inside the image
            (and its declared padding does not count).
    """

    input: str
    output: str
    kind: Literal["max", "mean"]
    kernel: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)
    count_padding: bool = True

    @property
    def is_subsampling(self) -> bool:
        """Whether it only leaves out rows and columns."""
        return self.kernel == (1, 1) and not any(self.padding)


def pooling_problem(width: int, outputs: int, kernel: int, stride: int, padding: int) -> str:
    """Say why kernels cannot pool rows of so many columns; empty where they can.

    A row of intermediate results is on a thread's stack, as far as 16 windows at a time reach.

    Args:
        width: columns of the input.
        outputs: columns of the output.
        kernel: columns of a window.
        stride: columns from one window to the next.
        padding: columns of padding on the left.
    """
    if padding + width > _MAX_INPUT_WIDTH:
        return f"its input has more than {_MAX_INPUT_WIDTH} columns"
    if outputs > 1 and (outputs + 15) * stride + kernel > 2 * _MAX_INPUT_WIDTH:
        return "its windows are too far apart"
    return f"its windows have more than {_MAX_WINDOW_WIDTH} columns" if kernel > _MAX_WINDOW_WIDTH else ""


def _pool_shape(pool: Pool, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source, kernel, stride, padding = shapes[0], pool.kernel, pool.stride, pool.padding
    size = count_windows(source, kernel, stride, padding, memory)
    problem = pooling_problem(source[3], size[1], kernel[1], stride[1], padding[1])
    require(not problem, problem)
    if pool.kind == "mean" and not pool.count_padding:
        inside = (
            padding[i] < kernel[i] and (size[i] - 1) * stride[i] - padding[i] < source[2 + i] for i in (0, 1)
        )
        require(all(inside), "one of its windows is outside of its input")
    return *source[:2], *size


def _read_kind(value: object, what: str) -> str:
    if value not in ("max", "mean"):
        raise DocumentError(f"has {shorten(value)} for a {what} of pooling")
    return str(value)


define(
    Pool,
    fields={
        "input": INPUT,
        "output": OUTPUT,
        "kind": FieldKind(_read_kind),
        "kernel": PAIR,
        "stride": PAIR,
        "padding": PADDING,
        "count_padding": FLAG,
    },
    shape=_pool_shape,
)


@dataclass(frozen=True)
class GlobalMean(Operator):
    """The mean of every channel: an image [n, c, h, w] becomes [n, c, 1, 1] or [n, c], as `output` has it.

    Of tokens [n, tokens, features] it is the mean of every feature, [n, features].
    """

    input: str
    output: str


def _mean_shape(mean: GlobalMean, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    require(len(shapes[0]) in (3, 4), "its input is neither an image nor tokens")
    if len(shapes[0]) == 3:
        return shapes[0][0], shapes[0][2]
    channels = shapes[0][:2]
    return channels if len(output) == 2 else (*channels, 1, 1)


define(GlobalMean, fields={"input": INPUT, "output": OUTPUT}, shape=_mean_shape, reads_images=False)
