"""A user's own networks: ``package.module:factory``."""

import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from torch import nn

from gpmt.errors import RecipeError, first_line
from gpmt.suggestions import did_you_mean


def find_factory(name: str) -> Callable[..., Any]:
    """Import ``package.module:factory``, installed or in the current folder; this runs the module's code.

    Raises RecipeError when the module is not there or cannot be imported, or has no such factory.
    """
    module_name, _, attribute = name.partition(":")
    try:
        with _importing_from_here():
            module = import_module(module_name)
    except Exception as error:  # the module is anyone's code
        if isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}."):
            known = did_you_mean(module_name, ["hf:FOLDER", "timm:NAME", "torchvision:NAME"])
            raise RecipeError(
                f"model is {name}, but there is no module {error.name}, installed or in {os.getcwd()}; {known}"
            ) from None
        raise RecipeError(
            f"model is {name}, but importing {module_name} raised {_shown(error)}; correct the module"
        ) from error
    factory: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(factory):
        package = module_name.split(".")[0]
        made_there = [
            key for key, value in vars(module).items() if callable(value) and _made_in(value, package)
        ]
        nearest = did_you_mean(attribute, made_there) if made_there else "it has no callables"
        raise RecipeError(f"model is {name}, but {module_name} has no factory {attribute!r}; {nearest}")
    return factory


def make(name: str, num_classes: int, input_shape: tuple[int, ...]) -> nn.Module:
    """Return what the factory makes, given those of `num_classes` and `input_shape` that its signature names.

    Raises RecipeError when it raises, or does not return an `nn.Module`.
    """
    factory = find_factory(name)
    given: dict[str, Any] = {"num_classes": num_classes, "input_shape": input_shape}
    try:
        named = inspect.signature(factory).parameters
        with _importing_from_here():
            model = factory(**{key: value for key, value in given.items() if key in named})
    except Exception as error:  # the factory is anyone's code too
        raise RecipeError(f"model is {name}, which raised {_shown(error)}; correct the factory") from error
    if not isinstance(model, nn.Module):
        raise RecipeError(f"model is {name}, which returned a {type(model).__name__}; return an nn.Module")
    return model


@contextmanager
def _importing_from_here() -> Iterator[None]:
    """Let modules of the current folder be imported first, as ``python -m`` does, inside the block alone."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _made_in(value: object, package: str) -> bool:
    return str(getattr(value, "__module__", "")).split(".")[0] == package


def _shown(error: Exception) -> str:
    name = type(error).__name__
    return f"{name}: {first_line(error)}" if str(error).strip() else name
