"""SynFlow: the share of a weight in all paths from input to output; it needs no data."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gpmt.calibration.batches import calibrating, each_batch, run
from gpmt.calibration.gradients import differentiated, warn_of_zeros
from gpmt.calibration.prunable import prunable
from gpmt.core.patterns import Patterns
from gpmt.core.scope.scope import Scope
from gpmt.errors import ScoresError, first_line
from gpmt.model_tools import logits_of
from gpmt.torch_private import tree_leaves, tree_map_only

_ROUNDING = 1e-14
"""The share of all flow that errors of float64 may make up."""


def synflow(
    model: nn.Module,
    example: Sequence[int] | Tensor | Mapping[str, Any],
    *,
    scope: Patterns | None = None,
    exclude: Patterns | None = (),
) -> dict[str, Tensor]:
    """Score every weight by |w| · ∂R/∂|w|, with R the sum of the outputs for an input of ones.

    From Tanaka et al. 2020 (arXiv 2006.05467, section 6). R is taken of a copy of the network in float64 and
    evaluation mode, in which all parameters and buffers have their absolute values and the running means are zero,
    so that nothing cancels: R is the sum over all paths of the products of their |w|, and a score is what the paths
    through the weight add to it. No data is needed, and the network itself stays as it is.

    The scores of the weights into a unit and out of it have the same sum, so those of large layers are small. Pruned
    at once by them, large layers are emptied. The method prunes a little, scores what is left, and goes on; in round
    i of n the share that is kept is ρ^(i/n), for a final share ρ (n = 100 in the paper)::

        for i in range(1, 101):
            gpmt.prune_(model, sparsity=1 - density ** (i / 100), scores=lambda net: gpmt.scores.synflow(net, shape))

    It is for networks whose outputs grow with their weights: convolutions, linear layers, batch norms, ReLU and
    pooling. Layer norms, attention and activations that saturate are refused where they show.

    Args:
        model: the network, also inside wrappers such as `DistributedDataParallel`.
        example: the shape of one input, without the batch dimension; or an input, or several by name, whose
            floating tensors are replaced by ones.
        scope: patterns that choose the tensors, as in `gpmt.find_scope`.
        exclude: patterns of tensors to leave out.

    Returns:
        name -> scores in the shape of the weight, float64, on its device.

    Raises:
        CalibrationError: the network does not run on such an input.
        ScoresError: not a network, one that cannot be copied, a weight that is computed from others
            (weight_norm), or scores that are negative, all zero, NaN or infinite.
        ScopeError, WeightsError: as from `gpmt.find_scope`; weights without data.

    >>> net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    >>> _ = net[0].weight.data.copy_(torch.tensor([[2.0, -1.0]])), net[1].weight.data.fill_(-3.0)
    >>> synflow(net, (2,))
    {'0.weight': tensor([[6., 3.]], dtype=torch.float64), '1.weight': tensor([[9.]], dtype=torch.float64)}
    """
    network, found = prunable(model, scope, exclude)
    if found.effective:
        raise ScoresError(
            f"{next(iter(found.effective))} is reparametrised, and SynFlow is defined for plain weights only; make "
            "it plain, or exclude it"
        )
    positive = _positive(network)
    named = dict(positive.named_parameters(remove_duplicate=False))
    copies = {name: named[name] for name in found.tensors}
    with calibrating(positive, gradients=True), differentiated(copies):
        [batch] = each_batch(positive, [_ones(example)])
        output = logits_of(run(positive, batch))
        leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.requires_grad]
        if not leaves:
            raise ScoresError(
                f"the output of {type(network).__name__} does not depend on its weights, so SynFlow cannot score them"
            )
        flow = torch.stack([leaf.sum() for leaf in leaves]).sum()
        gradients = torch.autograd.grad(flow, tuple(copies.values()), allow_unused=True)
    scores = {}
    for (name, weight), gradient in zip(copies.items(), gradients, strict=True):
        score = torch.zeros_like(weight) if gradient is None else gradient * weight
        scores[name] = score.detach()
    _check(scores, found, float(flow.detach()))
    return scores


@torch.no_grad()
def _positive(network: nn.Module) -> nn.Module:
    """Return a copy in float64 in which nothing is negative."""
    try:
        positive = copy.deepcopy(network).to(torch.float64)
    except Exception as error:  # the network is anyone's code
        raise ScoresError(
            f"{type(network).__name__} cannot be copied to float64, which SynFlow needs ({first_line(error)})"
        ) from error
    for name, tensor in (*positive.named_parameters(), *positive.named_buffers()):
        if name.rpartition(".")[2] == "running_mean":  # of batch norms, also frozen ones
            tensor.zero_()
        elif tensor.is_floating_point():
            tensor.abs_()
    return positive


def _ones(example: Sequence[int] | Tensor | Mapping[str, Any]) -> Any:
    if isinstance(example, Tensor | Mapping):
        given = dict(example) if isinstance(example, Mapping) else example
        return tree_map_only(
            Tensor, lambda tensor: torch.ones_like(tensor) if tensor.is_floating_point() else tensor, given
        )
    if not isinstance(example, Sequence) or not all(isinstance(size, int) and size > 0 for size in example):
        raise ScoresError(
            f"the example is {example!r}, but must be the shape of an input, such as (3, 32, 32), a tensor, or a dict"
        )
    return torch.ones(1, *example, device="cpu")


def _check(scores: Mapping[str, Tensor], found: Scope, flow: float) -> None:
    for name, score in scores.items():
        if not bool(torch.isfinite(score).all()):
            raise ScoresError(
                f"the SynFlow scores of {name} are beyond float64, since the paths are too many or their weights too "
                "large; scale the weights down, or use another score"
            )
        # What cancels leaves rounding errors, which may all be positive.
        if bool((score < 0).any()) or 0 < float(score.sum()) < _ROUNDING * flow:
            raise ScoresError(
                f"the outputs do not grow with every weight of {name}, as with layer norms, softmax and attention, "
                "for which SynFlow is not defined; use another score, such as snip"
            )
    if not any(bool(score.any()) for score in scores.values()):
        raise ScoresError(
            "all SynFlow scores are 0, as where an activation saturates or a layer is empty; use another score, such "
            "as snip"
        )
    warn_of_zeros("no path from input to output passes", scores, found, "look for what is not used")
