"""Convolutions on planes, for the tests of the kernels that do them: drawn cases, and the result in PyTorch."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from tests.runtime.kernels.drawing import ACTIVATIONS
from tests.runtime.kernels.guarded import Buffer, copied

from gpmt.runtime.ir.operators import Conv
from gpmt.runtime.layout.planes import Planes
from gpmt.runtime.layout.solver import LayoutSolver
from gpmt.runtime.layout.taps import ConvWindows


@dataclass
class Case:
    """A convolution of stride 1.

    Attributes:
        op: the operator, with weights and bias.
        images: the input [n, c, h, w].
        added: the residual [n, filters, h, w], or None.
        source, output, residual: layouts.
    """

    op: Conv
    images: np.ndarray
    added: np.ndarray | None
    source: Planes
    output: Planes
    residual: Planes | None

    @property
    def weight(self):
        """The weights [filters, taps]."""
        return self.op.weight.reshape(len(self.op.weight), -1)

    @property
    def taps(self):
        """Where the taps read in the input."""
        windows = ConvWindows.of(self.op, self.images.shape, (0, 0, self.output.height, self.output.width))
        return windows.taps(self.source)

    def arguments(self, spec, at):
        """Return the arguments of a kernel on tiles, without its weights, in buffers between guard pages."""
        vectors = spec.tiles.large * spec.tiles.size + (spec.tiles.count - spec.tiles.large) * (
            spec.tiles.size - 1
        )
        return {
            "input": Buffer(self.source, self.images, at),
            "output": Buffer(self.output, at=at),
            "residual": Buffer(self.residual, self.added, at) if self.residual else 0,
            "mask": copied(self.output.mask(vectors * spec.lanes), at),
            "sizes": copied(spec.sizes(), at),
        }

    def expected(self):
        """Return the result in float64, [n, filters, h, w]."""
        op = self.op
        top, left, bottom, right = op.padding
        padded = torch.nn.functional.pad(
            torch.tensor(self.images, dtype=torch.float64), (left, right, top, bottom)
        )
        result = torch.nn.functional.conv2d(
            padded, torch.tensor(op.weight, dtype=torch.float64), torch.tensor(op.bias, dtype=torch.float64),
            dilation=op.dilation, groups=op.groups,
        )  # fmt: skip
        if self.added is not None:
            result = result + torch.tensor(self.added)
        return ACTIVATIONS[op.activation](result).numpy().astype(np.float32)


@st.composite
def cases(draw, grouped=True):
    """Draw a convolution of stride 1: odd sizes, paddings, dilations, groups, densities, residual or not."""
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3])) if grouped else 1
    channels, filters = groups * draw(st.integers(1, 5)), groups * draw(st.integers(1, 9))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    height = draw(st.integers(max(1, reach[0] - padding[0] - padding[2]), 20))
    width = draw(st.integers(max(1, reach[1] - padding[1] - padding[3]), 40))
    images = draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    density = draw(st.sampled_from([0.0, 0.05, 0.3, 0.7, 1.0]))
    weight = rng.standard_normal((filters, channels // groups, *kernel)).astype(np.float32)
    weight *= rng.random(weight.shape) < density
    bias = rng.standard_normal(filters).astype(np.float32)
    activation = draw(st.sampled_from([*ACTIVATIONS]))
    op = Conv("x", "y", weight, bias, (1, 1), padding, dilation, groups, None, activation)
    out = (
        height + padding[0] + padding[2] - reach[0] + 1,
        width + padding[1] + padding[3] - reach[1] + 1,
    )
    solver = LayoutSolver()
    solver.add("x", images, channels, height, width)
    solver.add("y", images, filters, *out)
    solver.add("r", images, filters, *out)
    solver.share_pitch("x", "y")
    solver.share_pitch("r", "y")
    solver.need_zeros(
        "x", **ConvWindows.of(op, (images, channels, height, width), (images, filters, *out)).zeros_read()
    )
    solver.need_zeros("r", above=draw(st.integers(0, 2)), left=0, below=0, right=0)
    layouts = solver.solve()
    values = rng.standard_normal((images, channels, height, width)).astype(np.float32)
    added = rng.standard_normal((images, filters, *out)).astype(np.float32) if draw(st.booleans()) else None
    return Case(op, values, added, layouts["x"], layouts["y"], layouts["r"] if added is not None else None)
