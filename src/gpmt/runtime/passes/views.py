"""What a chain of reshapes, permutations and slices reads of the value at its beginning.

A view is a list of *atoms* (size, stride), as dimensions of a strided tensor, whose row-major order is that of the
value's elements. A reshape groups atoms, or splits one; a permutation moves the groups; a slice makes one smaller
and adds to the offset. Two chains read the same if their atoms, with neighbours merged, are the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpmt.runtime.ir.operator import Operator
from gpmt.runtime.ir.operators import Permute, PixelsToTokens, Reshape, Slice, TokensToPixels
from gpmt.runtime.ir.values import Shape
from gpmt.runtime.passes.rewriting import Rewriter

Atom = tuple[int, int]
"""(size, stride in elements)."""
Atoms = tuple[Atom, ...]

REARRANGING = Reshape, Permute, Slice, PixelsToTokens, TokensToPixels


@dataclass(frozen=True)
class View:
    """What a value reads of another one, whose elements lie in row-major order.

    Attributes:
        source: the other value's name.
        dims: the atoms of each dimension of the value.
        offset: of the first element.
    """

    source: str
    dims: tuple[Atoms, ...]
    offset: int = 0

    @property
    def atoms(self) -> Atoms:
        """All atoms, with neighbours merged that are one."""
        return merged([atom for dim in self.dims for atom in dim])


def view_of(graph: Rewriter, name: str) -> View:
    """Return what a value reads of the value at the beginning of the chain that made it."""
    operator = graph.producer(name)
    shape = graph.values[name].shape
    if isinstance(operator, REARRANGING):
        found = _applied(operator, view_of(graph, operator.input), shape)
        if found is not None:
            return found
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return View(name, tuple((atom,) for atom in zip(shape, strides, strict=True)))


def merged(atoms: Sequence[Atom]) -> Atoms:
    """Return atoms without those of size 1, and with neighbours merged where one stride leads through both."""
    result: list[Atom] = []
    for size, stride in atoms:
        if size == 1:
            continue
        if result and result[-1][1] == size * stride:
            result[-1] = result[-1][0] * size, stride
        else:
            result.append((size, stride))
    return tuple(result)


def _applied(operator: Operator, view: View, shape: Shape) -> View | None:
    """Return the view after an operator that makes a value of this shape; None where there is none."""
    match operator:
        case Permute(order=order):
            return replace(view, dims=tuple(view.dims[axis] for axis in order))
        case PixelsToTokens():
            last = replace(view, dims=tuple(view.dims[axis] for axis in (0, 2, 3, 1)))
            return _regrouped(last, shape)
        case TokensToPixels():
            batch, channels, height, width = shape
            pixels = _regrouped(view, (batch, height, width, channels))
            return pixels and replace(pixels, dims=tuple(pixels.dims[axis] for axis in (0, 3, 1, 2)))
        case Slice(axis=axis, first=first):
            return _sliced(view, axis, first, shape[axis])
        case _:
            return _regrouped(view, shape)


def _regrouped(view: View, shape: Shape) -> View | None:
    waiting = list(reversed(view.atoms))
    dims = []
    for size in shape:
        dim: list[Atom] = []
        while size > 1:
            if not waiting:
                return None
            count, stride = waiting.pop()
            if size % count and count % size:
                return None
            if count > size:
                waiting.append((count // size, stride))
                count, stride = size, stride * (count // size)
            dim.append((count, stride))
            size //= count
        dims.append(tuple(dim))
    return None if waiting else replace(view, dims=tuple(dims))


def _sliced(view: View, axis: int, first: int, count: int) -> View | None:
    atoms = merged(view.dims[axis])
    if not atoms:
        return view
    (_, stride), inner = atoms[0], math.prod(size for size, _ in atoms[1:])
    if first % inner or count % inner:
        return None
    dims = list(view.dims)
    dims[axis] = ((count // inner, stride), *atoms[1:])
    return replace(view, dims=tuple(dims), offset=view.offset + first // inner * stride)
