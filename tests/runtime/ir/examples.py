"""One example of each operator, with no field at its default, and the values that it reads and writes."""

import numpy as np
import torch

from gpmt.runtime.ir.activation import RELU6, Activation
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import reads, writes
from gpmt.runtime.ir.operators import (
    Add,
    Affine,
    Concat,
    Conv,
    Fallback,
    GlobalMean,
    Linear,
    Multiply,
    Pool,
    Reshape,
    Slice,
    Upsample,
    fallback,
)
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.ir.values import Value


def array(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


IMAGE = (2, 4, 6, 8)
NEGATE = TorchCall(torch.ops.aten.neg.default, (Ref("x"),), {}, ("y",))
EXAMPLES = {
    Add: (Add("x", "z", "y", RELU6), {"x": IMAGE, "z": IMAGE, "y": IMAGE}),
    Affine: (Affine("x", "y", array(4), array(4), Activation("silu")), {"x": IMAGE, "y": IMAGE}),
    Concat: (Concat(("x", "z"), "y"), {"x": IMAGE, "z": IMAGE, "y": (2, 8, 6, 8)}),
    Conv: (
        Conv(
            "x", "y", array(6, 2, 3, 2), array(6), (2, 1), (1, 0, 2, 1), (1, 2), 2, "z",
            Activation("clamp", -np.inf, 0.5), "body.conv.weight",
        ),
        {"x": IMAGE, "z": (2, 6, 4, 7), "y": (2, 6, 4, 7)},
    ),
    Fallback: (fallback([NEGATE], ["x"], ["y"], "there is no kernel for it"), {"x": IMAGE, "y": IMAGE}),
    GlobalMean: (GlobalMean("x", "y"), {"x": IMAGE, "y": (2, 4)}),
    Linear: (
        Linear("x", "y", array(3, 8), array(3), Activation("hardswish"), "head.weight"),
        {"x": IMAGE, "y": (2, 4, 6, 3)},
    ),
    Multiply: (Multiply("x", "z", "y", Activation("sigmoid")), {"x": IMAGE, "z": (2, 4, 1, 1), "y": IMAGE}),
    Pool: (
        Pool("x", "y", "mean", (3, 2), (2, 3), (1, 0, 1, 0), False),
        {"x": IMAGE, "y": (2, 4, 3, 3)},
    ),
    Reshape: (Reshape("x", "y"), {"x": IMAGE, "y": (2, 192)}),
    Slice: (Slice("x", "y", 1), {"x": IMAGE, "y": (2, 2, 6, 8)}),
    Upsample: (Upsample("x", "y", (4, 2)), {"x": IMAGE, "y": (2, 4, 24, 16)}),
}  # fmt: skip


def graph_of(operator, shapes):
    """Return a graph of one operator."""
    values = {name: Value(name, shape) for name, shape in shapes.items()}
    return Graph(values, [operator], list(dict.fromkeys(reads(operator))), list(writes(operator)))
