"""Affine maps are multiplied into the weights before them, or into one another; those that do nothing are removed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gpmt.runtime.ir.activation import IDENTITY, Activation
from gpmt.runtime.ir.operators import Affine, Conv, Linear
from gpmt.runtime.ir.values import Floats
from gpmt.runtime.passes.rewriting import Rewriter, rule

_MAX_SHIFT = 1 << 16  # larger ones may be added, and subtracted again, to round


@rule(Affine)
def remove_identity(graph: Rewriter, affine: Affine) -> bool:
    """Remove x · 1 + 0."""
    if is_activation(affine) and affine.activation == IDENTITY:
        graph.alias(affine.output, affine.input)
        return True
    return False


@rule(Affine)
def compose_affine(graph: Rewriter, affine: Affine) -> bool:
    """Make one of two affine maps."""
    before = graph.sole_producer(affine.input)
    if not isinstance(before, Affine) or before.axis != affine.axis or not _only_shifts(affine.shift):
        return False
    both = _composed(before, affine)
    if both is None:
        return False
    graph.remove(affine.input)
    graph.add(both)
    return True


@rule(Affine)
def fold_affine(graph: Rewriter, affine: Affine) -> bool:
    """Multiply an affine map, such as batch-norm, into the weights of the layer before it."""
    before = graph.sole_producer(affine.input)
    if not isinstance(before, Conv | Linear) or not _only_shifts(affine.shift):
        return False
    channels_are_outputs = before.residual is None and affine.axis == (1 if isinstance(before, Conv) else -1)
    # Zeros must stay zeros.
    finite = np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()
    if not channels_are_outputs or not finite or before.activation != IDENTITY:
        return False
    # The product of two float32 in float32 is that in float64, rounded once.
    scale = affine.scale.reshape((-1,) + (1,) * (before.weight.ndim - 1))
    folded = replace(
        before,
        output=affine.output,
        weight=before.weight * scale,
        bias=_mapped(before.bias, affine),
        activation=affine.activation,
    )
    graph.replace(before, folded)
    return True


def is_activation(affine: Affine) -> bool:
    """Return whether an affine map does nothing but its activation."""
    return bool(np.all(affine.scale == 1) and np.all(affine.shift == 0))


def _only_shifts(shift: Floats) -> bool:
    """Whether no element is so large that it may be there to round what it is added to."""
    return not np.any(np.abs(shift) > _MAX_SHIFT)


def _composed(first: Affine, then: Affine) -> Affine | None:
    """Return the affine map that does both, if there is one; bounds are scaled where all channels have the same."""
    if not _only_shifts(first.shift):
        return None
    scale, shift = first.scale * then.scale, _mapped(first.shift, then)
    if first.activation == IDENTITY:
        return replace(then, input=first.input, scale=scale, shift=shift)
    factor, offset = then.scale[0], then.shift[0]
    uniform = np.all(then.scale == factor) and np.all(then.shift == offset)
    if first.activation.kind != "clamp" or then.activation != IDENTITY or not uniform or not factor > 0:
        return None
    bounds = (
        float(np.float32(bound * factor + offset)) for bound in (first.activation.low, first.activation.high)
    )
    return Affine(first.input, then.output, scale, shift, Activation("clamp", *bounds), then.axis)


def _mapped(bias: Floats, affine: Affine) -> Floats:
    wide = bias.astype(np.float64) * affine.scale + affine.shift
    return wide.astype(np.float32)
