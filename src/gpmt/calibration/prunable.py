"""The network that is run, and what of it is scored."""

from __future__ import annotations

from torch import nn

from gpmt.core.missing_data import check_has_data
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import Scope, find_scope
from gpmt.errors import ScoresError
from gpmt.model_tools import unwrap


def prunable(model: object, scope: Patterns | None, exclude: Patterns | None) -> tuple[nn.Module, Scope]:
    """Return a network without its wrappers, and its prunable tensors.

    Raises `ScoresError` for what is not a network, `ScopeError` as `find_scope`, `WeightsError` for missing data.

    >>> network, scope = prunable(nn.DataParallel(nn.Linear(2, 2)), None, ())
    >>> type(network).__name__, list(scope.tensors)
    ('Linear', ['weight'])
    """
    if not isinstance(model, nn.Module):
        raise ScoresError(
            f"these scores run the network, but were given an object of type {type(model).__name__}; give a module"
        )
    network = unwrap(model)
    found = find_scope(network, scope=scope, exclude=exclude)
    check_has_data(found.tensors)
    return network, found
