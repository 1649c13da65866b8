"""Normalisations by statistics of the value itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpmt.runtime.ir.fields import ARRAY, COUNT, FEATURE_AXIS, FLAG, INPUT, NUMBER, OUTPUT
from gpmt.runtime.ir.operator import Operator, define
from gpmt.runtime.ir.shapes import require, require_last_features
from gpmt.runtime.ir.values import Floats, Shape


@dataclass(frozen=True, eq=False)
class LayerNorm(Operator):
    """output = (input - mean) / √(variance + epsilon) · weight + bias, over the features of each token or pixel.

    Attributes:
        weight, bias: [features].
        epsilon: is added to the variance.
        axis: the features' dimension: -1, the last one, or 1, the channels of images.
        centred: whether the mean is subtracted; otherwise it is RMS norm, whose variance is the mean square.
    """

    input: str
    output: str
    weight: Floats
    bias: Floats
    epsilon: float
    axis: int = -1
    centred: bool = True


def _layer_shape(norm: LayerNorm, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    source = shapes[0]
    require(len(source) == 4 or (len(source) > 1 and norm.axis == -1), "its input is not an image")
    require(norm.weight.shape == norm.bias.shape == (source[norm.axis],), "its weights do not fit its input")
    if norm.axis == -1:
        require_last_features(source)
    require(norm.epsilon >= 0, "its epsilon is negative")
    return source


define(
    LayerNorm,
    fields={
        "input": INPUT,
        "output": OUTPUT,
        "weight": ARRAY,
        "bias": ARRAY,
        "epsilon": NUMBER,
        "axis": FEATURE_AXIS,
        "centred": FLAG,
    },
    shape=_layer_shape,
    reads_images=False,
)


@dataclass(frozen=True, eq=False)
class GroupNorm(Operator):
    """Images normalised over all pixels of each of `groups` equal groups of channels.

    Attributes:
        weight, bias: [channels].
        epsilon: is added to the variance.
    """

    input: str
    output: str
    weight: Floats
    bias: Floats
    epsilon: float
    groups: int


def _group_shape(norm: GroupNorm, shapes: Sequence[Shape], output: Shape, memory: int) -> Shape:
    channels = shapes[0][1]
    require(norm.weight.shape == norm.bias.shape == (channels,), "its weights do not fit its input")
    require(channels % norm.groups == 0, "its groups do not divide its channels")
    require(norm.epsilon >= 0, "its epsilon is negative")
    return shapes[0]


define(
    GroupNorm,
    fields={
        "input": INPUT,
        "output": OUTPUT,
        "weight": ARRAY,
        "bias": ARRAY,
        "epsilon": NUMBER,
        "groups": COUNT,
    },
    shape=_group_shape,
)
