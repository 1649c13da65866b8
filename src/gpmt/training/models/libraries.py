"""The networks of torchvision and timm."""

from torch import nn

from gpmt.errors import RecipeError
from gpmt.extras import import_extra
from gpmt.suggestions import did_you_mean

_INIT_WEIGHTS = ("googlenet", "inception_v3")
"""Networks that initialise their weights by default, but warn unless `init_weights` is given."""


def check_torchvision(name: str) -> None:
    """Raise RecipeError unless torchvision has a classifier of this name, of images or of videos.

    Its other networks are left out: they are not classifiers, and making them downloads a backbone.
    """
    models = import_extra("torchvision", RecipeError).models
    _check("torchvision", name, [*models.list_models(models), *models.list_models(models.video)])


def make_torchvision(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the network as torchvision makes it, without weights."""
    if input_shape[0] != 3:
        raise ValueError(f"torchvision's networks take 3 channels, not {input_shape[0]}")
    models = import_extra("torchvision", RecipeError).models
    options = {"init_weights": True} if name in _INIT_WEIGHTS else {}
    model: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return model


def check_timm(name: str) -> None:
    """Raise RecipeError unless timm has a network of this name."""
    _check("timm", name, import_extra("timm", RecipeError).list_models())


def make_timm(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return the network as timm makes it, without weights, for as many channels as the images have."""
    model: nn.Module = import_extra("timm", RecipeError).create_model(
        name, pretrained=False, num_classes=num_classes, in_chans=input_shape[0]
    )
    return model


def torchvision_shape(name: str) -> tuple[int, ...] | None:
    """Return the input shape of a network's published weights; None of a network of videos, whose lengths differ."""
    models = import_extra("torchvision", RecipeError).models
    if name in models.list_models(models.video):
        return None
    [size] = models.get_model_weights(name).DEFAULT.transforms().crop_size
    return (3, size, size)


def timm_shape(name: str) -> tuple[int, ...] | None:
    """Return the input shape of a network's published weights, None where it has no fixed one."""
    config = import_extra("timm", RecipeError).get_pretrained_cfg(name)
    return tuple(config.input_size) if config is not None and config.input_size else None


def _check(prefix: str, name: str, known: list[str]) -> None:
    if name not in known:
        nearest = did_you_mean(f"{prefix}:{name}", [f"{prefix}:{other}" for other in known])
        raise RecipeError(f"model is {prefix}:{name}, which is not known; {nearest}")
