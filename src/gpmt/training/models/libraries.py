"""The networks of torchvision and timm."""

from importlib import import_module
from types import ModuleType

from torch import nn

from gpmt.errors import RecipeError
from gpmt.suggestions import did_you_mean


def library(name: str) -> ModuleType:
    """Import a package that not everyone has; raise RecipeError with the way to install it where it is missing."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise RecipeError(f"{name} is not installed; pip install 'gpmt[train]' brings it") from None


def check_torchvision(name: str) -> None:
    """Raise RecipeError unless torchvision has a classifier of this name, of images or of videos.

    Its other networks are left out, also because making them downloads a backbone.
    """
    models = library("torchvision").models
    _check("torchvision", name, [*models.list_models(models), *models.list_models(models.video)])


def make_torchvision(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the network as torchvision makes it, without weights."""
    if input_shape[0] != 3:
        raise ValueError(f"torchvision's networks take 3 channels, not {input_shape[0]}")
    model: nn.Module = library("torchvision").models.get_model(name, weights=None, num_classes=num_classes)
    return model


def check_timm(name: str) -> None:
    """Raise RecipeError unless timm has a network of this name."""
    _check("timm", name, library("timm").list_models())


def make_timm(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the network as timm makes it, without weights, for as many channels as the images have."""
    model: nn.Module = library("timm").create_model(
        name, pretrained=False, num_classes=num_classes, in_chans=input_shape[0]
    )
    return model


def _check(prefix: str, name: str, known: list[str]) -> None:
    if name not in known:
        nearest = did_you_mean(f"{prefix}:{name}", [f"{prefix}:{other}" for other in known])
        raise RecipeError(f"model is {prefix}:{name}, which is not known; {nearest}")
