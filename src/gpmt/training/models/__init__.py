"""Networks by name: those written here, and those of torchvision under the prefix ``torchvision:``."""

from collections.abc import Callable
from functools import partial

from torch import nn

from gpmt.errors import RecipeError
from gpmt.training.models.cifar_resnet import CifarResNet
from gpmt.training.models.lenet import LeNet5Caffe
from gpmt.training.models.mobilenet_small import MobileNetSmall
from gpmt.training.names import did_you_mean

FACTORIES: dict[str, Callable[..., nn.Module]] = {
    "lenet5-caffe": LeNet5Caffe,
    "mobilenet-digits": MobileNetSmall,
    "resnet20": partial(CifarResNet, 20),
    "resnet32": partial(CifarResNet, 32),
    "resnet56": partial(CifarResNet, 56),
}


def build(name: str, *, num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Return the freshly initialised network `name` for images [channels, height, width].

    Raises RecipeError when the name is not known, with the names nearest to it, or when the network
    cannot take images of this shape.
    """
    check_name(name)
    try:
        if name.startswith("torchvision:"):
            return _torchvision(name.removeprefix("torchvision:"), num_classes, input_shape)
        return FACTORIES[name](num_classes=num_classes, input_shape=input_shape)
    except ValueError as error:
        raise RecipeError(f"model is {name}, which does not fit the data: {error}") from error


def check_name(name: str) -> str:
    """Return `name` if `build` knows it; raise RecipeError with the nearest names if not."""
    if name.startswith("torchvision:"):
        from torchvision.models import list_models

        known = [f"torchvision:{model}" for model in list_models()]
    else:
        known = [*FACTORIES, "torchvision:<name>"]
    if name not in known:
        raise RecipeError(f"model is {name}, which is not known; {did_you_mean(name, known)}")
    return name


def _torchvision(name: str, num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    from torchvision.models import get_model

    if input_shape[0] != 3:
        raise ValueError(f"torchvision's networks take 3 channels, not {input_shape[0]}")
    model: nn.Module = get_model(name, weights=None, num_classes=num_classes)
    return model
