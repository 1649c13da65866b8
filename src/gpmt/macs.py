"""Multiply-accumulates (MACs) of each prunable tensor in one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import find_scope
from gpmt.errors import GpmtError, first_line
from gpmt.model_tools import keeping_modes, moved, unwrap
from gpmt.torch_private import ConvNd, ConvTransposeNd, has_one_projection


def count_macs(
    model: nn.Module,
    example: Sequence[int] | Tensor | Mapping[str, Tensor],
    *,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, int | None]:
    """Count the MACs of every prunable tensor, with all its weights, for one input.

    One multiply-accumulate for each weight at each position where it is applied: a convolution applies its
    weights at every output position (padding included, as is usual), a transposed one at every input position, a
    linear layer at every vector of its input, a recurrent one at every time step, attention's projections
    at every query, key or value. Products of activations with one another, biases and norms are not counted.
    A tensor used several times counts each time. None: the layer did not run, or is of a kind unknown here.

    `example` is the shape of an input without the batch dimension, which zeros stand for, or a batch itself: a
    tensor, or tensors that the model takes by keyword, as text classifiers do. A batch of one gives the MACs of
    one input. The model runs once on it (moved to its own device and, where floating, dtype), in evaluation mode
    and without gradients; hooks and mode are as before afterwards. `scope` and `exclude` are those of `find_scope`.

    Raises `GpmtError` if the model cannot run on such an input, and `ScopeError` as `find_scope` does.

    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 4 * 4, 10))
    >>> count_macs(net, (3, 4, 4))
    {'0.weight': 3456, '2.weight': 1280}
    """
    model = unwrap(model)
    found = find_scope(model, scope=scope, exclude=exclude)
    names = {id(tensor): name for name, tensor in found.tensors.items()}
    counts: dict[str, int | None] = dict.fromkeys(found.tensors)

    def hook(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        for weight, macs in _applied(module, args, kwargs, output):
            name = names.get(id(weight))
            if name is not None:
                counts[name] = (counts[name] or 0) + macs

    args, kwargs = _arguments(example, next(iter(found.tensors.values())))
    handles = [module.register_forward_hook(hook, with_kwargs=True) for module in model.modules()]
    try:
        with keeping_modes(model), torch.no_grad():
            model.eval()(*args, **kwargs)
    except Exception as error:  # the network is anyone's code
        shape = ", ".join("x".join(map(str, tensor.shape[1:])) for tensor in (*args, *kwargs.values()))
        raise GpmtError(
            f"the network does not run on an input of shape {shape} ({first_line(error)}); "
            "give the shape it was made for"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return counts


def sparse_macs(macs: int, *, numel: int, kept: int) -> int:
    """Return the MACs of a tensor when `kept` of its `numel` weights are not zero.

    >>> sparse_macs(3456, numel=216, kept=20)
    320
    """
    return macs * kept // numel


def _arguments(
    example: Sequence[int] | Tensor | Mapping[str, Tensor], like: Tensor
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return an example as arguments of the model, on the device and in the dtype of one of its tensors."""
    if isinstance(example, Mapping):
        return [], moved(example, like)
    if not isinstance(example, Tensor):
        example = torch.zeros(1, *example, device="cpu")
    return [moved(example, like)], {}


def _applied(module: nn.Module, args: Any, kwargs: Any, output: Any) -> list[tuple[Tensor, int]]:
    """Pair the weights of one layer with the MACs of this call: numel times the positions it is applied at."""
    first = args[0] if args else None
    if isinstance(module, ConvTransposeNd) and isinstance(first, Tensor):
        return [_at(module.weight, first.numel() // module.in_channels)]
    if isinstance(module, ConvNd):
        return [_at(module.weight, output.numel() // module.out_channels)]
    if isinstance(module, nn.Linear | nn.Bilinear):
        return [_at(module.weight, output.numel() // module.out_features)]
    if type(module).__name__ == "Conv1D" and isinstance(weight := getattr(module, "weight", None), Tensor):
        return [_at(weight, output.numel() // weight.shape[1])]
    if isinstance(module, nn.MultiheadAttention):
        given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
        return _attention(
            module, *(given[name].numel() // given[name].shape[-1] for name in ("query", "key", "value"))
        )
    if isinstance(module, nn.RNNBase | nn.RNNCellBase) and first is not None:
        sequence = first.data if isinstance(first, nn.utils.rnn.PackedSequence) else first
        weights = module.named_parameters(recurse=False)
        steps = sequence.numel() // module.input_size
        return [_at(weight, steps) for name, weight in weights if name.startswith("weight_")]
    return []


def _at(weight: Tensor, positions: int) -> tuple[Tensor, int]:
    return weight, weight.numel() * positions


def _attention(
    module: nn.MultiheadAttention, queries: int, keys: int, values: int
) -> list[tuple[Tensor, int]]:
    # The output projection is applied by the attention itself and never called as a layer.
    applied = [_at(module.out_proj.weight, queries)]
    if has_one_projection(module):
        third = module.in_proj_weight.numel() // 3
        return [*applied, (module.in_proj_weight, third * (queries + keys + values))]
    separate = ((module.q_proj_weight, queries), (module.k_proj_weight, keys), (module.v_proj_weight, values))
    return [*applied, *(_at(weight, positions) for weight, positions in separate)]
