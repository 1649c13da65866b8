"""Running averages of a model, and where wrappers hold them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from gpmt.errors import MaskError
from gpmt.model_tools import unwrap


def average_of(prunable: Mapping[str, Tensor], average: nn.Module) -> nn.Module:
    """Return the module that has all prunable tensors, by name and shape: `average`, or one it holds as `module`.

    Raises `MaskError` if there is none.
    """
    shapes = {name: weight.shape for name, weight in prunable.items()}
    for module in _nested(average):
        parameters = module.named_parameters(remove_duplicate=False)
        if shapes.items() <= {name: weight.shape for name, weight in parameters}.items():
            return module
    raise MaskError(
        f"{type(average).__name__} is not an average of the model, because it lacks some of its "
        f"{len(shapes)} prunable tensors; make it from the model that the Pruner has"
    )


def _nested(average: nn.Module) -> Iterator[nn.Module]:
    """Yield a module and those that it and its like hold as `module`, outermost first."""
    module: object = average
    while isinstance(module, nn.Module):
        module = unwrap(module)
        yield module
        module = getattr(module, "module", None)
