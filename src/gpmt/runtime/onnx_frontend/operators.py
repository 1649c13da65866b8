"""Importing this module fills the table of operators."""

from gpmt.runtime.onnx_frontend import (  # noqa: F401
    activations,
    constants,
    convolution,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    reductions,
    resizing,
    shapes,
)
