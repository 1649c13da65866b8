"""Finding, checking and making a network by its name."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from gpmt.errors import RecipeError, first_line
from gpmt.suggestions import did_you_mean
from gpmt.training.models import libraries, transformers_folder, user_factory
from gpmt.training.models.call import check_fit, example, shown
from gpmt.training.models.cifar_mobilenet import CifarMobileNetV2
from gpmt.training.models.cifar_resnet import CifarResNet
from gpmt.training.models.cifar_resnet_imagenet import STAGES, CifarImageNetResNet
from gpmt.training.models.fastgrnn import FastGRNN
from gpmt.training.models.lenet import LeNet5Caffe
from gpmt.training.models.mobilenet_small import MobileNetSmall
from gpmt.training.models.wide_resnet import WideResNet, check_size

FACTORIES: dict[str, Callable[..., nn.Module]] = {
    "cifar-mobilenetv2": CifarMobileNetV2,
    **{f"cifar-resnet{depth}": partial(CifarImageNetResNet, depth) for depth in STAGES},
    "fastgrnn": FastGRNN,
    "lenet5-caffe": LeNet5Caffe,
    "mobilenet-digits": MobileNetSmall,
    "resnet20": partial(CifarResNet, 20),
    "resnet32": partial(CifarResNet, 32),
    "resnet56": partial(CifarResNet, 56),
}
"""The networks written here; beside them there is ``wrn-D-K`` for every depth D = 6n + 4 and width K."""

SERIES = ("fastgrnn",)
"""The networks that take series (steps, features); the others written here take images."""


@dataclass(frozen=True)
class _Provider:
    """A library or folder that networks come from: ``PREFIX:NAME``."""

    check: Callable[[str], None]
    make: Callable[[str, int, tuple[int, ...]], nn.Module]


PROVIDERS = {
    "hf": _Provider(transformers_folder.check_folder, transformers_folder.make_untrained),
    "timm": _Provider(libraries.check_timm, libraries.make_timm),
    "torchvision": _Provider(libraries.check_torchvision, libraries.make_torchvision),
}
_LIBRARY_SHAPES: dict[str, Callable[[str], tuple[int, ...] | None]] = {
    "timm": libraries.timm_shape,
    "torchvision": libraries.torchvision_shape,
}
_OWN_SHAPES = {"fastgrnn": (128, 9), "lenet5-caffe": (1, 28, 28), "mobilenet-digits": (1, 8, 8)}
"""Shapes of the networks that are not for CIFAR's images."""
_OTHER_NAMES = ("wrn-28-8", "torchvision:NAME", "timm:NAME", "hf:FOLDER", "package.module:factory")


def build(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int, ...],
    inputs: Tensor | Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Return the network `name` for inputs of this shape, such as (channels, height, width), in training mode.

    Weights are fresh, except for ``hf:FOLDER`` where the folder has some, and where the user's factory sets
    them. The network has run once in evaluation mode: on `inputs`, which is one input with a batch dimension,
    or else on `example` of `input_shape`.

    Raises RecipeError when the name is not known (see `check_name`), or when the network does not take such
    inputs or does not return `num_classes` logits for them.
    """
    model = construct(name, num_classes=num_classes, input_shape=input_shape, weights=True)
    try:
        check_fit(model, example(model, input_shape) if inputs is None else inputs, num_classes)
    except ValueError as error:
        raise _does_not_fit(name, error) from error
    return model


def construct(
    name: str, *, num_classes: int, input_shape: tuple[int, ...], weights: bool = False
) -> nn.Module:
    """Return the network `name` without trying it on an input, and with a folder's weights only if `weights`.

    Raises RecipeError when the name is not known or the network cannot be made for these sizes.
    """
    check_name(name)
    prefix, colon, rest = name.partition(":")
    try:
        if not colon:
            return _construct_own(name, num_classes, input_shape)
        if runs_own_code(name):
            return user_factory.make(name, num_classes, input_shape)
        if prefix == "hf" and weights:
            return transformers_folder.make_trained(rest, num_classes)
        return PROVIDERS[prefix].make(rest, num_classes, input_shape)
    except RecipeError:
        raise
    except Exception as error:  # libraries raise what they like
        raise _does_not_fit(name, error) from error


def check_name(name: str) -> str:
    """Return `name` if a network has this name; a module of the user's is imported to find out.

    Raises RecipeError when it does not, with the nearest names or what is missing.
    """
    prefix, colon, rest = name.partition(":")
    if runs_own_code(name):
        user_factory.find_factory(name)
    elif colon:
        PROVIDERS[prefix].check(rest)
    elif size := _wide_resnet_size(name):
        try:
            check_size(*size)
        except ValueError as error:
            raise RecipeError(f"model is {name}, which is not a network: {error}") from error
    elif name not in FACTORIES:
        raise RecipeError(
            f"model is {name}, which is not known; {did_you_mean(name, [*FACTORIES, *_OTHER_NAMES])}"
        )
    return name


def runs_own_code(name: str) -> bool:
    """Whether `name` is a ``package.module:factory``, so that looking it up runs code of the user's."""
    prefix, colon, _ = name.partition(":")
    return bool(colon) and prefix not in PROVIDERS


def text_length(name: str) -> int | None:
    """Return how many tokens a text classifier takes by default, None of any other network."""
    prefix, _, rest = name.partition(":")
    return transformers_folder.text_length(rest) if prefix == "hf" else None


def usual_shape(name: str) -> tuple[int, ...] | None:
    """Return the shape of the inputs that a network is made for, None where it is not known.

    (tokens,) for a text classifier; for the networks written here that of the data they were published on; for those
    of torchvision and timm that of their published weights.

    >>> usual_shape("lenet5-caffe"), usual_shape("wrn-28-8")
    ((1, 28, 28), (3, 32, 32))
    """
    prefix, colon, rest = name.partition(":")
    if length := text_length(name):
        return (length,)
    if prefix in _LIBRARY_SHAPES and colon:
        return _LIBRARY_SHAPES[prefix](rest)
    if not colon and (name in FACTORIES or _wide_resnet_size(name)):
        return _OWN_SHAPES.get(name, (3, 32, 32))
    return None


def _construct_own(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    dimensions, taken = (
        (2, "series (steps, features)") if name in SERIES else (3, "images (channels, height, width)")
    )
    if len(input_shape) != dimensions:
        raise ValueError(f"it takes {taken}, not inputs of shape {shown(input_shape)}")
    size = _wide_resnet_size(name)
    factory = partial(WideResNet, *size) if size else FACTORIES[name]
    return factory(num_classes=num_classes, input_shape=input_shape)


def _wide_resnet_size(name: str) -> tuple[int, int] | None:
    """Depth and width of ``wrn-D-K``."""
    match = re.fullmatch(r"wrn-(\d+)-(\d+)", name)
    return (int(match[1]), int(match[2])) if match else None


def _does_not_fit(name: str, error: Exception) -> RecipeError:
    return RecipeError(f"model is {name}, which does not fit the data: {first_line(error)}")
