"""Reshapes and permutations move behind the operators that treat all tokens alike, and cancel one another there."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from gpmt.runtime.ir.operators import (
    Add,
    Affine,
    Conv,
    LayerNorm,
    Linear,
    Multiply,
    Permute,
    PixelsToTokens,
    Reshape,
    TokensToPixels,
)
from gpmt.runtime.passes.rewriting import Rewriter, Rule, rule
from gpmt.runtime.passes.token_forms import TokenForm, add_moved, new_moved_value, token_form
from gpmt.runtime.passes.views import merged, view_of


def _simplify(graph: Rewriter, operator: Reshape | Permute) -> bool:
    """Let a chain that changes nothing end in its beginning, and name chains that are pixels as tokens."""
    graph.append(operator)
    name, shape = operator.output, graph.values[operator.output].shape
    view = view_of(graph, name)
    source = graph.values[view.source].shape
    if view.offset or math.prod(shape) != math.prod(source):
        return True
    simple: Reshape | PixelsToTokens | TokensToPixels | None = None
    if view.atoms == merged([(math.prod(shape), 1)]):
        if shape == source:
            graph.remove(name)
            graph.alias(name, view.source)
            return True
        simple = Reshape(view.source, name)
    elif len(source) == 4 and _is_pixels_to_tokens(view.atoms, source, shape):
        simple = PixelsToTokens(view.source, name)
    elif len(shape) == 4 and _is_pixels_to_tokens(_inverse(view.atoms, shape), shape, source):
        simple = TokensToPixels(view.source, name)
    if simple is not None:
        graph.replace(operator, simple)
    return True


def _is_pixels_to_tokens(atoms: object, image: tuple[int, ...], tokens: tuple[int, ...]) -> bool:
    batch, channels, height, width = image
    pixels = height * width
    if (
        channels == 1
        or pixels == 1
        or tokens
        not in (
            (batch, pixels, channels),
            (batch, height, width, channels),
        )
    ):
        return False
    return atoms == merged([(batch, channels * pixels), (pixels, 1), (channels, pixels)])


def _inverse(atoms: object, image: tuple[int, ...]) -> object:
    """Return the atoms of pixels as tokens where the given ones are those of tokens as pixels."""
    batch, channels, height, width = image
    pixels = height * width
    expected = merged([(batch, channels * pixels), (channels, 1), (pixels, channels)])
    return (
        merged([(batch, channels * pixels), (pixels, 1), (channels, pixels)]) if atoms == expected else None
    )


simplify_rearrangement = Rule(Reshape, _simplify)
simplify_permutation = Rule(Permute, _simplify)


@rule(Linear)
def move_behind_linear(graph: Rewriter, linear: Linear) -> bool:
    """Multiply the tokens where they lie; those that are pixels by a convolution."""
    form = token_form(graph, linear.input)
    if form is None or linear.residual is not None:
        return False
    moved = new_moved_value(graph, form, linear.output)
    if form.image:
        weight = linear.weight[:, :, None, None]
        graph.append(
            Conv(form.source, moved, weight, linear.bias, activation=linear.activation, name=linear.name)
        )
    else:
        graph.append(replace(linear, input=form.source, output=moved))
    add_moved(graph, form, moved, linear.output)
    return True


@rule(LayerNorm)
def move_behind_layer_norm(graph: Rewriter, norm: LayerNorm) -> bool:
    """Normalise the tokens where they lie."""
    form = token_form(graph, norm.input) if norm.axis == -1 else None
    if form is None:
        return False
    moved = new_moved_value(graph, form, norm.output)
    graph.append(replace(norm, input=form.source, output=moved, axis=1 if form.image else -1))
    add_moved(graph, form, moved, norm.output)
    return True


@rule(Affine)
def move_behind_affine(graph: Rewriter, affine: Affine) -> bool:
    """Map the tokens where they lie."""
    form = token_form(graph, affine.input)
    if form is None:
        return False
    scale, shift = affine.scale, affine.shift
    features = graph.values[affine.input].shape[-1]
    if affine.axis != -1:
        if np.any(scale != scale[0]) or np.any(shift != shift[0]):
            return False
        scale, shift = (np.full(features, part[0], np.float32) for part in (scale, shift))
    moved = new_moved_value(graph, form, affine.output)
    axis = 1 if len(graph.values[moved].shape) == 4 and form.image else -1
    graph.append(replace(affine, input=form.source, output=moved, scale=scale, shift=shift, axis=axis))
    add_moved(graph, form, moved, affine.output)
    return True


def _move_behind_both(graph: Rewriter, operator: Add | Multiply) -> bool:
    """Add or multiply tokens where they lie, if both sides lie alike."""
    sides = operator.left, operator.right
    if graph.values[sides[0]].shape != graph.values[sides[1]].shape:
        return False
    forms = [token_form(graph, name) for name in sides]
    left, right = forms
    if left is None or right is None or not _lie_alike(graph, left, right):
        return False
    moved = new_moved_value(graph, left, operator.output)
    graph.append(replace(operator, left=left.source, right=right.source, output=moved))
    add_moved(graph, left, moved, operator.output)
    return True


def _lie_alike(graph: Rewriter, one: TokenForm, other: TokenForm) -> bool:
    shapes = graph.values[one.source].shape, graph.values[other.source].shape
    return (one.image, one.tokens) == (other.image, other.tokens) and shapes[0] == shapes[1]


move_behind_sum = Rule(Add, _move_behind_both)
move_behind_product = Rule(Multiply, _move_behind_both)
