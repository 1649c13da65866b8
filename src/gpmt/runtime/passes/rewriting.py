"""Fewer operators with the same result: what follows a convolution becomes part of it.

Batch-norm is multiplied into weights, activations and residual sums move into the operator before them,
reshapes collapse, and what no output depends on is dropped. Results change by rounding only.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import torch

from gpmt.runtime.ir.activation import ATEN_ACTIVATIONS, IDENTITY, Activation
from gpmt.runtime.ir.graph import Graph
from gpmt.runtime.ir.operator import Operator, reads, renamed, writes
from gpmt.runtime.ir.operators import Add, Affine, Conv, Fallback, GlobalMean, Linear, Multiply, Pool, Reshape
from gpmt.runtime.ir.operators.pooling import pooling_problem
from gpmt.runtime.ir.torch_calls import bind, short_name
from gpmt.runtime.ir.values import Floats, Pair, Value
from gpmt.runtime.passes.partition_fallbacks import group, thins

_LARGE = 1 << 16  # what is added beyond this may be there to round


def fuse(graph: Graph) -> Graph:
    """Return the same network with fewer operators; `graph` stays as it is."""
    fuser = _Fuser(prune(graph))
    for operator in fuser.before:
        fuser.put(operator)
    return prune(group(prune(fuser.graph())))


def prune(graph: Graph) -> Graph:
    """Return the graph without operators, values and constants that no output depends on; inputs stay."""
    needed = {*graph.outputs}
    kept: list[Operator] = []
    for operator in reversed(graph.operators):
        if not needed.isdisjoint(writes(operator)):
            needed.update(reads(operator))
            kept.append(operator)
    kept.reverse()
    there = {*graph.inputs}.union(*(writes(operator) for operator in kept))
    constants = {name: data for name, data in graph.constants.items() if name in needed}
    values = {name: value for name, value in graph.values.items() if name in there or name in constants}
    return Graph(values, kept, list(graph.inputs), list(graph.outputs), constants)


class _Fuser:
    """The fused operators so far; every operator is put behind them and joins one of them if it can.

    Attributes:
        made: the operators, None where one has become part of another.
        maker: the place in `made` of the operator that makes a value.
        count: how often a value is read, by operators that are still to come as well.
        alias: values that are another one.
    """

    def __init__(self, graph: Graph) -> None:
        self.before = graph.operators
        self.source = graph
        self.values = dict(graph.values)
        self.made: list[Operator | None] = []
        self.maker: dict[str, int] = {}
        self.count = Counter(graph.outputs)
        for operator in graph.operators:
            self.count.update(reads(operator))
        self.alias: dict[str, str] = {}

    def graph(self) -> Graph:
        """Return what was made."""
        operators = [operator for operator in self.made if operator is not None]
        outputs = [self.alias.get(name, name) for name in self.source.outputs]
        graph = Graph(self.values, operators, self.source.inputs, outputs, self.source.constants)
        return replace(graph, operators=[part for operator in operators for part in self._as_image(operator)])

    def put(self, operator: Operator) -> None:
        """Add the next operator, alone or to one that is there."""
        operator = renamed(operator, self.alias)
        match operator:
            case Affine():
                done = self._affine(operator)
            case Add():
                done = self._add(operator)
            case Multiply():
                done = self._gated(operator)
            case Reshape():
                done = self._reshape(operator)
            case Pool() if thins(operator):
                done = self._thinning(operator)
            case Conv():
                done = self._thinned(operator)
            case Fallback():
                done = self._fallback(operator)
            case _:
                done = False
        if not done:
            self._append(operator)

    def _append(self, operator: Operator) -> None:
        for name in writes(operator):
            self.maker[name] = len(self.made)
        self.made.append(operator)

    def _single(self, name: str) -> Operator | None:
        """Return the operator that makes a value, if it is read once."""
        return self.made[self.maker[name]] if name in self.maker and self.count[name] == 1 else None

    def _replace(self, old: Operator, new: Operator) -> None:
        """Put an operator in the place of one that had one output."""
        (before,), (after,) = writes(old), writes(new)
        place = self.maker.pop(before)
        self.made[place] = new
        self.maker[after] = place

    def _same(self, name: str, as_other: str) -> None:
        self.alias[name] = as_other
        self.count[as_other] += self.count.pop(name, 0) - 1

    def _affine(self, affine: Affine) -> bool:
        plain = _is_plain(affine)
        if plain and affine.activation == IDENTITY:
            self._same(affine.output, affine.input)
            return True
        before = self._single(affine.input)
        if not isinstance(before, Affine | Conv | Linear | Add | Multiply) or not _is_small(affine.shift):
            return False
        if plain and (both := _one_after_another(before.activation, affine.activation)):
            self._replace(before, replace(before, output=affine.output, activation=both))
        elif isinstance(before, Affine) and (together := _composed(before, affine)):
            self.made[self.maker.pop(affine.input)] = None
            self.put(together)
        elif isinstance(before, Conv | Linear) and self._takes(before, affine):
            # The product of two float32 in float32 is that in float64, rounded once.
            form = (-1,) + (1,) * (before.weight.ndim - 1)
            joined = replace(
                before,
                output=affine.output,
                weight=before.weight * affine.scale.reshape(form),
                bias=_shifted(before.bias, affine),
                activation=affine.activation,
            )
            self._replace(before, joined)
        else:
            return False
        return True

    def _takes(self, before: Conv | Linear, affine: Affine) -> bool:
        """Whether weights can take an affine map: the channels are their outputs, and zeros stay zeros."""
        if isinstance(before, Conv):
            by_output = before.residual is None
        else:
            by_output = len(self.values[before.output].shape) == 2
        finite = np.isfinite(affine.scale).all() and np.isfinite(affine.shift).all()
        return by_output and bool(finite) and before.activation == IDENTITY

    def _add(self, add: Add) -> bool:
        """Give the sum to the convolution that is executed last, or to the other one if only that can take it."""
        sides = sorted((add.left, add.right), key=lambda name: self.maker.get(name, -1))
        for residual, name in (sides, sides[::-1]):
            conv = self._single(name)
            if isinstance(conv, Conv) and conv.residual is None and conv.activation == IDENTITY:
                # Its new place is the one of the sum, where both sides are there.
                self.made[self.maker.pop(name)] = None
                self._append(replace(conv, output=add.output, residual=residual, activation=add.activation))
                return True
        return False

    def _thinning(self, pool: Pool) -> bool:
        """Let what makes an image make only the rows and columns that are kept."""
        before = self._single(pool.input)
        if not isinstance(before, Pool | Conv) or (isinstance(before, Conv) and before.residual is not None):
            return False
        stride = _product(before, pool)
        if isinstance(before, Pool):
            width, outputs = self.values[before.input].shape[3], self.values[pool.output].shape[3]
            if pooling_problem(width, outputs, before.kernel[1], stride[1], before.padding[1]):
                return False
        self._replace(before, replace(before, output=pool.output, stride=stride))
        return True

    def _thinned(self, conv: Conv) -> bool:
        """Let a 1×1 convolution step over what was to be left out before it."""
        before = self._single(conv.input)
        if isinstance(before, Pool) and thins(before) and _is_pointwise(conv):
            self.made[self.maker.pop(conv.input)] = None
            self._append(replace(conv, input=before.input, stride=_product(before, conv)))
            return True
        return False

    def _reshape(self, reshape: Reshape) -> bool:
        before, shape = self._single(reshape.input), self.values[reshape.output].shape
        if isinstance(before, GlobalMean) and shape == self.values[before.input].shape[:2]:
            self._replace(before, replace(before, output=reshape.output))
            return True
        index = self.maker.get(reshape.input)
        maker = self.made[index] if index is not None else None
        if isinstance(maker, Reshape):
            self._unread(maker)
            reshape = replace(reshape, input=maker.input)
        if self.values[reshape.input].shape == shape:
            self._same(reshape.output, reshape.input)
        else:
            self._append(reshape)
        return True

    def _unread(self, maker: Reshape) -> None:
        """Let the only reader so far of a value read its source instead."""
        self.count[maker.input] += 1
        self.count[maker.output] -= 1
        if not self.count[maker.output]:
            self.made[self.maker.pop(maker.output)] = None
            self.count[maker.input] -= 1

    def _fallback(self, operator: Fallback) -> bool:
        if len(operator.calls.calls) != 1 or len(operator.outputs) != 1:
            return False
        (step,), (output,) = operator.calls.calls, operator.outputs
        target = short_name(step.target)
        before = self._single(operator.inputs[0]) if len(operator.inputs) == 1 else None
        if isinstance(before, Linear) and before.activation == IDENTITY:
            find = ATEN_ACTIVATIONS.get(target)
            found = find(bind(step.target, step.args, step.kwargs)) if find else None
            if found is not None and self.values[output].dtype == torch.float32:
                self._replace(before, replace(before, output=output, activation=found))
                return True
        return False

    def _gated(self, product: Multiply) -> bool:
        """x · sigmoid(x) is SiLU, and x · clamp(x / 6 + 1/2, 0, 1) is hard swish, also when it comes times 6."""
        output = product.output
        for source, gate in ((product.left, product.right), (product.right, product.left)):
            affine = self._single(gate)
            if not isinstance(affine, Affine) or affine.input != source:
                continue
            scale, shift = affine.scale[0], affine.shift[0]
            if not (np.all(affine.scale == scale) and np.all(affine.shift == shift)):
                continue
            kind, factor = affine.activation.kind, 1.0
            if kind == "clamp":
                close = np.allclose(
                    [shift, affine.activation.high], [3 * scale, 6 * scale], rtol=1e-6, atol=0
                )
                if affine.activation.low != 0 or scale <= 0 or not close:
                    continue
                kind, factor = "hardswish", affine.activation.high
            elif (kind, scale, shift) == ("sigmoid", 1, 0):
                kind = "silu"
            else:
                continue
            self.made[self.maker.pop(gate)] = None
            self.count[source] -= 1
            ones, zeros = np.ones_like(affine.scale), np.zeros_like(affine.shift)
            first = Affine(source, output, ones, zeros, Activation(kind))
            if factor == 1:
                self.put(first)
            else:
                middle = f"{output}_swish"
                self.values[middle] = replace(self.values[output], name=middle)
                self.count[middle] = 1
                self.put(replace(first, output=middle))
                self.put(Affine(middle, output, ones * np.float32(factor), zeros))
            return True
        return False

    def _as_image(self, operator: Operator) -> list[Operator]:
        """Let an affine map of vectors [n, c], which no linear layer took, be one of images [n, c, 1, 1]."""
        if not isinstance(operator, Affine) or len(shape := self.values[operator.input].shape) == 4:
            return [operator]
        before, after = f"{operator.output}_before", f"{operator.output}_after"
        for name in (before, after):
            self.values[name] = Value(name, (*shape, 1, 1))
        return [
            Reshape(operator.input, before),
            replace(operator, input=before, output=after),
            Reshape(after, operator.output),
        ]


def _is_pointwise(conv: Conv) -> bool:
    return conv.weight.shape[2:] == (1, 1) and not any(conv.padding)


def _product(one: Conv | Pool, other: Conv | Pool) -> Pair:
    return one.stride[0] * other.stride[0], one.stride[1] * other.stride[1]


def _is_small(shift: Floats) -> bool:
    """Whether no number is so large that it may be added, and taken away again, to round what it is added to."""
    return not np.any(np.abs(shift) > _LARGE)


def _is_plain(affine: Affine) -> bool:
    """Whether it is its activation only."""
    return bool(np.all(affine.scale == 1) and np.all(affine.shift == 0))


def _one_after_another(first: Activation, then: Activation) -> Activation | None:
    """Return the activation that does both, if there is one."""
    if first == IDENTITY:
        return then
    if (first.kind, then.kind) != ("clamp", "clamp"):
        return None
    return Activation("clamp", *(min(max(bound, then.low), then.high) for bound in (first.low, first.high)))


def _composed(first: Affine, then: Affine) -> Affine | None:
    """Return the affine map that does both, if there is one; bounds are scaled where all channels have the same."""
    if not _is_small(first.shift):
        return None
    scale, shift = first.scale * then.scale, _shifted(first.shift, then)
    if first.activation == IDENTITY:
        return replace(then, input=first.input, scale=scale, shift=shift)
    factor, offset = then.scale[0], then.shift[0]
    one = np.all(then.scale == factor) and np.all(then.shift == offset)
    if first.activation.kind != "clamp" or then.activation != IDENTITY or not one or not factor > 0:
        return None
    bounds = (
        float(np.float32(bound * factor + offset)) for bound in (first.activation.low, first.activation.high)
    )
    return Affine(first.input, then.output, scale, shift, Activation("clamp", *bounds))


def _shifted(bias: Floats, affine: Affine) -> Floats:
    wide = bias.astype(np.float64) * affine.scale + affine.shift
    return wide.astype(np.float32)
