"""Values whose last dimension is the features of tokens that lie in another order in another value.

Operators that treat all tokens alike read the other value, and what was moved before them is moved after them. So
nn.MultiheadAttention, which puts the tokens before the batch and back, moves nothing in the end; and networks that
put the channels of images last, for linear layers, keep their images as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gpmt.runtime.ir.operators import Permute, Reshape
from gpmt.runtime.ir.values import Shape
from gpmt.runtime.passes.rewriting import Rewriter
from gpmt.runtime.passes.views import Atom, Atoms, merged, view_of


@dataclass(frozen=True)
class TokenForm:
    """Tokens of another value in another order.

    Attributes:
        source: the other value: [..., features], or an image [n, features, h, w] whose pixels are the tokens.
        image: whether it is an image.
        tokens: how they lie in the source, with strides counted in tokens.
    """

    source: str
    image: bool
    tokens: Atoms


def token_form(graph: Rewriter, name: str) -> TokenForm | None:
    """Return where the tokens of a value [..., features] come from, if all of them come from another value."""
    view, shape = view_of(graph, name), graph.values[name].shape
    source = graph.values[view.source].shape
    if view.source == name or view.offset or len(shape) < 2 or math.prod(shape) != math.prod(source):
        return None
    features, last = shape[-1], merged(view.dims[-1])
    leading = merged([atom for dim in view.dims[:-1] for atom in dim])
    whole = len(source) > 1 and source[-1] == features > 1 and last == merged([(features, 1)])
    if whole and all(stride % features == 0 for _, stride in leading):
        return TokenForm(view.source, False, tuple((n, stride // features) for n, stride in leading))
    if len(source) == 4 and source[1] == features > 1 and source[2] * source[3] > 1:
        pixels = source[2] * source[3]
        tokens = [_pixel_atom(atom, features, pixels) for atom in leading]
        if last == ((features, pixels),) and all(tokens):
            return TokenForm(view.source, True, merged([atom for atom in tokens if atom]))
    return None


def _pixel_atom(atom: Atom, features: int, pixels: int) -> Atom | None:
    size, stride = atom
    if size * stride <= pixels:
        return atom
    images, rest = divmod(stride, features * pixels)
    return None if rest else (size, images * pixels)


def moved_shape(source: Shape, form: TokenForm, features: int) -> Shape:
    """Return the shape of a value like the source with so many features."""
    return (source[0], features, *source[2:]) if form.image else (*source[:-1], features)


def add_moved(graph: Rewriter, form: TokenForm, moved: str, output: str) -> None:
    """Append what makes `output` of a value that has the tokens in the order of the source."""
    shape, source = graph.values[output].shape, graph.values[moved].shape
    name = moved
    if form.image:
        name = _new_value(graph, output, (source[0], *source[2:], source[1]))
        graph.add(Permute(moved, name, (0, 2, 3, 1)))
    count = math.prod(shape[:-1])
    if form.tokens != merged([(count, 1)]):
        order = sorted(range(len(form.tokens)), key=lambda i: -form.tokens[i][1])
        split = _new_value(graph, output, (*(form.tokens[i][0] for i in order), shape[-1]))
        graph.add(Reshape(name, split))
        places = tuple(order.index(i) for i in range(len(order)))
        together = _new_value(graph, output, (*(size for size, _ in form.tokens), shape[-1]))
        graph.add(Permute(split, together, (*places, len(order))))
        name = together
    graph.add(Reshape(name, output))


def _new_value(graph: Rewriter, base: str, shape: Shape) -> str:
    name, number = f"{base}_moved", 0
    while name in graph.values:
        number += 1
        name = f"{base}_moved_{number}"
    like = next(iter(graph.values.values()))
    graph.values[name] = replace(like, name=name, shape=shape, dtype=graph.values[base].dtype)
    return name


def new_moved_value(graph: Rewriter, form: TokenForm, output: str) -> str:
    """Add a value for what an operator makes of the source, instead of `output`, and return its name."""
    features = graph.values[output].shape[-1]
    return _new_value(graph, output, moved_shape(graph.values[form.source].shape, form, features))
