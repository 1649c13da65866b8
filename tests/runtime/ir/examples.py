"""One example of each operator, with no field at its default, and the values that it reads and writes."""

import numpy as np
import torch

from gpmt.runtime.ir.activation import RELU6, Activation
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import reads, writes
from gpmt.runtime.ir.operators import (
    Add,
    Affine,
    Attention,
    Concat,
    Conv,
    Embedding,
    Fallback,
    GlobalMean,
    GroupNorm,
    HeadAttention,
    LayerNorm,
    Linear,
    MatMul,
    Multiply,
    Permute,
    PixelsToTokens,
    PlaceTokens,
    Pool,
    Reshape,
    Slice,
    Softmax,
    TokensToPixels,
    Upsample,
    fallback,
)
from gpmt.runtime.ir.torch_calls import Ref, TorchCall
from gpmt.runtime.ir.values import Value


def array(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


IMAGE = (2, 4, 6, 8)
TOKENS = (2, 5, 6)
HEADS = (2, 3, 5, 4)
NEGATE = TorchCall(torch.ops.aten.neg.default, (Ref("x"),), {}, ("y",))
EXAMPLES = {
    Add: (Add("x", "z", "y", RELU6), {"x": IMAGE, "z": IMAGE, "y": IMAGE}),
    Affine: (Affine("x", "y", array(6), array(6), Activation("leaky_relu", 0.2), -1), {"x": TOKENS, "y": TOKENS}),
    Attention: (
        Attention("x", "k", "v", "y", 2, 0.5, (2, 1, 3), "m", array(2, 2, 5, 7), True),
        {"x": (2, 5, 6), "k": (2, 7, 8), "v": (2, 7, 7), "m": (2, 1, 1, 7), "y": (2, 5, 4)},
    ),
    Concat: (Concat(("x", "z"), "y", -1), {"x": TOKENS, "z": (2, 5, 3), "y": (2, 5, 9)}),
    Conv: (
        Conv(
            "x", "y", array(6, 2, 3, 2), array(6), (2, 1), (1, 0, 2, 1), (1, 2), 2, "z",
            Activation("clamp", -np.inf, 0.5), "body.conv.weight",
        ),
        {"x": IMAGE, "z": (2, 6, 4, 7), "y": (2, 6, 4, 7)},
    ),
    Embedding: (Embedding("x", "y", array(7, 6), "body.table.weight"), {"x": (2, 5), "y": TOKENS}),
    Fallback: (fallback([NEGATE], ["x"], ["y"], "there is no kernel for it"), {"x": IMAGE, "y": IMAGE}),
    GlobalMean: (GlobalMean("x", "y"), {"x": IMAGE, "y": (2, 4)}),
    GroupNorm: (GroupNorm("x", "y", array(4), array(4), 1e-5, 2), {"x": IMAGE, "y": IMAGE}),
    HeadAttention: (
        HeadAttention("x", "k", "v", "y", 0.5, "m", array(1, 3, 5, 7), True),
        {"x": HEADS, "k": (2, 3, 7, 4), "v": (2, 3, 7, 4), "m": (2, 1, 1, 7), "y": HEADS},
    ),
    LayerNorm: (LayerNorm("x", "y", array(4), array(4), 1e-5, 1, False), {"x": IMAGE, "y": IMAGE}),
    Linear: (
        Linear("x", "y", array(3, 8), array(3), Activation("hardswish"), "head.weight", "z"),
        {"x": IMAGE, "z": (2, 4, 6, 3), "y": (2, 4, 6, 3)},
    ),
    MatMul: (MatMul("x", "z", "y"), {"x": HEADS, "z": (2, 3, 4, 6), "y": (2, 3, 5, 6)}),
    Multiply: (Multiply("x", "z", "y", Activation("sigmoid")), {"x": IMAGE, "z": (2, 4, 1, 1), "y": IMAGE}),
    Permute: (Permute("x", "y", (0, 2, 1, 3)), {"x": IMAGE, "y": (2, 6, 4, 8)}),
    PixelsToTokens: (PixelsToTokens("x", "y"), {"x": IMAGE, "y": (2, 48, 4)}),
    PlaceTokens: (PlaceTokens("x", "y", array(7, 6), 1), {"x": TOKENS, "y": (2, 7, 6)}),
    Pool: (
        Pool("x", "y", "mean", (3, 2), (2, 3), (1, 0, 1, 0), False),
        {"x": IMAGE, "y": (2, 4, 3, 3)},
    ),
    Reshape: (Reshape("x", "y"), {"x": IMAGE, "y": (2, 192)}),
    Slice: (Slice("x", "y", 1, 2), {"x": TOKENS, "y": (2, 5, 3)}),
    Softmax: (Softmax("x", "y"), {"x": HEADS, "y": HEADS}),
    TokensToPixels: (TokensToPixels("x", "y"), {"x": (2, 48, 4), "y": IMAGE}),
    Upsample: (Upsample("x", "y", (4, 2)), {"x": IMAGE, "y": (2, 4, 24, 16)}),
}  # fmt: skip


def graph_of(operator, shapes):
    """Return a graph of one operator."""
    integers = operator.input if isinstance(operator, Embedding) else None
    values = {
        name: Value(name, shape, torch.int64 if name == integers else torch.float32)
        for name, shape in shapes.items()
    }
    return Graph(values, [operator], list(dict.fromkeys(reads(operator))), list(writes(operator)))
